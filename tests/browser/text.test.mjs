// The text of each message: the module's TextAssembly, in Node.
import assert from "node:assert/strict";
import { test } from "node:test";

import { TextAssembly, messageTree, nodePath } from "../../lg_streaming/static/lg-streaming.js";

let number = 0;

function update(type, data = {}, metadata = {}) {
  number += 1;
  const fixed = { execution_id: "exec-1", epoch: "e", sequence_number: number, timestamp: "2026-11-20T20:00:00Z" };
  const scope = { run_id: "r", node_id: "write", namespace: "write:1", attempt: 1 };
  return { type, data, metadata: { ...fixed, ...scope, ...metadata } };
}

const token = (content, metadata) => update("token", { content }, { message_id: "m", ...metadata });
const texts = (assembly) => assembly.messages.map(({ text }) => text);

function assembled(...updates) {
  const assembly = new TextAssembly();
  for (const one of updates) assembly.add(one);
  return assembly;
}

function shuffled(list, random) {
  const rest = [...list];
  return list.map(() => rest.splice(Math.floor(random() * rest.length), 1)[0]);
}

// A small generator of numbers, so that a failure can be repeated.
function randomOf(seed) {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    return state / 2 ** 32;
  };
}

test("the pieces of a message are joined, and each message has its own", () => {
  const thought = update("thinking", { content: "hm", message_id: "m" });
  const assembly = assembled(token("Hel"), token("other", { message_id: "n" }), token("lo"), thought);
  const shown = assembly.messages.map(({ id, text, thinking, nodeId, complete }) => [id, text, thinking, nodeId, complete]);
  assert.deepEqual(shown, [
    ["m", "Hello", "hm", "write", false],
    ["n", "other", "", "write", false],
  ]);
});

test("in any order, and each as often as you like, pieces give the same text", () => {
  const words = Array.from({ length: 40 }, (_, index) => token(`${index} `, { message_id: `m${index % 3}` }));
  const wanted = Object.fromEntries(assembled(...words).messages.map(({ id, text }) => [id, text]));
  for (let seed = 1; seed <= 200; seed += 1) {
    const random = randomOf(seed);
    const twice = [...words, ...words.filter(() => random() < 0.3)];
    const got = assembled(...shuffled(twice, random)).messages;
    assert.deepEqual(Object.fromEntries(got.map(({ id, text }) => [id, text])), wanted, `seed ${seed}`);
  }
});

test("a merged piece stands for all the numbers in it", () => {
  const [a, b, c, d] = [token("a"), token("b"), token("c"), token("d")];
  const first = a.metadata.sequence_number;
  const merged = { ...c, data: { content: "abc" }, metadata: { ...c.metadata, merged_from: first } };
  for (const order of [[merged, d, b], [a, merged, d], [d, merged, a], [a, b, c, merged, d], [merged, merged, d]]) {
    assert.deepEqual(texts(assembled(...order)), ["abcd"]);
  }
});

test("a node that is tried again begins its text afresh, whatever tells of it", () => {
  for (const again of [update("node_start", {}, { attempt: 2 }), token("right", { attempt: 2, message_id: "m2" })]) {
    const assembly = assembled(token("wrong"));
    const [shown] = assembly.changes();
    assert.equal(shown.text, "wrong");
    assembly.add(again);
    const gone = assembly.changes().find(({ id }) => id === "m");
    assert.deepEqual([gone.text, gone.attempt], ["", 1]);
    assembly.add(token("right", { attempt: 2, message_id: "m2" }));
    assembly.add(token("late", { attempt: 1 }));
    assert.ok(texts(assembly)[0].startsWith("right"));
    assert.deepEqual(assembly.messages.map(({ id, attempt }) => [id, attempt]), [["m2", 2]]);
  }
});

test("a new attempt takes away what ran inside the node, and nothing beside it", () => {
  const assembly = assembled(
    update("node_start"),
    token("inner ", { node_id: "inner", namespace: "write:1|inner:7", message_id: "i" }),
    token("beside", { namespace: "write:12", message_id: "b" }),
    token("other", { node_id: "read", namespace: "read:1", message_id: "o" }),
    update("node_start", {}, { attempt: 2 }),
    token("again", { node_id: "inner", namespace: "write:1|inner:7", message_id: "i" }),
  );
  assert.deepEqual(texts(assembly), ["beside", "other", "again"]);
});

test("a message is complete with its end, its node's, or its run's", () => {
  const ends = [
    update("llm_complete", { message_id: "m" }),
    update("llm_error"), // of a call that had sent nothing with an id
    update("node_complete"),
    update("node_error"),
    update("node_interrupted"),
    update("workflow_complete", {}, { node_id: undefined, namespace: undefined, attempt: undefined }),
    update("workflow_cancelled", {}, { node_id: undefined, namespace: undefined, attempt: undefined }),
  ];
  for (const end of ends) {
    const assembly = assembled(token("text"), token("of another run", { run_id: "other", message_id: "n" }));
    assert.equal(assembly.add(end).complete, true, end.type);
    assert.deepEqual(assembly.messages.map(({ complete }) => complete), [true, false]);
    assembly.finish();
    assert.deepEqual(assembly.messages.map(({ complete }) => complete), [true, true]);
  }
});

