// Properties of the spans of a timeline, over recorded runs, whole and with missing updates; and of its axis.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { chance } from "./chance.mjs";

globalThis.requestAnimationFrame = (draw) => draw();
const { Spans, workOf } = await import("../../lg_streaming/static/watch/timeline/spans.js");
const { Axis, sinceText } = await import("../../lg_streaming/static/watch/timeline/axis.js");
const { View } = await import("../../lg_streaming/static/watch/timeline/view.js");
const { listed } = await import("../../lg_streaming/static/watch/timeline/rows.js");
const { RunStore } = await import("../../lg_streaming/static/watch/run/store.js");

const RUNS = JSON.parse(readFileSync(process.env.RUNS, "utf8")); // name -> its updates

const fold = (updates) => updates.reduce((spans, update) => (spans.apply(update), spans), new Spans());
const all = (spans) => (spans.root === null ? [] : listed(spans.root, new Set()));
const plain = (spans) => all(spans).map(({ parent, children, model, ...rest }) => ({ ...rest, parent: parent?.id, model: model?.id }));

// Runs, and runs of which some updates are missing; all of them have an end.
function* histories() {
  for (const [name, updates] of Object.entries(RUNS)) {
    yield [name, updates];
    for (let seed = 1; seed <= 8; seed += 1) {
      const { below, isTrue } = chance(seed);
      yield [`${name} without some, ${seed}`, updates.filter((_, index) => index === updates.length - 1 || isTrue(0.7))];
      yield [`${name} by several clocks, ${seed}`, updates.map((update) => isTrue(0.7) ? update : later(update, below(400) - 200))];
    }
  }
}

// The update as a process has it whose clock is fast or slow.
function later({ metadata, ...update }, milliseconds) {
  return { ...update, metadata: { ...metadata, timestamp: new Date(Date.parse(metadata.timestamp) + milliseconds).toISOString() } };
}

const byTime = ({ startedAt, endedAt }) => startedAt <= endedAt;

test("every span ends with the run, and none takes less than no time", () => {
  for (const [name, updates] of histories()) {
    const spans = fold(updates);
    assert(spans.root.endedAt !== null, name);
    for (const span of all(spans)) {
      assert(span.endedAt !== null && byTime(span), `${name}: ${span.name}`);
      assert(span.segments.length > 0 && span.segments.every((one) => one.endedAt !== null && byTime(one)), `${name}: ${span.name}`);
      assert(!["running", "interrupted"].includes(span.state), `${name}: ${span.name} ${span.state}`);
      if (span.firstTokenAt !== null) assert(span.firstTokenAt >= span.startedAt, name);
    }
  }
});

test("segments do not overlap, and lie within their span", () => {
  for (const [name, updates] of histories()) {
    for (const { segments, startedAt, endedAt } of all(fold(updates))) {
      segments.forEach((one, index) => {
        assert(one.startedAt >= startedAt && one.endedAt <= endedAt, name);
        if (index > 0) assert(segments[index - 1].endedAt <= one.startedAt, name);
      });
    }
  }
});

test("a child lies within its parent, unless it is detached", () => {
  for (const [name, updates] of histories()) {
    for (const { parent, startedAt, endedAt, isDetached, name: span } of all(fold(updates))) {
      if (parent === null || isDetached) continue;
      assert(startedAt >= parent.startedAt && endedAt <= parent.endedAt, `${name}: ${span}`);
    }
  }
});

test("the next run begins anew, and nothing follows the end of a run", () => {
  const updates = RUNS.functional;
  const late = later(updates.find(({ type }) => type === "node_start"), 60_000);
  assert.deepEqual(plain(fold([...RUNS.journey, late])), plain(fold(RUNS.journey)));
  assert.deepEqual(plain(fold([...RUNS.journey, ...updates])), plain(fold(updates)));
});

test("a child is detached if its node has ended before", () => {
  const at = (number, type, metadata, data = {}) => ({ type, data, metadata: { timestamp: new Date(1000 * number).toISOString(), ...metadata } });
  const inNode = { node_id: "a", namespace: "a:1" };
  const spans = fold([
    at(1, "node_start", inNode), at(2, "tool_start", inNode, { tool: "t", tool_call_id: "1" }), at(3, "node_complete", inNode),
    at(5, "tool_complete", inNode, { tool: "t", tool_call_id: "1" }), at(6, "llm_start", inNode, { model: "m" }), at(7, "workflow_complete", {}),
  ]);
  const [, node, tool, model] = all(spans);
  assert.deepEqual([node.endedAt, tool.endedAt, model.endedAt], [3000, 5000, 7000]);
  assert.deepEqual([node.isDetached, tool.isDetached, model.isDetached], [false, true, true]);
});

test("the times of models, tools, waiting and nodes add up to the duration, also before the end", () => {
  const sum = (totals) => Object.values(totals).reduce((one, other) => one + other, 0);
  for (const [name, updates] of histories()) {
    const spans = new Spans();
    for (const update of updates) {
      spans.apply(update);
      const now = spans.root.endedAt ?? spans.newestAt + 1234;
      assert.equal(sum(spans.totals(now)), now - spans.root.startedAt, name);
      for (const { from, to } of spans.idleUntil(now)) assert(from < to && to <= now, name);
    }
  }
});

