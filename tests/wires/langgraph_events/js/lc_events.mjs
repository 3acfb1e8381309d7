// The stock event client, `client.threads.stream`, over the transport that the options name.

import WebSocket from "ws";

import { assert, client, human, newClient, newProxy, openGate, options, runChecks, textOf, until, uuid } from "../../langgraph/js/lib.mjs";

const webSocketFactory = (url) => new WebSocket(url);

/** Open the stream of a thread. */
const open = (thread = uuid(), from = client, more = {}) =>
  from.threads.stream(thread, { assistantId: "agent", transport: options.transport, webSocketFactory, ...more });

/** Keep the events of a subscription in a list, over all runs. */
async function collect(stream, params) {
  const events = [];
  const handle = await stream.subscribe(params);
  (async () => {
    for (;;) {
      for await (const event of handle) events.push(event);
      if (!handle.isPaused) return;
      await handle.waitForResume();
    }
  })();
  return events;
}

const ALL = { channels: ["values", "updates", "checkpoints", "messages", "tools", "custom", "lifecycle", "input", "tasks"] };
const isRoot = (event, ...statuses) =>
  event.method === "lifecycle" && !event.params.namespace.length && statuses.includes(event.params.data.event);
const ended = (events, count = 1) =>
  until(() => events.filter((event) => isRoot(event, "completed", "failed", "interrupted")).length >= count, () => `the end in ${JSON.stringify(events.slice(-5))}`);
const of = (events, method) => events.filter((event) => event.method === method);
const datas = (events, method) => of(events, method).map((event) => event.params.data);

/** The texts of the messages of a namespace, by id. */
function texts(events, matches = () => true) {
  const found = {};
  const open = {};
  for (const { params } of of(events, "messages")) {
    const slot = `${params.namespace.join("|")} ${params.node}`;
    const { data } = params;
    if (data.event === "message-start") {
      open[slot] = data.id;
      if (matches(params)) found[data.id] = "";
    }
    const id = data.run_id ?? open[slot];
    if (id in found && data.delta?.type === "text-delta") found[id] += data.delta.text;
  }
  return found;
}

/** What holds for each tape: ids that come once, rising numbers, a checkpoint before its values. */
function assertTape(events) {
  assert.equal(new Set(events.map((event) => event.event_id)).size, events.length);
  const numbers = events.map((event) => event.seq);
  assert.deepEqual(numbers, numbers.toSorted((a, b) => a - b));
  events.forEach((event, at) => {
    if (event.method === "checkpoints") assert.equal(events[at + 1].method, "values");
  });
}

const lastText = async (stream) => textOf((await client.threads.getState(stream.threadId)).values.messages.at(-1).content);

/** Start "one two", which waits at a gate and then says "three". */
async function half(stream, events) {
  const gate = uuid();
  const { run_id: run } = await stream.run.start({ input: human(`say one two |${gate}| three`) });
  await until(() => Object.values(texts(events)).some((each) => each.includes("two")), "the first words");
  return { gate, run };
}

