// Properties of the layout of graphs, over graphs by chance.
import assert from "node:assert/strict";
import { test } from "node:test";

import { chance } from "./chance.mjs";

const { layout } = await import("../../lg_streaming/static/watch/graph/layout.js");

const SEEDS = Array.from({ length: 25 }, (_, index) => index + 1);

// A graph with loops, several sources, edges of a node to itself, and boxes in boxes.
function graphOf(seed) {
  const { below, isTrue } = chance(seed);
  const nodes = Array.from({ length: 1 + below(25) }, (_, index) => {
    const parent = index > 2 && isTrue(0.4) ? `n${below(index)}` : undefined;
    return { id: `n${index}`, width: 60 + below(200), height: 20 + below(60), ...(parent && { parent }) };
  });
  const parents = new Map(nodes.map(({ id, parent }) => [id, parent ?? null]));
  const edges = [];
  const known = new Set();
  for (let left = below(50); left > 0; left -= 1) {
    const [source, target] = [nodes[below(nodes.length)].id, nodes[below(nodes.length)].id];
    if (parents.get(source) !== parents.get(target) || known.has(`${source} ${target}`)) continue;
    known.add(`${source} ${target}`);
    edges.push({ source, target, ...(isTrue(0.3) && { label: "x".repeat(1 + below(20)) }) });
  }
  const sizeOf = ({ width, height }) => ({ width, height });
  const labelSizeOf = ({ label }) => (label ? { width: label.length * 7, height: 18 } : null);
  const options = { direction: isTrue(0.5) ? "right" : "down", sizeOf, labelSizeOf };
  return { graph: { nodes, edges }, parents, options };
}

const overlaps = (a, b) => a.x < b.x + b.width && b.x < a.x + a.width && a.y < b.y + b.height && b.y < a.y + a.height;
const contains = (a, b) => a.x <= b.x && a.y <= b.y && a.x + a.width >= b.x + b.width && a.y + a.height >= b.y + b.height;

// Pairs of nodes, none inside the other.
function* pairs({ nodes }, parents) {
  const around = (id) => (id === null ? [] : [id, ...around(parents.get(id))]);
  for (const a of nodes) {
    for (const b of nodes) if (a.id < b.id && !around(a.id).includes(b.id) && !around(b.id).includes(a.id)) yield [a.id, b.id];
  }
}

test("no nodes overlap, and boxes contain their nodes", () => {
  for (const seed of SEEDS) {
    const { graph, parents, options } = graphOf(seed);
    const placed = layout(graph, options);
    for (const [a, b] of pairs(graph, parents)) assert(!overlaps(placed.nodes.get(a), placed.nodes.get(b)), `${seed}: ${a} ${b}`);
    for (const { id, parent } of graph.nodes) {
      const around = parent ? placed.nodes.get(parent) : { x: 0, y: 0, ...placed };
      assert(contains(around, placed.nodes.get(id)), `${seed}: ${id} in ${parent}`);
    }
  }
});

test("a node has its size, unless it is a box", () => {
  for (const seed of SEEDS) {
    const { graph, options } = graphOf(seed);
    const placed = layout(graph, options);
    for (const { id, width, height } of graph.nodes) {
      const rect = placed.nodes.get(id);
      if (!rect.isBox) assert.deepEqual([rect.width, rect.height], [width, height]);
    }
  }
});

test("no edge goes through a node, and its ends are at its nodes", () => {
  for (const seed of SEEDS) {
    const { graph, parents, options } = graphOf(seed);
    const placed = layout(graph, options);
    graph.edges.forEach(({ source, target }, index) => {
      const { points } = placed.edges[index];
      const near = ([x, y], { x: left, y: top, width, height }) => x >= left - 1 && x <= left + width + 1 && y >= top - 1 && y <= top + height + 1;
      assert(near(points[0], placed.nodes.get(source)), `${seed}: ${source} begins ${index}`);
      assert(near(points.at(-1), placed.nodes.get(target)), `${seed}: ${target} ends ${index}`);
      const others = graph.nodes.filter(({ id }) => id !== source && id !== target && parents.get(id) === parents.get(source));
      for (let at = 1; at < points.length; at += 1) {
        for (let part = 0; part <= 4; part += 1) {
          const [x, y] = [0, 1].map((axis) => points[at - 1][axis] + ((points[at][axis] - points[at - 1][axis]) * part) / 4);
          for (const { id } of others) {
            const rect = placed.nodes.get(id);
            const isInside = x > rect.x && x < rect.x + rect.width && y > rect.y && y < rect.y + rect.height;
            assert(!isInside, `${seed}: edge ${index} goes through ${id}`);
          }
        }
      }
    });
  }
});