test("folding at once, after a seek and in pieces gives the same spans", () => {
  for (const [name, updates] of Object.entries(RUNS)) {
    const { below } = chance(3);
    const store = new RunStore();
    for (let next = 0; next < updates.length; ) {
      const size = 1 + below(20);
      store.add(structuredClone(updates.slice(next, next + size)));
      next += size;
      store.use(Spans);
    }
    const expected = plain(fold(updates));
    assert.deepEqual(plain(store.use(Spans)), expected, name);
    for (let tries = 0; tries < 5; tries += 1) {
      const count = 1 + below(updates.length);
      store.seek(count);
      assert.deepEqual(plain(store.use(Spans)), plain(fold(updates.slice(0, count))), name);
    }
    store.seek(null);
    assert.deepEqual(plain(store.use(Spans)), expected, name);
  }
});

test("a run with retries, a question, a tool and an agent has these spans", () => {
  const spans = fold(RUNS.journey);
  const [flaky] = spans.byPath.get("flaky");
  assert.deepEqual(flaky.segments.map(({ state }) => state), ["failed", "failed", "complete"]);
  assert.equal(spans.byPath.get("work").length, 4);
  assert.equal(new Set(spans.byPath.get("work").map(({ step }) => step)).size, 1);
  const [ask] = spans.byPath.get("ask");
  assert.deepEqual(ask.segments.map(({ state }) => state), ["interrupted", "complete"]);
  const [wait] = ask.children;
  assert.deepEqual([wait.kind, wait.state, wait.by, wait.question], ["wait", "answered", "ann", "Go on?"]);
  assert(workOf(ask, 0) <= ask.endedAt - ask.startedAt - (wait.endedAt - wait.startedAt));
  const [model] = spans.byPath.get("helper/model");
  assert.deepEqual([model.parent.name, model.children[0].kind, model.children[0].usage.output_tokens > 0], ["helper", "model", true]);
  const [tools] = spans.byPath.get("helper/tools");
  assert.deepEqual(tools.children.map(({ kind, name, state }) => [kind, name, state]), [["tool", "search", "complete"]]);
  assert.equal(spans.steps, 1 + 1 + 1 + 6 + 1 + 1 + 1 + 1);
});

test("an axis keeps the order of times, and gives them back", () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    const { below } = chance(seed);
    const idle = [];
    let end = 0;
    for (let left = below(6); left > 0; left -= 1) {
      const from = end + below(10 ** (1 + below(5)));
      end = from + 1 + below(10 ** (1 + below(7)));
      idle.push({ from, to: end });
    }
    end += below(5000);
    const axis = new Axis(0, end, idle);
    let last = -1;
    for (let part = 0; part <= 200; part += 1) {
      const time = (axis.end * part) / 200;
      const units = axis.unitsOf(time);
      assert(units >= last && units >= 0 && units <= axis.length + 1e-6, `${seed}`);
      last = units;
      assert(Math.abs(axis.timeOf(units) - time) <= 1e-6 * axis.end, `${seed}: ${time}`);
    }
    const apart = axis.length / (1 + below(20));
    const ticks = axis.ticks(0, axis.length, apart);
    ticks.forEach(({ at }, index) => {
      assert(at >= -1e-6 && at <= axis.length + 1e-6);
      if (index > 0) assert(at - ticks[index - 1].at >= apart * 0.89, `${seed}`);
      assert(!axis.cuts.some((cut) => at > cut.at + 1e-6 && at < cut.at + cut.length - 1e-6), `${seed}`);
    });
  }
});

test("hours of waiting are cut, so that work stays readable; short waits are not", () => {
  const hours = 2 * 3_600_000;
  const axis = new Axis(0, hours + 6_000, [{ from: 3_000, to: 3_000 + hours }]);
  assert.deepEqual(axis.cuts.map(({ from, to }) => [from, to]), [[3_000, 3_000 + hours]]);
  assert(axis.unitsOf(3_000) / axis.length > 0.45);
  assert.equal(axis.ticks(0, axis.length, 500).at(-1).text, "2:00:06.000");
  assert.deepEqual(new Axis(0, 60_000, [{ from: 1_000, to: 7_000 }]).cuts, []);
  assert.deepEqual(new Axis(0, hours, []).cuts, []);
});

test("times since the start are short", () => {
  const texts = [[0, 1], [250, 50], [1500, 500], [61_000, 1_000], [3_600_000, 60_000], [90_061_000, 60_000], [754_250, 250]];
  assert.deepEqual(texts.map(([since, step]) => sinceText(since, step)), ["0", "0.25 s", "1.5 s", "1:01", "1:00:00", "1 d 01:01", "12:34.250"]);
});

test("a view zooms about a place, stays within the whole, and follows it while it is whole", () => {
  const view = new View();
  assert.deepEqual(view.of(10), { from: 0, to: 10 });
  assert.deepEqual(view.of(20), { from: 0, to: 20 });
  view.zoom(100, true, 25);
  const { from, to } = view.of(100);
  assert(Math.abs((25 - from) / (to - from) - 0.25) < 1e-9);
  view.pan(100, 100);
  assert.equal(view.of(100).to, 100);
  view.select(100, 60, 20);
  assert.deepEqual(view.of(100), { from: 20, to: 60 });
  for (let left = 0; left < 10; left += 1) view.zoom(100, false);
  assert(view.isWhole);
});
