// Layout of a graph with subgraphs: a subgraph is a box around its nodes, which is laid out first and is then one node
// outside. Pure and deterministic. Nodes overlap neither each other nor the links of others.

import { layersOf, mean } from "./layers.js";

const BESIDE = 24; // pixels between items of a rank
const ALONG = 16; // pixels between ranks
const LABEL_ROOM = 16; // least size of a link's label, also for its count
const LOOP = 34; // room next to a node that leads to itself
const PORT = 16; // pixels between the ends of links at a node
const PADDING = 16; // of a box
const HEAD = 40; // height of a box's title
const ROUNDS = 6;
const BUDGET = 20_000; // items to move in all rounds
const STRAIGHT = 4; // weight of dummy items: long links become straight

// Lays out {nodes: [{id, parent?}], edges: [{source, target}]}, whose edges connect nodes of one box. `sizeOf(node)` returns
// {width, height}, `labelSizeOf(edge)` the size of its label or null.
//
// Returns {width, height, nodes, edges}. `nodes` maps ids to {x, y, width, height, isBox}. `edges` has {points, label: {x, y},
// isBack} for each given edge, in the same order.
export function layout({ nodes, edges }, { direction = "down", sizeOf, labelSizeOf = () => null }) {
  const inside = new Map(); // id of a box, or null -> the nodes in it
  const byId = new Map(nodes.map((node) => [node.id, node]));
  for (const node of nodes) {
    const parent = byId.has(node.parent) ? node.parent : null;
    if (!inside.has(parent)) inside.set(parent, []);
    inside.get(parent).push(node);
  }
  const edgesIn = new Map(); // the same for the indices of edges
  edges.forEach(({ source }, index) => {
    const parent = byId.has(byId.get(source)?.parent) ? byId.get(source).parent : null;
    if (!edgesIn.has(parent)) edgesIn.set(parent, []);
    edgesIn.get(parent).push(index);
  });

  const arranged = new Map(); // box -> its arrangement
  const arrangeBox = (id) => {
    const sizes = new Map(inside.get(id).map((node) => [node.id, inside.has(node.id) ? boxAround(arrangeBox(node.id)) : sizeOf(node)]));
    const links = (edgesIn.get(id) ?? []).map((index) => ({ ...edges[index], index, label: labelSizeOf(edges[index]) }));
    const found = arrange(inside.get(id).map((node) => node.id), links, sizes, direction === "right");
    arranged.set(id, found);
    return found;
  };
  if (nodes.length === 0) return { width: 0, height: 0, nodes: new Map(), edges: [] };
  const { width, height } = arrangeBox(null);

  const placed = { width, height, nodes: new Map(), edges: [] };
  const put = (id, dx, dy) => {
    const found = arranged.get(id);
    for (const [node, rect] of found.rects) {
      const isBox = inside.has(node);
      placed.nodes.set(node, { ...rect, x: rect.x + dx, y: rect.y + dy, isBox });
      if (isBox) put(node, rect.x + dx + PADDING, rect.y + dy + HEAD);
    }
    for (const [index, route] of found.routes) {
      const move = ([x, y]) => [x + dx, y + dy];
      const [x, y] = move(route.label);
      placed.edges[index] = { ...route, points: route.points.map(move), label: { x, y } };
    }
  };
  put(null, 0, 0);
  return placed;
}

function boxAround({ width, height }) {
  return { width: width + 2 * PADDING, height: height + HEAD + PADDING };
}

// Arranges the nodes of one box. Inside, ranks go down: for a layout to the right, width and height are exchanged.
function arrange(ids, links, sizes, isRight) {
  const turn = ({ width, height }) => (isRight ? { across: height, along: width } : { across: width, along: height });
  const indexOf = new Map(ids.map((id, index) => [id, index]));
  const { ranks, chains, isBack } = layersOf(ids.length, links.map(({ source, target }) => ({ source: indexOf.get(source), target: indexOf.get(target) })));
  const loops = new Set(links.filter(({ source, target }) => source === target).map(({ source }) => indexOf.get(source)));
  for (const item of ranks.flat()) {
    if (item.node !== undefined) {
      Object.assign(item, turn(sizes.get(ids[item.node])));
      item.room = item.across + (loops.has(item.node) ? 2 * LOOP : 0);
    } else {
      const label = item.isLabel ? turn(links[item.link].label ?? { width: LABEL_ROOM, height: LABEL_ROOM }) : { across: 2, along: 0 };
      Object.assign(item, label, { room: label.across });
    }
  }
  const across = placeAcross(ranks);
  const along = placeAlong(ranks);
  const toPoint = (x, y) => (isRight ? [y, x] : [x, y]);
  const rects = new Map(ranks.flat().filter(({ node }) => node !== undefined).map((item) => {
    const [x, y] = toPoint(item.at - item.across / 2, item.from + (item.band - item.along) / 2);
    return [ids[item.node], { x, y, ...sizes.get(ids[item.node]) }];
  }));
  const ports = new Map(); // item -> where its links end, by side
  const routes = links.map(({ index }, link) => {
    const chain = chains[link];
    const item = chain ? null : ranks.flat().find(({ node }) => node === indexOf.get(links[link].source));
    const route = chain ? routeOf(chain, isBack[link], ports) : loopOf(item);
    return [index, { isBack: isBack[link], points: route.points.map((point) => toPoint(...point)), label: toPoint(...route.label) }];
  });
  const size = isRight ? { width: along, height: across } : { width: across, height: along };
  return { ...size, rects, routes };
}