test("labels overlap neither nodes nor other labels", () => {
  for (const seed of SEEDS) {
    const { graph, parents, options } = graphOf(seed);
    const placed = layout(graph, options);
    const labels = graph.edges.flatMap((edge, index) => {
      const size = options.labelSizeOf(edge);
      if (!size || edge.source === edge.target) return [];
      const { x, y } = placed.edges[index].label;
      return [{ x: x - size.width / 2, y: y - size.height / 2, ...size, box: parents.get(edge.source) }];
    });
    labels.forEach((label, index) => {
      const near = graph.nodes.filter(({ id }) => parents.get(id) === label.box).map(({ id }) => placed.nodes.get(id));
      for (const other of [...near, ...labels.slice(index + 1).filter(({ box }) => box === label.box)]) {
        assert(!overlaps(label, other), `${seed}: ${JSON.stringify([label, other])}`);
      }
    });
  }
});

test("edges lead forward, except for those that close a loop", () => {
  for (const seed of SEEDS) {
    const { graph, options } = graphOf(seed);
    const placed = layout(graph, options);
    graph.edges.forEach(({ source, target }, index) => {
      if (source === target) return;
      const [from, to] = [placed.nodes.get(source), placed.nodes.get(target)];
      const isForward = options.direction === "right" ? from.x + from.width < to.x : from.y + from.height < to.y;
      assert.equal(isForward, !placed.edges[index].isBack, `${seed}: ${source} ${target}`);
    });
  }
  const nodes = ["a", "b", "c"].map((id) => ({ id }));
  const straight = { nodes, edges: [{ source: "a", target: "b" }, { source: "b", target: "c" }, { source: "a", target: "c" }] };
  const sizeOf = () => ({ width: 80, height: 40 });
  assert.deepEqual(layout(straight, { sizeOf }).edges.map(({ isBack }) => isBack), [false, false, false]);
});

test("the same graph has the same layout", () => {
  for (const seed of SEEDS) {
    const { graph, options } = graphOf(seed);
    assert.deepEqual(layout(graph, options), layout(structuredClone(graph), options));
  }
});

test("a plain tree has no crossing and stands under its middle", () => {
  const nodes = ["root", "a", "b", "c", "a1", "a2", "c1"].map((id) => ({ id }));
  const edges = [["root", "c"], ["root", "a"], ["root", "b"], ["a", "a1"], ["a", "a2"], ["c", "c1"]].map(([source, target]) => ({ source, target }));
  const { nodes: at } = layout({ nodes, edges }, { sizeOf: () => ({ width: 100, height: 40 }) });
  const middle = (id) => at.get(id).x + 50;
  assert.equal(Math.sign(middle("a") - middle("c")), Math.sign(middle("a1") - middle("c1")));
  assert(Math.abs(middle("a") - (middle("a1") + middle("a2")) / 2) <= 40);
});

test("200 nodes take less than 100 ms of processor time", () => {
  const { below } = chance(7);
  const nodes = Array.from({ length: 200 }, (_, index) => ({ id: `n${index}` }));
  const edges = [];
  for (let index = 1; index < 200; index += 1) edges.push({ source: `n${Math.max(0, index - 1 - below(8))}`, target: `n${index}` });
  for (let index = 0; index < 60; index += 1) edges.push({ source: `n${below(200)}`, target: `n${below(200)}` });
  const sizeOf = () => ({ width: 172, height: 50 });
  const times = [1, 2, 3, 4, 5].map(() => {
    const before = process.cpuUsage();
    layout({ nodes, edges }, { sizeOf });
    return process.cpuUsage(before).user / 1000;
  });
  assert(Math.min(...times) < 100, times.join(", "));
});

test("a graph without nodes is empty", () => {
  assert.deepEqual(layout({ nodes: [], edges: [] }, { sizeOf: () => ({ width: 1, height: 1 }) }).nodes.size, 0);
});
