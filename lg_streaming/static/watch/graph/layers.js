// Layers of a directed graph: back edges, ranks, dummy items for long edges, and their order within each rank. Pure; the
// same graph always gives the same layers.
//
// Method: Sugiyama, Tagawa, Toda, "Methods for Visual Understanding of Hierarchical System Structures", 1981.
//
// Nodes have even ranks. Each link crosses the odd ranks between them, where its label has a place.

const SWEEPS = 12;
const BUDGET = 40_000; // items to sort in all sweeps: a graph of thousands of nodes gets fewer
const PATIENCE = 4; // sweeps without an improvement before the order is taken as it is

// Returns {ranks, chains}: ranks[r] lists items in their order, {node} or {link, isLabel}, with `up` and `down` neighbours. A
// chain has the items of a link from its upper to its lower end. `links` are {source, target} of nodes by index.
export function layersOf(count, links) {
  const { isBack, order } = orient(count, links);
  const upper = (index) => (isBack[index] ? links[index].target : links[index].source);
  const lower = (index) => (isBack[index] ? links[index].source : links[index].target);
  const rank = ranksOf(count, links, upper, lower);
  const items = Array.from({ length: count }, (_, node) => ({ node, rank: rank[node], up: [], down: [], place: 0 }));
  const ranks = [];
  const put = (item) => (ranks[item.rank] ??= []).push(item);
  for (const node of order) put(items[node]);
  const chains = links.map(({ source, target }, link) => {
    if (source === target) return null;
    const chain = [items[upper(link)]];
    for (let at = rank[upper(link)] + 1; at < rank[lower(link)]; at += 1) {
      const dummy = { link, isLabel: at === (isBack[link] ? rank[lower(link)] - 1 : rank[upper(link)] + 1), rank: at, up: [], down: [], place: 0 };
      put(dummy);
      chain.push(dummy);
    }
    chain.push(items[lower(link)]);
    for (let at = 1; at < chain.length; at += 1) {
      chain[at - 1].down.push(chain[at]);
      chain[at].up.push(chain[at - 1]);
    }
    return chain;
  });
  const rows = Array.from(ranks, (row) => row ?? []);
  arrange(rows);
  return { ranks: rows, chains, isBack };
}

// Finds the links that lead back, by a search in depth from the sources; `order` has the nodes as the search meets them.
function orient(count, links) {
  const out = Array.from({ length: count }, () => []);
  const isEntered = new Array(count).fill(false);
  links.forEach(({ source, target }, index) => {
    if (source === target) return;
    out[source].push(index);
    isEntered[target] = true;
  });
  const nodes = [...out.keys()];
  const roots = [...nodes.filter((node) => !isEntered[node]), ...nodes.filter((node) => isEntered[node])];
  const isBack = new Array(links.length).fill(false);
  const state = new Uint8Array(count); // 0: not met, 1: on the path, 2: done
  const order = [];
  for (const root of roots) {
    if (state[root] !== 0) continue;
    const path = [[root, 0]];
    state[root] = 1;
    order.push(root);
    while (path.length > 0) {
      const top = path.at(-1);
      const link = out[top[0]][top[1]];
      if (link === undefined) {
        state[top[0]] = 2;
        path.pop();
        continue;
      }
      top[1] += 1;
      const { target } = links[link];
      if (state[target] === 1) isBack[link] = true;
      if (state[target] !== 0) continue;
      state[target] = 1;
      order.push(target);
      path.push([target, 0]);
    }
  }
  return { isBack, order };
}

// The longest path from a source decides the rank.
function ranksOf(count, links, upper, lower) {
  const out = Array.from({ length: count }, () => []);
  const missing = new Array(count).fill(0);
  links.forEach(({ source, target }, index) => {
    if (source === target) return;
    out[upper(index)].push(lower(index));
    missing[lower(index)] += 1;
  });
  const isSource = missing.map((number) => number === 0);
  const rank = new Array(count).fill(0);
  const ready = [...rank.keys()].filter((node) => isSource[node]);
  for (const node of ready) {
    for (const next of out[node]) {
      rank[next] = Math.max(rank[next], rank[node] + 2);
      missing[next] -= 1;
      if (missing[next] === 0) ready.push(next);
    }
  }
  // The rank of a second source is right before the nodes that it leads to.
  for (const node of rank.keys()) {
    if (isSource[node] && out[node].length > 0) rank[node] = Math.max(0, Math.min(...out[node].map((next) => rank[next])) - 2);
  }
  const least = Math.min(...rank);
  return rank.map((value) => value - least);
}

// Orders each rank by the mean place of the neighbours, down and up in turn; the order with the fewest crossings is kept.
function arrange(ranks) {
  number(ranks);
  let best = ranks.map((row) => [...row]);
  let fewest = crossings(ranks);
  const most = Math.max(2, Math.min(SWEEPS, BUDGET / best.reduce((sum, { length }) => sum + length, 0)));
  for (let sweep = 0, idle = 0; sweep < most && idle < PATIENCE && fewest > 0; sweep += 1) {
    const isDown = sweep % 2 === 0;
    for (const row of isDown ? ranks : [...ranks].reverse()) sortByNeighbours(row, isDown ? "up" : "down");
    const found = crossings(ranks);
    idle += 1;
    if (found >= fewest) continue;
    idle = 0;
    fewest = found;
    best = ranks.map((row) => [...row]);
  }
  best.forEach((row, index) => (ranks[index] = row));
  number(ranks);
}

function number(ranks) {
  for (const row of ranks) row.forEach((item, index) => (item.place = index));
}

function sortByNeighbours(row, side) {
  for (const item of row) item.wish = item[side].length > 0 ? mean(item[side], ({ place }) => place) : item.place;
  row.sort((a, b) => a.wish - b.wish || a.place - b.place);
  row.forEach((item, index) => (item.place = index));
}

// Counts crossings between neighbouring ranks with a Fenwick tree.
function crossings(ranks) {
  let total = 0;
  for (let index = 1; index < ranks.length; index += 1) {
    const size = ranks[index].length;
    const tree = new Int32Array(size + 1);
    let seen = 0;
    for (const item of ranks[index - 1]) {
      for (const { place } of item.down) {
        let notAfter = 0;
        for (let at = place + 1; at > 0; at -= at & -at) notAfter += tree[at];
        total += seen - notAfter;
      }
      for (const { place } of item.down) for (let at = place + 1; at <= size; at += at & -at) tree[at] += 1;
      seen += item.down.length;
    }
  }
  return total;
}

export function mean(values, of) {
  let sum = 0;
  for (const value of values) sum += of(value);
  return sum / values.length;
}