// Puts the centres of items across: near the mean of their neighbours, with the gaps that their sizes need.
function placeAcross(ranks) {
  for (const row of ranks) {
    let at = 0;
    for (const item of row) {
      item.at = at + item.room / 2;
      at += item.room + BESIDE;
    }
  }
  const rounds = Math.max(2, Math.min(ROUNDS, BUDGET / ranks.reduce((sum, { length }) => sum + length, 0)));
  for (let round = 0; round < rounds; round += 1) {
    for (const row of ranks) settle(row, ({ up }) => up);
    for (const row of [...ranks].reverse()) settle(row, ({ down }) => down);
  }
  for (const row of ranks) settle(row, ({ up, down }) => [...up, ...down]);
  const items = ranks.flat();
  const first = items.reduce((least, { at, room }) => Math.min(least, at - room / 2), Infinity);
  for (const item of items) item.at = Math.ceil(item.at - first);
  return Math.ceil(items.reduce((most, { at, room }) => Math.max(most, at + room / 2), 0));
}

// Moves the items of a rank as near to their neighbours as the gaps allow. The least sum of squares is an isotonic
// regression, by pooling adjacent violators.
function settle(row, neighbours) {
  const pools = [];
  let offset = 0;
  row.forEach((item, index) => {
    if (index > 0) offset += (row[index - 1].room + item.room) / 2 + BESIDE;
    item.offset = offset;
    const near = neighbours(item);
    const wish = (near.length > 0 ? mean(near, ({ at }) => at) : item.at) - offset;
    const weight = near.length === 0 ? 0.1 : item.node === undefined ? STRAIGHT : 1;
    pools.push({ wish, weight, count: 1 });
    while (pools.length > 1 && pools.at(-2).wish > pools.at(-1).wish) {
      const last = pools.pop();
      const before = pools.at(-1);
      before.wish = (before.wish * before.weight + last.wish * last.weight) / (before.weight + last.weight);
      before.weight += last.weight;
      before.count += last.count;
    }
  });
  let index = 0;
  for (const { wish, count } of pools) for (let left = count; left > 0; left -= 1) row[index].at = wish + row[index++].offset;
}

function placeAlong(ranks) {
  let from = 0;
  for (const row of ranks) {
    const band = row.reduce((most, { along }) => Math.max(most, along), 0);
    for (const item of row) Object.assign(item, { from, band });
    from += band + ALONG;
  }
  return Math.max(0, from - ALONG);
}

// A link goes straight through a rank, and bends between ranks.
function routeOf(chain, isBack, ports) {
  const [first, last] = [chain[0], chain.at(-1)];
  const points = [];
  const start = portOf(first, "down", chain[1], ports);
  points.push([start, first.from + (first.band + first.along) / 2], [start, first.from + first.band]);
  for (const item of chain.slice(1, -1)) points.push([item.at, item.from], [item.at, item.from + item.band]);
  const end = portOf(last, "up", chain.at(-2), ports);
  points.push([end, last.from], [end, last.from + (last.band - last.along) / 2]);
  const middle = chain.find(({ isLabel }) => isLabel);
  return { points: isBack ? points.reverse() : points, label: [middle.at, middle.from + middle.band / 2] };
}

// Spreads the ends of links along a node's side, in the order of the items that they come from.
function portOf(item, side, neighbour, ports) {
  if (!ports.has(item)) ports.set(item, {});
  const known = ports.get(item);
  known[side] ??= [...item[side]].sort((a, b) => a.place - b.place);
  const all = known[side];
  const gap = Math.min(PORT, (item.across - 2 * PORT) / Math.max(1, all.length - 1));
  return Math.round(item.at + (all.indexOf(neighbour) - (all.length - 1) / 2) * Math.max(0, gap));
}

function loopOf(item) {
  const side = item.at + item.across / 2;
  const middle = item.from + item.band / 2;
  const reach = Math.min(12, item.along / 3);
  const out = side + LOOP * 0.6;
  return { points: [[side, middle - reach], [out, middle - reach], [out, middle + reach], [side, middle + reach]], label: [out, middle] };
}