test("a model call that fails takes back what it has sent, whatever comes late", () => {
  const [a, b] = [token("half"), token(" of it")];
  const error = update("llm_error", {}, { message_id: "m" });
  const c = token("whole");
  const assembly = assembled(a, b);
  assembly.changes();
  const gone = assembly.add(error);
  assert.deepEqual([gone.id, gone.text], ["m", ""]);
  assert.deepEqual(assembly.changes().map(({ id, text }) => [id, text]), [["m", ""]]);
  for (const order of [[a, b, error, c], [a, error, b, c], [error, c, b, a], [c, a, error, b, a], [a, b, error, error, c]]) {
    assert.deepEqual(texts(assembled(...order)), ["whole"]);
  }
  assert.deepEqual(texts(TextAssembly.from(JSON.parse(JSON.stringify(assembled(a, error))))), []);
});

test("messages know their agent and where they were said, and make a tree", () => {
  const say = (content, namespace, agent_type, message_id) =>
    token(content, { namespace, agent_type, message_id, node_id: nodePath(namespace).split("/").at(-1) });
  const { messages } = assembled(
    say("Plan.", "supervisor:1|model:2", "supervisor", "m1"),
    say("Found.", "supervisor:1|tools:3|1|model:4", "researcher", "m2"),
    say("Wrote.", "supervisor:1|tools:3|model:5", "writer", "m3"),
    say("Done.", "supervisor:1|model:6", "supervisor", "m4"),
    token("Plain.", { namespace: undefined, node_id: "plain", message_id: "m5" }),
  );
  assert.deepEqual(messages.map(({ path, agentType }) => [path, agentType]), [
    ["supervisor/model", "supervisor"],
    ["supervisor/tools/model", "researcher"],
    ["supervisor/tools/model", "writer"],
    ["supervisor/model", "supervisor"],
    ["plain", undefined],
  ]);
  const shown = (branches, depth = 0) => branches.flatMap(({ name, agentType = "", messages: said, inside }) => [
    `${"  ".repeat(depth)}${name} ${agentType} ${said.map(({ text }) => text).join("")}`.trimEnd(),
    ...shown(inside, depth + 1),
  ]);
  assert.deepEqual(shown(messageTree(messages)), [
    "supervisor",
    "  model supervisor Plan.",
    "  tools",
    "    model researcher Found.",
    "    model writer Wrote.",
    "  model supervisor Done.",
    "plain  Plain.",
  ]);
});

test("a whole message stands in the place of its pieces", () => {
  const pieces = [token("He"), token("y")];
  const whole = update("message", { role: "assistant", content: "Hello", message_id: "m" });
  const assembly = assembled(...pieces, whole, pieces[1]);
  const [{ text, role, complete }] = assembly.messages;
  assert.deepEqual([text, role, complete], ["Hello", "assistant", true]);
  const hello = () => update("message", { role: "user", content: "Hi" });
  assert.deepEqual(texts(assembled(hello(), hello())), ["Hi", "Hi"]);
});

test("messages without an id are told apart by where they come from", () => {
  const plain = (content, metadata) => update("token", { content }, metadata);
  const assembly = assembled(
    plain("a"),
    plain("b", { task_id: "t" }),
    plain("c"),
    plain("d", { namespace: "write:2" }),
    plain("e", { run_id: "s" }),
  );
  assert.deepEqual(texts(assembly), ["ac", "b", "d", "e"]);
  assert.equal(new Set(assembly.messages.map(({ id }) => id)).size, 4);
});

test("two nodes that write under one message id have two messages with two ids", () => {
  const assembly = assembled(token("a"), token("b", { namespace: "write:2" }));
  assert.deepEqual(texts(assembly), ["a", "b"]);
  assert.equal(new Set(assembly.messages.map(({ id }) => id)).size, 2);
});

test("nothing that was shown is changed: what changes is another object, and the list stays while nothing changes", () => {
  const assembly = assembled(token("a"), token("b", { message_id: "n" }));
  const before = assembly.messages;
  assert.equal(assembly.messages, before);
  assembly.add(update("progress", { progress: 50 }));
  assert.equal(assembly.messages, before);
  assembly.add(token("c"));
  assert.notEqual(assembly.messages, before);
  assert.notEqual(assembly.messages[0], before[0]);
  assert.equal(assembly.messages[1], before[1]);
  assert.equal(before[0].text, "a");
  assert.throws(() => (before[0].text = "x"));
});

test("lost pieces are said to be missing in what is being written, and only there", () => {
  const assembly = assembled(token("a"), token("b", { message_id: "n" }), update("llm_complete", { message_id: "n" }));
  assembly.miss();
  assert.deepEqual(assembly.messages.map(({ missing }) => missing), [true, undefined]);
});

test("another life of the log begins with nothing", () => {
  const assembly = assembled(token("old"));
  assembly.add(token("new", { epoch: "f", sequence_number: 1 }));
  assert.deepEqual(texts(assembly), ["new"]);
});

test("what was kept as JSON goes on where it was", () => {
  const [a, b, c] = [token("a"), token("b"), token("c")];
  const again = update("node_start", {}, { node_id: "x", namespace: "x:1", attempt: 3 });
  const assembly = TextAssembly.from(JSON.parse(JSON.stringify(assembled(a, b, again))));
  for (const one of [a, b, c, b]) assembly.add(one);
  assembly.add(token("late", { node_id: "x", namespace: "x:1", attempt: 2, message_id: "x" }));
  assert.deepEqual(texts(assembly), ["abc"]);
});
