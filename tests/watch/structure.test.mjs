// The graph of recorded runs: edges that were taken, and nodes that only the updates show.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

const { Spans } = await import("../../lg_streaming/static/watch/timeline/spans.js");
const { RunGraph } = await import("../../lg_streaming/static/watch/graph/structure.js");
const { conditionOf, wordsOf } = await import("../../lg_streaming/static/watch/graph/condition.js");

const RUNS = JSON.parse(readFileSync(process.env.RUNS, "utf8"));
const GRAPHS = JSON.parse(readFileSync(process.env.GRAPHS, "utf8")); // name -> the server's answer

const fold = (updates) => updates.reduce((spans, update) => (spans.apply(update), spans), new Spans());
const counts = (graph) => Object.fromEntries([...graph.edges.values()].map(({ source, target, count }) => [`${source} > ${target}`, count]));

function graphOf(name, { isKnown = true } = {}) {
  const spans = fold(RUNS[name]);
  const graph = new RunGraph(isKnown ? GRAPHS[name] : null);
  graph.read(spans);
  return { graph, spans };
}

test("edges are counted as often as the run took them", () => {
  const { graph } = graphOf("journey");
  const { "helper/model > helper/tools": called, ...taken } = counts(graph);
  assert.equal(called, 1);
  assert.deepEqual(Object.fromEntries(Object.entries(taken).filter(([key]) => !key.includes("/"))), {
    "__start__ > flaky": 1, "flaky > plan": 1, "plan > work": 4, "work > draft": 1, "draft > review": 3, "review > draft": 2,
    "review > ask": 1, "ask > team": 1, "team > helper": 1, "helper > last": 1, "last > __end__": 1,
  });
  assert.deepEqual([taken["team/__start__ > team/look"], taken["team/look > team/tell"]], [1, 1]);
  const [again, done] = ["review\ndraft", "review\nask"].map((key) => graph.edges.get(key));
  assert.deepEqual([again.label, again.conditional, done.label, done.conditional], ["again", true, "done", true]);
  assert.deepEqual([...graph.nodes.values()].filter(({ isSeen }) => isSeen), []);
});

test("a node that failed at the end took no edge to the end", () => {
  assert.equal(counts(graphOf("broken").graph)["last > __end__"], 0);
});

test("without a declared graph, nodes and edges are those that were seen", () => {
  const { graph } = graphOf("journey", { isKnown: false });
  const outer = [...graph.nodes.values()].filter(({ parent }) => parent === null).map(({ id }) => id);
  assert.deepEqual(outer, ["flaky", "plan", "work", "draft", "review", "ask", "team", "helper", "last"]);
  const { "plan > work": parallel, "review > draft": again, "team/look > team/tell": inner } = counts(graph);
  assert.deepEqual([parallel, again, inner], [4, 2, 1]);
});

test("reading in pieces gives the same graph as at once", () => {
  for (const [name, updates] of Object.entries(RUNS)) {
    const spans = new Spans();
    const graph = new RunGraph(GRAPHS[name]);
    for (const update of updates) {
      spans.apply(update);
      graph.read(spans);
    }
    assert.deepEqual(counts(graph), counts(graphOf(name).graph), name);
  }
});

test("tasks of a functional graph come as they begin", () => {
  const { graph, spans } = graphOf("functional");
  assert(graph.isFunctional);
  assert.deepEqual([...graph.nodes.keys()].filter((id) => id.endsWith("/shout")), ["shout_thrice/shout"]);
  assert.equal(conditionOf(spans.byPath.get("shout_thrice/shout")).visits, 3);
});

// The graph of a run of these nodes, given as steps.
function graphOfSteps(names, steps, edges) {
  const at = (second) => new Date(1000 * second).toISOString();
  const updates = steps.flatMap((step, index) => ["node_start", "node_complete"].flatMap((type, half) => step.map((name, branch) => ({
    type, data: {}, metadata: { node_id: name, namespace: `${name}:${index}-${branch}`, timestamp: at(2 * index + half) },
  }))));
  const graph = new RunGraph({ nodes: names.map((name) => ({ id: name, name, kind: "node" })), edges });
  graph.read(fold(updates));
  return graph;
}

const edge = (source, target, conditional = false) => ({ source, target, conditional });

test("nodes that begin late, as LangGraph bounds those at a time, belong to the same edge", () => {
  const edges = [edge("plan", "work", true), edge("work", "join"), edge("plan", "other", true)];
  const graph = graphOfSteps(["plan", "work", "join", "other"], [["plan"], ["work"], ["work"], ["work"], ["join"]], edges);
  assert.deepEqual(counts(graph), { "plan > work": 3, "work > join": 1, "plan > other": 0 });
});

test("an edge that the graph does not declare is added as the run takes it", () => {
  const graph = graphOfSteps(["a", "b"], [["a"], ["b"], ["a"]], [edge("a", "b")]);
  assert.deepEqual([...graph.edges.values()].map(({ key, count, isExtra }) => [key, count, isExtra]), [["a\nb", 1, false], ["b\na", 1, true]]);
});

test("a declared edge of an earlier step counts only if the step before does not explain the node", () => {
  const graph = graphOfSteps(["a", "b", "c"], [["a"], ["b"], ["c"]], [edge("a", "c")]);
  assert.deepEqual(counts(graph), { "a > c": 0, "a > b": 1, "b > c": 1 });
});

test("an edge of a router counts only if no plain edge leads from the same step", () => {
  const edges = [edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d", true)];
  const graph = graphOfSteps(["a", "b", "c", "d"], [["a"], ["b", "c"], ["d"]], edges);
  assert.deepEqual(counts(graph), { "a > b": 1, "a > c": 1, "b > d": 1, "c > d": 0 });
});

test("collapsed subgraphs hide what is inside them", () => {
  const { graph } = graphOf("journey");
  assert.deepEqual([...graph.boxes].sort(), ["helper", "team"]);
  const { nodes, edges } = graph.visible(new Set(["team"]));
  assert(!nodes.some(({ parent }) => parent === "team") && nodes.some(({ parent }) => parent === "helper"));
  assert(edges.every(({ source }) => !source.startsWith("team/")));
});

test("edges between nodes of different boxes connect the boxes", () => {
  const nodes = [{ id: "a", name: "a", kind: "node" }, { id: "b:c", name: "c", kind: "node", parent: "b" }, { id: "b", name: "b", kind: "subgraph" }];
  const graph = new RunGraph({ nodes, edges: [{ source: "a", target: "b:c", conditional: true }, { source: "b", target: "b:c", conditional: false }] });
  assert.deepEqual([...graph.edges.values()].map(({ source, target }) => [source, target]), [["a", "b"]]);
});

test("the condition of a node is said in words", () => {
  const visit = (state, step, fields = {}) => ({ state, step, level: "", endedAt: state === "running" ? null : 1, attempt: 1, segments: [{ state }], ...fields });
  const words = (...visits) => wordsOf(conditionOf(visits));
  assert.equal(words(), "not yet");
  assert.equal(words(visit("complete", 1), visit("running", 2), visit("complete", 2)), "1 of 2 running · ×3");
  assert.equal(words(visit("failed", 1), visit("complete", 2)), "complete · ×2");
  assert.equal(words(visit("failed", 2), visit("complete", 2)), "failed · ×2");
  assert.equal(words(visit("failed", 1, { endedAt: null })), "failed, tries again");
  assert.equal(words(visit("running", 1, { attempt: 2, segments: [{ state: "failed" }, { state: "running" }] })), "running · attempt 2");
  assert.equal(words(visit("interrupted", 1)), "waits for a person");
});