const checks = {
  async tokensValuesOutput() {
    const stream = open();
    const events = await collect(stream, ALL);
    const message = human("say Hello there, my dear friend.");
    const { run_id: run } = await stream.run.start({ input: message });
    const parts = [];
    for await (const each of stream.messages) {
      for await (const part of each.text) parts.push(part);
      break;
    }
    assert.ok(parts.length > 1);
    assert.equal(parts.join(""), "Hello there, my dear friend.");
    const output = await stream.output;
    assert.deepEqual(output.messages.map((each) => textOf(each.content)), ["say Hello there, my dear friend.", "Hello there, my dear friend."]);
    assert.equal(output.messages[0].id, message.messages[0].id);
    await ended(events);
    assertTape(events);
    const first = events[0];
    assert.ok(isRoot(first, "running"));
    assert.equal(first.event_id.split(":")[1], run);
    assert.equal((await client.runs.get(stream.threadId, run)).status, "success");
    const start = events.findIndex((event) => event.method === "messages");
    const values = events.findIndex((event) => event.method === "values");
    assert.ok(values < start, "the values of the input come first");
    assert.ok(events[values].params.data.messages.some((each) => each.id === message.messages[0].id));
    const [streamed] = Object.entries(texts(events));
    const state = await client.threads.getState(stream.threadId);
    assert.deepEqual(streamed, [state.values.messages[1].id, state.values.messages[1].content]);
    const finish = datas(events, "messages").find((data) => data.event === "message-finish");
    assert.ok(finish.usage.output_tokens > 0);
    await stream.close();
  },

  async severalRuns() {
    const stream = open();
    const events = await collect(stream, ALL);
    for (const [at, text] of ["first", "second", "third"].entries()) {
      await stream.run.start({ input: human(`say ${text}`) });
      await ended(events, at + 1);
    }
    assertTape(events);
    assert.deepEqual(Object.values(texts(events)), ["first", "second", "third"]);
    await stream.close();
  },

  async interrupt() {
    const stream = open();
    const events = await collect(stream, ALL);
    const { run_id: run } = await stream.run.start({ input: human("ask") });
    await ended(events);
    assert.ok(stream.interrupted);
    const [{ interruptId, payload, namespace }] = stream.interrupts;
    assert.deepEqual(payload, { question: "Go on?" });
    const state = await client.threads.getState(stream.threadId);
    assert.equal(state.tasks[0].interrupts[0].id, interruptId);
    await assert.rejects(stream.input.respond({ namespace, interrupt_id: "no-such", response: 1 }), /does not wait/);
    await stream.input.respond({ namespace, interrupt_id: interruptId, response: "sure" });
    await ended(events, 2);
    assertTape(events);
    assert.deepEqual(datas(events, "input.answered"), [{ interrupt_ids: [interruptId] }]);
    assert.deepEqual(datas(events, "input.requested")[0].value, payload);
    const runs = events.filter((event) => isRoot(event, "running")).map((event) => event.event_id.split(":")[1]);
    assert.equal(runs[0], run);
    assert.notEqual(runs[1], run);
    assert.equal((await client.runs.get(stream.threadId, runs[1])).status, "success");
    assert.equal(await lastText(stream), "answer: sure");
    await assert.rejects(stream.input.respond({ namespace, interrupt_id: interruptId, response: "again" }), /no interrupt|does not wait/);
    await stream.close();
  },

  async twoInterrupts() {
    const stream = open();
    const events = await collect(stream, ALL);
    await stream.run.start({ input: human("two") });
    await ended(events);
    assert.equal(stream.interrupts.length, 2);
    const responses = stream.interrupts.map(({ interruptId, payload, namespace }) => ({ interrupt_id: interruptId, namespace, response: `${payload.question}!` }));
    await stream.input.respond({ responses });
    await ended(events, 2);
    const { values } = await client.threads.getState(stream.threadId);
    assert.deepEqual(values.messages.slice(1).map((each) => each.content).toSorted(), ["a: a?!", "b: b?!"]);
    await stream.close();
  },

  async inputAnswers() {
    const stream = open();
    const events = await collect(stream, ALL);
    await stream.run.start({ input: human("ask") });
    await ended(events);
    await stream.run.start({ input: "by input" });
    await ended(events, 2);
    assert.equal(await lastText(stream), "answer: by input");
    await stream.close();
  },

  async customUpdatesTasks() {
    const stream = open();
    const events = await collect(stream, ALL);
    const named = await collect(stream, "custom:stream_writer");
    await stream.run.start({ input: human("custom") });
    await ended(events);
    assertTape(events);
    const own = datas(events, "custom").filter((data) => data.name === "stream_writer");
    assert.deepEqual(own.map((data) => data.payload), [{ step: 1 }, "plain"]);
    await until(() => named.length === 2, "the named channel");
    assert.deepEqual(named, [{ step: 1 }, "plain"]);
    assert.deepEqual(datas(events, "updates").map((data) => data.node), ["plan", "custom"]);
    assert.equal(datas(events, "updates")[1].values.note, "customized");
    const tasks = datas(events, "tasks");
    assert.deepEqual(tasks.filter((data) => !("result" in data)).map((data) => data.name), ["plan", "custom"]);
    assert.deepEqual(tasks.filter((data) => "result" in data).map((data) => data.error), [null, null]);
    await stream.close();
  },

  async checkpointsAndFork() {
    const stream = open();
    const events = await collect(stream, ALL);
    await stream.run.start({ input: human("say one") });
    await ended(events);
    await stream.run.start({ input: human("say two") });
    await ended(events, 2);
    const marks = datas(events, "checkpoints").filter((data) => data.id);
    const ids = marks.map((data) => data.id);
    assert.deepEqual(ids, ids.toSorted());
    const history = await client.threads.getHistory(stream.threadId, { limit: 20 });
    const known = new Set(history.map((each) => each.checkpoint_id));
    assert.ok(ids.every((id) => known.has(id)));
    const at = events.findIndex((event) => event.method === "values" && event.params.data.messages.length === 3);
    const { parent_id: parent } = events[at - 1].params.data;
    await stream.run.start({ input: human("say other"), forkFrom: parent });
    await ended(events, 3);
    const last = of(events, "values").at(-1).params.data.messages;
    assert.deepEqual(last.map((each) => textOf(each.content)), ["say one", "one", "say other", "other"]);
    await stream.close();
  },

  async tools() {
    const stream = open();
    const events = await collect(stream, ALL);
    await stream.run.start({ input: human("tool Oslo") });
    const calls = {};
    for await (const call of stream.toolCalls) calls[call.callId] = call; // at its start and at its end
    await ended(events);
    const [call, ...more] = Object.values(calls);
    assert.deepEqual([call.name, call.input, more], ["weather", { city: "Oslo" }, []]);
    assert.match(JSON.stringify(await call.output), /sunny in Oslo/);
    assert.ok(of(events, "tools").every((event) => event.params.namespace.length === 1 && event.params.namespace[0].startsWith("tools:")));
    const finished = datas(events, "messages").filter((data) => data.event === "content-block-finish" && data.content.type === "tool_call");
    assert.deepEqual(finished.map((data) => [data.content.name, data.content.args]), [["weather", { city: "Oslo" }]]);
    await stream.close();
  },

  async reasoning() {
    const stream = open();
    const events = await collect(stream, ALL);
    await stream.run.start({ input: human("think All right.") });
    for await (const message of stream.messages) {
      assert.equal(await message.reasoning, "Let me think.");
      assert.equal(await message.text, "All right.");
    }
    await ended(events);
    assertTape(events);
    await stream.close();
  },

  async parallelMessages() {
    const stream = open();
    const events = await collect(stream, ALL);
    const gate = uuid();
    const { messages } = stream;
    await stream.run.start({ input: human(`both one |${gate}| two`) });
    await until(() => Object.values(texts(events)).filter((each) => each.includes("one")).length === 2, "both beginnings");
    openGate(gate);
    await ended(events);
    assert.deepEqual(Object.values(texts(events)), ["one two", "one two"]);
    const found = [];
    for await (const message of messages) found.push(await message.text);
    assert.deepEqual(found, ["one two", "one two"]);
    await stream.close();
  },

  async subgraphs() {
    const stream = open();
    const events = await collect(stream, ALL);
    const root = await collect(stream, { channels: ["messages", "values"], namespaces: [[]], depth: 0 });
    const inner = await collect(stream, { channels: ["messages", "values", "lifecycle"], namespaces: [["child"]] });
    await stream.run.start({ input: human("child one two") });
    await ended(events);
    const [outer] = of(inner, "values");
    assert.match(outer.params.namespace[0], /^child:/);
    assert.deepEqual(datas(inner, "lifecycle").map((data) => data.event), ["started", "completed"]);
    assert.deepEqual(Object.values(texts(inner)), ["one two"]);
    assert.deepEqual(texts(root), {});
    assert.ok(root.every((event) => event.params.namespace.length === 0));
    assert.deepEqual(inner.filter((event) => !events.some((each) => each.event_id === event.event_id)), []);
    await stream.close();
  },

  async lateObserver() {
    const stream = open();
    const events = await collect(stream, ALL);
    const { gate } = await half(stream, events);
    const observer = open(stream.threadId, newClient());
    const seen = await collect(observer, ALL);
    await until(() => Object.values(texts(seen)).some((each) => each.includes("two")), "the first words");
    openGate(gate);
    await Promise.all([ended(events), ended(seen)]);
    await until(() => seen.length >= events.length, "all events");
    assert.deepEqual(seen, events);
    const after = open(stream.threadId, newClient());
    const replayed = await collect(after, ALL);
    await ended(replayed);
    await until(() => replayed.length >= events.length, "all events");
    assert.deepEqual(replayed, events);
    for (const each of [stream, observer, after]) await each.close();
  },

  async observerBeforeTheThread() {
    const thread = uuid();
    const observer = open(thread, newClient());
    const seen = await collect(observer, ALL);
    await assert.rejects(client.threads.getState(thread), { status: 404 });
    const stream = open(thread);
    await stream.run.start({ input: human("say here") });
    await ended(seen);
    assert.deepEqual(Object.values(texts(seen)), ["here"]);
    for (const each of [stream, observer]) await each.close();
  },

  async failure() {
    const stream = open();
    const events = await collect(stream, ALL);
    await stream.run.start({ input: human("fail half a text") });
    await ended(events);
    const end = events.findLast((event) => isRoot(event, "failed"));
    assert.match(end.params.data.error, /boom/);
    await stream.run.start({ input: human("say fine") });
    await ended(events, 2);
    assert.ok(isRoot(events.findLast((event) => event.method === "lifecycle"), "completed"));
    await assert.rejects(open(uuid(), client, { assistantId: "no-such-graph" }).run.start({ input: {} }), /422|404/);
    await stream.close();
  },

  async retries() {
    const stream = open();
    const events = await collect(stream, ALL);
    await stream.run.start({ input: human("retry once more") });
    await ended(events);
    const last = of(events, "values").at(-1).params.data.messages.at(-1);
    assert.equal(texts(events)[last.id], "once more");
    await stream.close();
  },

  async cancel() {
    const stream = open();
    const events = await collect(stream, ALL);
    const { run } = await half(stream, events);
    const state = await client.threads.getState(stream.threadId);
    assert.ok(state.next.length, "next is not empty while a run is active");
    await client.runs.cancel(stream.threadId, run, true, "interrupt");
    await ended(events);
    assert.ok(isRoot(events.findLast((event) => event.method === "lifecycle"), "interrupted"));
    assertTape(events);
    await stream.run.start({ input: human("say again") });
    await ended(events, 2);
    assert.equal(Object.values(texts(events)).at(-1), "again");
    await stream.close();
  },

  async cut() {
    const proxy = await newProxy();
    const stream = open(uuid(), newClient({ apiUrl: proxy.url }));
    const events = await collect(stream, ALL);
    const { gate } = await half(stream, events);
    proxy.cut();
    openGate(gate);
    await ended(events);
    assertTape(events);
    assert.deepEqual(Object.values(texts(events)), ["one two three"]);
    await stream.close();
    proxy.close();
  },

  async tree() {
    const stream = open();
    const events = await collect(stream, ALL);
    await stream.run.start({ input: human("child one two") });
    await ended(events);
    const { tree } = await stream.agent.getTree();
    assert.deepEqual([tree.status, tree.graph_name, tree.children.length], ["completed", "agent", 1]);
    assert.deepEqual([tree.children[0].status, tree.children[0].graph_name], ["completed", "child"]);
    await stream.close();
  },
};

await runChecks(checks);
