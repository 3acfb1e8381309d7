// The stock client of the LangGraph SDK: `Client` with its threads, runs and assistants.

import {
  assert, assertOrder, client, follow, human, last, names, newClient, newProxy, onlyText, openGate, options, read, refused,
  runChecks, shows, texts, until, url, uuid,
} from "./lib.mjs";

const TUPLES = ["values", "messages-tuple"];
const newThread = async () => (await client.threads.create()).thread_id;
const start = (thread, text, more = {}) => client.runs.stream(thread, "agent", { input: human(text), streamMode: TUPLES, ...more });
const statusOf = async (thread, run) => (await client.runs.get(thread, run)).status;
const ended = (thread, run) => until(async () => !["pending", "running"].includes(await statusOf(thread, run)), `the end of ${run}`);
const idle = (thread) => until(async () => (await client.threads.get(thread)).status !== "busy", `${thread} idle`);
const contents = (values) => values.messages.map((each) => each.content);

/** Start a run in the background that shows `words` and waits at a gate; returns its id and the gate. */
async function waiting(thread, words = "one two", more = {}) {
  const gate = uuid();
  const run = await client.runs.create(thread, "agent", { input: human(`say ${words} |${gate}| end`), streamMode: TUPLES, streamResumable: true, ...more });
  return { run: run.run_id, gate };
}

/** Wait until a background run has shown a text. */
async function shown(thread, run, text) {
  const stream = follow((signal) => client.runs.joinStream(thread, run, { signal, lastEventId: "-1" }));
  await until(() => shows(stream.check(), text), text);
  return stream.stop();
}

const checks = {
  async assistants() {
    const all = await client.assistants.search({ limit: 10 });
    assert.deepEqual(all.map((each) => each.graph_id).sort(), ["agent", "other"]);
    const [one] = await client.assistants.search({ graphId: "other" });
    assert.equal(one.graph_id, "other");
    for (const field of ["assistant_id", "created_at", "updated_at", "config", "metadata", "version", "name"]) assert.ok(field in one, field);
    assert.deepEqual(await client.assistants.get(one.assistant_id), one);
    await refused(client.assistants.get(uuid()), 404);
    const frames = await read(client.runs.stream(await newThread(), one.assistant_id, { input: human("say by id"), streamMode: TUPLES }));
    assert.equal(onlyText(frames), "by id");
  },

  async threads() {
    const tag = uuid();
    const threadId = uuid();
    const made = await client.threads.create({ threadId, metadata: { tag } });
    assert.equal(made.thread_id, threadId);
    assert.equal(made.metadata.tag, tag);
    assert.equal(made.status, "idle");
    await refused(client.threads.create({ threadId }), 409);
    assert.equal((await client.threads.create({ threadId, ifExists: "do_nothing" })).thread_id, threadId);
    assert.equal((await client.threads.get(threadId)).thread_id, threadId);
    const state = await client.threads.getState(threadId);
    assert.deepEqual([state.values, state.next, state.tasks, state.checkpoint, state.metadata], [{}, [], [], null, null].map((each, at) => (at === 0 && options.reference ? state.values : at > 2 && options.reference ? [state.checkpoint, state.metadata][at - 3] : each)));
    assert.deepEqual(await client.threads.getHistory(threadId), []);
    assert.equal((await client.threads.update(threadId, { metadata: { more: 1 } })).metadata.more, 1);
    const found = await client.threads.search({ metadata: { tag } });
    assert.deepEqual(found.map((each) => each.thread_id), [threadId]);
    assert.equal(found[0].metadata.more, 1);
    assert.equal(await client.threads.count({ metadata: { tag } }), 1);
    await client.threads.delete(threadId);
    await refused(client.threads.get(threadId), 404);
    await refused(client.threads.getState(threadId), 404);
    assert.deepEqual(await client.threads.search({ metadata: { tag } }), []);
  },

  async refusals() {
    const unknown = uuid();
    await refused(read(start(unknown, "say no")), 404);
    await refused(client.threads.getState(unknown), 404);
    await refused(client.threads.getHistory(unknown), 404);
    const thread = await newThread();
    await refused(read(client.runs.stream(thread, "no-such-graph", { input: human("say no") })), 404, 422);
    await refused(read(start(thread, "say no", { streamMode: ["no-such-mode"] })), 422);
    await refused(client.runs.get(thread, uuid()), 404);
    assert.deepEqual(await client.runs.list(thread), []);
    assert.equal(onlyText(await read(start(unknown, "say made", { ifNotExists: "create" }))), "made");
    assert.equal((await client.threads.get(unknown)).status, "idle");
  },

  async text() {
    const id = uuid();
    const thread = await newThread();
    let created;
    const input = human("say Hello there, friend.", id);
    const frames = await read(client.runs.stream(thread, "agent", { input, streamMode: TUPLES, onRunCreated: (run) => (created = run) }));
    assertOrder(frames, id);
    assert.equal(onlyText(frames), "Hello there, friend.");
    assert.deepEqual(created, { run_id: frames[0].data.run_id, thread_id: thread });
    const chunks = frames.filter((frame) => frame.event === "messages").map((frame) => frame.data);
    assert.ok(chunks.length > 2, "more than one chunk");
    assert.ok(chunks.every(([message, metadata]) => message.type === "AIMessageChunk" && metadata.langgraph_node === "say"));
    const ai = last(frames).messages.at(-1);
    assert.equal(ai.type, "ai");
    assert.equal(ai.id, chunks[0][0].id);
    assert.equal(await statusOf(thread, created.run_id), "success");
    const run = await client.runs.get(thread, created.run_id);
    assert.equal(run.thread_id, thread);
    const again = await read(start(thread, "say Second."));
    assertOrder(again);
    assert.deepEqual(contents(last(again)).filter((_, at) => at % 2), ["Hello there, friend.", "Second."]);
    assert.notEqual(again[0].data.run_id, created.run_id);
  },

  async modes() {
    const all = ["values", "updates", "messages-tuple", "custom"];
    const frames = await read(start(await newThread(), "custom", { streamMode: all }));
    assert.deepEqual(frames.filter((frame) => frame.event === "custom").map((frame) => frame.data), [{ step: 1 }, "plain"]);
    const updates = frames.filter((frame) => frame.event === "updates").map((frame) => frame.data);
    assert.deepEqual(updates.map((each) => Object.keys(each)), [["plan"], ["custom"]]);
    assert.deepEqual(updates[0], { plan: { note: "custom" } });
    assert.equal(updates[1].custom.note, "customized");
    const [whole] = frames.filter((frame) => frame.event === "messages").map((frame) => frame.data[0]);
    assert.deepEqual([whole.type, whole.content], ["ai", "made by hand"]);
    assert.equal(last(frames).messages.at(-1).id, whole.id);
    assert.equal(last(frames).note, "customized");
    const order = names(frames);
    assert.ok(order.lastIndexOf("messages") < order.lastIndexOf("updates") && order.lastIndexOf("updates") < order.lastIndexOf("values"), `${order}`);
    const plain = await read(start(await newThread(), "say x", { streamMode: [] }));
    assert.ok(names(plain).every((name) => ["metadata", "values", "end"].includes(name)), "values is the default");
  },

  async hiddenSubgraph() {
    const frames = await read(start(await newThread(), "child one two three", { streamMode: ["values", "updates", "messages-tuple"] }));
    assert.ok(names(frames).every((name) => !name.includes("|")));
    const messages = frames.filter((frame) => frame.event === "messages").map((frame) => frame.data);
    assert.ok(messages.every(([, metadata]) => metadata.langgraph_node === "child"), "of the root's node");
    assert.equal(onlyText(frames), "one two three");
    assert.equal(last(frames).messages.at(-1).content, "one two three");
    assert.deepEqual(frames.filter((frame) => frame.event === "updates").map((frame) => Object.keys(frame.data)[0]), ["plan", "child"]);
  },

  async subgraph() {
    const frames = await read(start(await newThread(), "child one two three", { streamMode: ["values", "updates", "messages-tuple"], streamSubgraphs: true }));
    const scoped = names(frames).filter((name) => name.includes("|"));
    const space = scoped[0].split("|")[1];
    assert.match(space, /^child:/);
    assert.deepEqual(new Set(scoped), new Set([`messages|${space}`, `values|${space}`, `updates|${space}`]));
    assert.equal(onlyText(frames, `messages|${space}`), "one two three");
    assert.deepEqual(frames.filter((frame) => frame.event === `updates|${space}`).map((frame) => Object.keys(frame.data)[0]), ["inner", "after"]);
    assert.equal(last(frames, `values|${space}`).note, "first");
    assert.equal(last(frames).messages.at(-1).content, "one two three");
    assert.ok(names(frames).filter((name) => name === "values").length >= 3);
  },

  async partialMessages() {
    const frames = await read(start(await newThread(), "say one two three", { streamMode: ["messages"] }));
    const partial = frames.filter((frame) => frame.event === "messages/partial").map((frame) => frame.data[0]);
    const [metadata] = frames.filter((frame) => frame.event === "messages/metadata").map((frame) => frame.data);
    assert.equal(metadata[partial[0].id].metadata.langgraph_node, "say");
    assert.ok(partial.every((each, at) => at === 0 || each.content.startsWith(partial[at - 1].content)), "texts grow");
    assert.equal(partial.at(-1).content, "one two three");
    assert.equal(partial.at(-1).type, "ai");
    const whole = await read(start(await newThread(), "custom", { streamMode: ["messages"] }));
    assert.deepEqual(whole.filter((frame) => frame.event === "messages/complete").map((frame) => frame.data[0].content).at(-1), "made by hand");
  },

  async debugging() {
    const thread = await newThread();
    const frames = await read(start(thread, "steps a b", { streamMode: ["debug", "tasks", "checkpoints", "updates", "messages", "messages-tuple", "values"] }));
    const of = (event) => frames.filter((frame) => frame.event === event).map((frame) => frame.data);
    const begun = of("tasks").filter((each) => "input" in each);
    const done = of("tasks").filter((each) => "result" in each);
    assert.deepEqual(begun.map((each) => each.name), ["plan", "steps", "second"]);
    assert.deepEqual(done.map((each) => each.id), begun.map((each) => each.id));
    assert.ok(done.every((each) => each.error == null && each.interrupts.length === 0));
    const checkpoints = of("checkpoints");
    assert.deepEqual(checkpoints.map((each) => each.next), [["__start__"], ["plan"], ["steps"], ["second"], []].slice(-checkpoints.length));
    assert.ok(checkpoints.length >= 4);
    assert.deepEqual(checkpoints.at(-1).values.note, "second");
    for (const [at, each] of checkpoints.entries()) {
      assert.ok(each.config.configurable.checkpoint_id);
      if (at > 0) assert.equal(each.parent_config.configurable.checkpoint_id, checkpoints[at - 1].config.configurable.checkpoint_id);
    }
    const kinds = of("debug").map((each) => each.type);
    assert.deepEqual([...new Set(kinds)].sort(), ["checkpoint", "task", "task_result"]);
    assert.ok(of("debug").every((each) => typeof each.step === "number" && each.timestamp && each.payload));
    if (options.reference) return; // its ids are times, which repeat
    const join = (lastEventId) => read(client.runs.joinStream(thread, frames[0].data.run_id, { lastEventId }));
    const rests = await Promise.all(frames.map((frame) => join(frame.id)));
    for (const [at, rest] of rests.entries()) assert.deepEqual(rest, frames.slice(at + 1), `from ${at}`);
  },

  async failure() {
    const thread = await newThread();
    const frames = await read(start(thread, "fail half a"));
    assert.equal(onlyText(frames), "half a");
    assert.deepEqual(frames.at(-1).event, "error");
    assert.equal(frames.at(-1).data.error, "ValueError");
    assert.equal(frames.at(-1).data.message, "boom");
    const run = frames[0].data.run_id;
    await ended(thread, run);
    assert.equal(await statusOf(thread, run), "error");
    assert.equal((await client.threads.get(thread)).status, "error");
    const state = await client.threads.getState(thread);
    assert.deepEqual(state.next, ["fail"]);
    assert.equal(state.tasks.at(-1).error, "ValueError('boom')");
    await assert.rejects(client.runs.wait(thread, "agent", { input: human("fail again") }), /ValueError: boom/);
    const quiet = await client.runs.wait(thread, "agent", { input: human("fail again"), raiseError: false });
    assert.deepEqual(Object.keys(quiet.__error__).filter((key) => ["error", "message"].includes(key)).sort(), ["error", "message"]);
    const next = await read(start(thread, "say fine"));
    assert.equal(onlyText(next), "fine");
    assert.equal((await client.threads.get(thread)).status, "idle");
  },

  async interrupt() {
    const thread = await newThread();
    const frames = await read(start(thread, "ask", { streamMode: ["values", "updates", "messages-tuple"] }));
    const [asked] = last(frames).__interrupt__;
    assert.deepEqual(asked.value, { question: "Go on?" });
    assert.ok(asked.id);
    assert.equal(last(frames).messages.length, 1);
    assert.deepEqual(last(frames, "updates").__interrupt__[0].value, { question: "Go on?" });
    await until(async () => (await client.threads.get(thread)).status === "interrupted", "the thread waits");
    const held = await client.threads.get(thread);
    assert.deepEqual(Object.values(held.interrupts).flat()[0].value, { question: "Go on?" });
    const state = await client.threads.getState(thread);
    assert.deepEqual(state.next, ["ask"]);
    assert.equal(state.tasks[0].interrupts[0].id, asked.id);
    assert.ok(["success", "interrupted"].includes(await statusOf(thread, frames[0].data.run_id)));

    // Some clients send an input and a command together; the command wins.
    const more = { command: { resume: "yes" }, input: human("say ignored"), streamMode: ["values", "updates"] };
    const rest = await read(client.runs.stream(thread, "agent", more));
    assert.notEqual(rest[0].data.run_id, frames[0].data.run_id);
    assert.ok(rest.filter((frame) => frame.event === "values").every((frame) => !("__interrupt__" in frame.data)));
    assert.equal(last(rest).messages.at(-1).content, "answer: yes");
    assert.equal(last(rest).messages.length, 2);
    assert.equal((await client.threads.get(thread)).status, "idle");

    const history = await client.threads.getHistory(thread, { limit: 20 });
    assert.deepEqual(history.map((each) => each.next), [[], ["ask"], ["plan"], ["__start__"]].slice(0, history.length));
    assert.ok(history.length >= 3);
    for (const [at, each] of history.slice(0, -1).entries()) {
      assert.equal(each.parent_checkpoint.checkpoint_id, history[at + 1].checkpoint.checkpoint_id);
    }
    assert.equal((await client.threads.getHistory(thread, { limit: 1 })).length, 1);
    const before = await client.threads.getHistory(thread, { before: { configurable: history[0].checkpoint } });
    assert.equal(before[0].checkpoint.checkpoint_id, history[1].checkpoint.checkpoint_id);
    for (const place of [history[1].checkpoint.checkpoint_id, history[1].checkpoint]) {
      const then = await client.threads.getState(thread, place);
      assert.deepEqual(then.next, ["ask"]);
      assert.equal(then.values.messages.length, 1);
    }
    await refused(client.threads.getState(thread, { ...history[1].checkpoint, checkpoint_id: uuid() }), 404, ...(options.reference ? [undefined] : [])).catch((error) => {
      if (!options.reference) throw error;
    });
  },

  async twoInterrupts() {
    const thread = await newThread();
    const frames = await read(start(thread, "two", { streamMode: ["values"] }));
    const state = await client.threads.getState(thread);
    const asked = state.tasks.flatMap((task) => task.interrupts);
    assert.deepEqual(asked.map((each) => each.value.question).sort(), ["a?", "b?"]);
    assert.deepEqual(frames.flatMap((frame) => frame.data.__interrupt__ ?? []).map((each) => each.id).sort(), asked.map((each) => each.id).sort());
    const resume = Object.fromEntries(asked.map((each) => [each.id, `to ${each.value.question}`]));
    const rest = await read(client.runs.stream(thread, "agent", { command: { resume }, streamMode: ["values"] }));
    assert.deepEqual(contents(last(rest)).slice(1).sort(), ["a: to a?", "b: to b?"]);
    // A breakpoint is no question.
    const stopped = await read(start(thread, "steps x y", { interruptBefore: ["second"] }));
    assert.ok(!names(stopped).includes("error"));
    assert.deepEqual((await client.threads.getState(thread)).next, ["second"]);
    const on = await read(client.runs.stream(thread, "agent", { input: null, streamMode: TUPLES }));
    assert.equal(last(on).messages.at(-1).content, "x y");
  },

  async updateState() {
    const thread = await newThread();
    await read(start(thread, "say one"));
    const { checkpoint } = await client.threads.updateState(thread, { values: { note: "changed" }, asNode: "say" });
    const state = await client.threads.getState(thread);
    assert.equal(state.values.note, "changed");
    assert.equal(state.checkpoint.checkpoint_id, checkpoint.checkpoint_id);
    const history = await client.threads.getHistory(thread, { limit: 20 });
    assert.equal(history[0].metadata.source, "update");

    // A fork: the second turn anew, from the checkpoint before the first answer.
    const start_ = history.findLast((each) => each.next[0] === "plan").checkpoint;
    const forked = await read(start(thread, "say forked", { checkpoint: start_ }));
    assert.equal(last(forked).messages.at(-1).content, "forked");
    assert.ok(!contents(last(forked)).includes("one"));
    const gate = uuid();
    const busy = await client.runs.create(thread, "agent", { input: human(`say |${gate}| done`) });
    await until(async () => (await statusOf(thread, busy.run_id)) === "running", "running");
    await refused(client.threads.updateState(thread, { values: { note: "no" } }), 409);
    openGate(gate);
    await ended(thread, busy.run_id);
    await refused(client.threads.updateState(uuid(), { values: {} }), 404);
  },

  async background() {
    const thread = await newThread();
    let created;
    const gate = uuid();
    const run = await client.runs.create(thread, "agent", { input: human(`say one |${gate}| two`), metadata: { tag: "t" }, onRunCreated: (made) => (created = made) });
    assert.equal(created.run_id, run.run_id);
    assert.ok(["pending", "running"].includes(run.status));
    assert.equal(run.thread_id, thread);
    assert.equal((await client.threads.get(thread)).status, "busy");
    assert.equal((await client.runs.list(thread))[0].run_id, run.run_id);
    const joined = client.runs.join(thread, run.run_id);
    openGate(gate);
    assert.equal((await joined).messages.at(-1).content, "one two");
    assert.equal(await statusOf(thread, run.run_id), "success");
    assert.equal((await client.runs.get(thread, run.run_id)).metadata.tag, "t");
    assert.equal((await client.runs.join(thread, run.run_id)).messages.at(-1).content, "one two");
    const values = await client.runs.wait(thread, "agent", { input: human("say waited") });
    assert.equal(values.messages.at(-1).content, "waited");
    const asked = await client.runs.wait(thread, "agent", { input: human("ask") });
    assert.deepEqual(asked.__interrupt__[0].value, { question: "Go on?" });
    const list = await client.runs.list(thread);
    assert.equal(list.length, 3);
    assert.equal(list[2].run_id, run.run_id);
    assert.equal((await client.runs.list(thread, { limit: 1, offset: 2 }))[0].run_id, run.run_id);
    assert.deepEqual((await client.runs.list(thread, { status: "error" })), []);
    await client.runs.delete(thread, run.run_id);
    await refused(client.runs.get(thread, run.run_id), 404);
  },

  async join() {
    const thread = await newThread();
    const gate = uuid();
    let created;
    let third;
    const frames = await read(start(thread, `say one two |${gate}| three`, { streamResumable: true, onRunCreated: (run) => (created = run) }), async (_, so) => {
      if (third || !shows(so, "two")) return;
      // A second reader joins in the middle, from the start.
      third = read(client.runs.joinStream(thread, created.run_id, { lastEventId: "-1" }), (_, seen) => {
        if (shows(seen, "two")) openGate(gate);
      });
    });
    const run = created.run_id;
    assert.ok(frames.every((frame) => frame.id !== undefined || frame.event === "end"), "every frame has an id");
    assert.deepEqual(await third, frames);
    const join = (lastEventId, more) => read(client.runs.joinStream(thread, run, { ...(lastEventId ? { lastEventId } : {}), ...more }));
    assert.deepEqual(await join("-1"), frames);
    for (const at of [0, 1, Math.floor(frames.length / 2), frames.length - 2]) {
      assert.deepEqual(await join(frames[at].id), frames.slice(at + 1), `from ${at} of ${names(frames)}`);
    }
    assert.deepEqual(await join(frames.at(-1).id), []);
    assert.deepEqual(await join(undefined), []);
    const only = await join("-1", { streamMode: ["values"] });
    assert.ok(names(only).every((name) => ["metadata", "values", "end"].includes(name)), `${names(only)}`);
    assert.equal(last(only).messages.at(-1).content, "one two three");
  },

  async cutConnection() {
    const proxy = await newProxy();
    const far = newClient({ apiUrl: proxy.url });
    const thread = await newThread();
    const gates = [uuid(), uuid()];
    const input = human(`say one two |${gates[0]}| three four |${gates[1]}| five`);
    const cuts = ["two", "four"];
    const frames = await read(far.runs.stream(thread, "agent", { input, streamMode: TUPLES, streamResumable: true, onDisconnect: "continue" }), (_, so) => {
      if (cuts.length && shows(so, cuts[0])) {
        cuts.shift();
        proxy.cut();
        openGate(gates.shift());
      }
    });
    assert.equal(onlyText(frames), "one two three four five");
    assertOrder(frames, input.messages[0].id);
    assert.equal(names(frames).filter((name) => name === "metadata").length, 1);
    if (!options.reference) assert.equal(new Set(frames.map((frame) => frame.id)).size, frames.length);
    assert.ok(proxy.requests().some((text) => /last-event-id/i.test(text)), "it reconnected");
    proxy.close();
  },

  async endedEarly() {
    const proxy = await newProxy();
    const far = newClient({ apiUrl: proxy.url });
    const gate = uuid();
    const input = human(`say one two |${gate}| three`);
    const thread = await newThread();
    const stream = follow((signal) => far.runs.stream(thread, "agent", { input, signal, streamMode: TUPLES, streamResumable: true, onDisconnect: "continue" }));
    await until(() => shows(stream.check(), "two"), "the first words");
    proxy.end();
    // Clients before 1.15 take a tidy end for the end of the run; newer ones ask for its status.
    if (!options.tidyEndsCut) await until(() => proxy.answers().some((text) => /"status": ?"running"/.test(text)), "the status");
    openGate(gate);
    await until(() => stream.isOver(), "the end of the stream");
    assert.equal(onlyText(stream.check()).trim(), options.tidyEndsCut ? "one two" : "one two three");
    proxy.close();
  },

  async cancel() {
    const thread = await newThread();
    const { run } = await waiting(thread);
    const frames = await shown(thread, run, "two");
    const rest = read(client.runs.joinStream(thread, run, { lastEventId: frames.at(-1).id }));
    await client.runs.cancel(thread, run);
    assert.ok(!names(await rest).includes("error"), "a cancelled run's stream just ends");
    await ended(thread, run);
    assert.equal(await statusOf(thread, run), "interrupted");
    const state = await client.threads.getState(thread);
    assert.deepEqual(state.next, ["say"]);
    assert.equal(state.values.messages.length, 1);

    const second = await waiting(thread);
    await shown(thread, second.run, "two");
    await client.runs.cancel(thread, second.run, true);
    assert.equal(await statusOf(thread, second.run), "interrupted");

    const third = await waiting(thread, "undone");
    await shown(thread, third.run, "undone");
    await client.runs.cancel(thread, third.run, true, "rollback");
    await until(() => client.runs.get(thread, third.run).then(() => false, (error) => error.status === 404), "the run is gone");
    assert.ok(!JSON.stringify((await client.threads.getState(thread)).values).includes("undone"));
    await refused(client.runs.cancel(thread, third.run, true), 404);
    await refused(client.runs.cancel(thread, uuid(), true), 404);
    assert.equal(onlyText(await read(start(thread, "say after all"))), "after all");
  },

  async disconnects() {
    for (const onDisconnect of ["cancel", "continue", undefined]) {
      const thread = await newThread();
      const gate = uuid();
      let run;
      const stream = follow((signal) => start(thread, `say one two |${gate}| three`, { onDisconnect, signal, onRunCreated: (made) => (run = made.run_id) }));
      await until(() => shows(stream.check(), "two"), "the first words");
      await stream.stop();
      if (onDisconnect === "cancel") {
        await ended(thread, run);
        assert.equal(await statusOf(thread, run), "interrupted");
      } else {
        openGate(gate);
        assert.equal((await client.runs.join(thread, run)).messages.at(-1).content, "one two three");
        assert.equal(await statusOf(thread, run), "success");
      }
    }
    // A joiner's end cancels only if it asks for that.
    const thread = await newThread();
    const { run } = await waiting(thread);
    await shown(thread, run, "two");
    assert.equal(await statusOf(thread, run), "running");
    const stream = follow((signal) => client.runs.joinStream(thread, run, { signal, cancelOnDisconnect: true, lastEventId: "-1" }));
    await until(() => shows(stream.check(), "two"), "the first words");
    await stream.stop();
    await ended(thread, run);
    assert.equal(await statusOf(thread, run), "interrupted");
  },

  async strategies() {
    const busy = async () => {
      const thread = await newThread();
      const { run, gate } = await waiting(thread, "busy now");
      await shown(thread, run, "now");
      return { thread, run, gate };
    };
    const rejecting = async () => {
      const { thread, run, gate } = await busy();
      await refused(client.runs.create(thread, "agent", { input: human("say no"), multitaskStrategy: "reject" }), 409);
      openGate(gate);
      await ended(thread, run);
    };
    const queueing = async () => {
      const { thread, run, gate } = await busy();
      const second = await client.runs.create(thread, "agent", { input: human("say queued"), streamMode: TUPLES, multitaskStrategy: "enqueue" });
      assert.equal(second.status, "pending");
      assert.equal(await statusOf(thread, second.run_id), "pending");
      assert.deepEqual((await client.runs.list(thread, { status: "pending" })).map((each) => each.run_id), [second.run_id]);
      const joined = read(client.runs.joinStream(thread, second.run_id, { lastEventId: "-1" }));
      const third = await client.runs.create(thread, "agent", { input: human("say never"), multitaskStrategy: "enqueue" });
      await client.runs.cancel(thread, third.run_id);
      openGate(gate);
      await ended(thread, run);
      const frames = await joined;
      assert.equal(onlyText(frames), "queued");
      assert.deepEqual(contents(last(frames)).filter((_, at) => at % 2), ["busy now end", "queued"]);
      await ended(thread, third.run_id).catch((error) => assert.equal(error.status, 404));
      assert.ok(!JSON.stringify((await client.threads.getState(thread)).values).includes("never"));
    };
    const interrupting = async () => {
      const { thread, run } = await busy();
      const frames = await read(start(thread, "say on top", { multitaskStrategy: "interrupt" }));
      assert.equal(onlyText(frames), "on top");
      assert.equal(await statusOf(thread, run), "interrupted");
      assert.equal(last(frames).messages.length, 3);
      assert.match(contents(last(frames))[0], /busy now/);
    };
    const rollingBack = async () => {
      const { thread, run } = await busy();
      const frames = await read(start(thread, "say instead", { multitaskStrategy: "rollback" }));
      assert.equal(onlyText(frames), "instead");
      assert.deepEqual(contents(last(frames)), ["say instead", "instead"]);
      await refused(client.runs.get(thread, run), 404);
    };
    await Promise.all([rejecting(), queueing(), interrupting(), rollingBack()]);
  },

  async tools() {
    const frames = await read(start(await newThread(), "tool Oslo"));
    const chunks = frames.filter((frame) => frame.event === "messages").map((frame) => frame.data[0]);
    const parts = chunks.flatMap((each) => each.tool_call_chunks ?? []);
    assert.equal(parts[0].name, "weather");
    assert.ok(parts[0].id);
    assert.ok(parts.slice(1).every((each) => !each.name && !each.id && each.index === parts[0].index));
    assert.deepEqual(JSON.parse(parts.map((each) => each.args).join("")), { city: "Oslo" });
    const result = chunks.find((each) => each.type === "tool");
    assert.deepEqual([result.content, result.tool_call_id], ["sunny in Oslo", parts[0].id]);
    const messages = last(frames).messages;
    assert.deepEqual(messages.map((each) => each.type), ["human", "ai", "tool", "ai"]);
    assert.deepEqual(messages[1].tool_calls.map((each) => [each.name, each.args]), [["weather", { city: "Oslo" }]]);
    assert.equal(messages[2].id, result.id);
    assert.equal(messages[3].content, "It is sunny in Oslo.");
    assert.equal(texts(frames)[messages[3].id], "It is sunny in Oslo.");
    const usage = chunks.filter((each) => each.id === messages[3].id).findLast((each) => each.usage_metadata);
    assert.ok(usage.usage_metadata.total_tokens > 0);
    assert.deepEqual(messages[3].usage_metadata.total_tokens, usage.usage_metadata.total_tokens);
    assert.ok(chunks.some((each) => each.id === messages[3].id && each.chunk_position === "last"));
  },

  async reasoning() {
    for (const [word, thought] of [["think", "Let me think."], ["ponder", "Hm, so."]]) {
      const frames = await read(start(await newThread(), `${word} Fine then.`));
      const chunks = frames.filter((frame) => frame.event === "messages").map((frame) => frame.data[0]);
      const thoughts = chunks.map((each) => each.additional_kwargs?.reasoning_content ?? (Array.isArray(each.content) ? each.content.map((block) => block.reasoning ?? "").join("") : ""));
      assert.equal(thoughts.join(""), thought);
      assert.equal(onlyText(frames), "Fine then.");
      assertOrder(frames);
    }
  },

  async parallel() {
    const frames = await read(start(await newThread(), "both a b c d e f"));
    assertOrder(frames);
    assert.deepEqual(Object.values(texts(frames)), ["a b c d e f", "a b c d e f"]);
    assert.deepEqual(new Set(frames.filter((frame) => frame.event === "messages").map((frame) => frame.data[1].langgraph_node)), new Set(["left", "right"]));
    // A retried node leaves the values in order, as the reference does.
    const retried = await read(start(await newThread(), "retry once more"));
    assert.equal(last(retried).messages.at(-1).content, "once more");
    assert.equal(last(retried).messages.length, 2);
    assert.equal(texts(retried)[last(retried).messages.at(-1).id], "once more");
  },

  async durability() {
    const lengths = {};
    for (const durability of ["sync", "async", "exit"]) {
      const thread = await newThread();
      const frames = await read(start(thread, "steps a b", { durability }));
      assert.equal(last(frames).messages.at(-1).content, "a b", durability);
      lengths[durability] = (await client.threads.getHistory(thread, { limit: 20 })).length;
    }
    assert.equal(lengths.exit, 1);
    assert.ok(lengths.sync >= 4 && lengths.sync === lengths.async, JSON.stringify(lengths));
    if (options.reference) return; // it fails without LangSmith
    const frames = await read(start(await newThread(), "say ok", { feedbackKeys: ["user-score"] }));
    assert.equal(onlyText(frames), "ok");
    assert.ok(!names(frames).includes("error"));
  },

  async stateless() {
    let created;
    const frames = await read(client.runs.stream(null, "agent", { input: human("say alone"), streamMode: TUPLES, onRunCreated: (run) => (created = run) }));
    assert.equal(onlyText(frames), "alone");
    assert.equal(created.run_id, frames[0].data.run_id);
    assert.equal((await client.runs.wait(null, "agent", { input: human("say waited") })).messages.at(-1).content, "waited");
    const gate = uuid();
    const run = await client.runs.create(null, "agent", { input: human(`say |${gate}| x`) });
    assert.ok(run.run_id && run.thread_id);
    await client.threads.get(run.thread_id);
    openGate(gate);
    await until(() => client.threads.get(run.thread_id).then(() => false, (error) => error.status === 404), "the thread is deleted");
    await refused(client.runs.wait(null, "agent", { input: human("fail x"), raiseError: true }).catch((error) => Promise.reject(Object.assign(error, { status: error.status ?? 200, text: '{"detail": ""}' }))), 200);
  },

  async threadStream() {
    const thread = await newThread();
    const stream = follow((signal) => client.threads.joinStream(thread, { streamMode: ["run_modes"], signal }));
    const has = (text) => stream.check().some((frame) => frame.event === "values" && frame.data.messages?.at(-1)?.content === text);
    const gate = uuid();
    const run = await client.runs.create(thread, "agent", { input: human(`say one |${gate}| two`), streamMode: TUPLES });
    openGate(gate);
    await ended(thread, run.run_id);
    await client.runs.wait(thread, "agent", { input: human("say second"), streamMode: TUPLES });
    await until(() => has("second"), () => `the second run's values in ${names(stream.frames)}`);
    assert.ok(has("one two"));
    assert.equal(stream.frames.filter((frame) => frame.event === "metadata").length, 2, `${names(stream.frames)}`);
    await stream.stop();
  },

  async lateReader() {
    const thread = await newThread();
    const frames = await read(start(thread, "count", { streamResumable: true }));
    const whole = Array.from({ length: 3000 }, (_, n) => `w${n} `).join("");
    assert.equal(onlyText(frames), whole);
    const run = frames[0].data.run_id;
    const late = await read(client.runs.joinStream(thread, run, { lastEventId: "-1" }));
    assert.deepEqual(late, frames);
    if (options.reference) return; // an error frame in a stream
    await refused(read(client.runs.joinStream(thread, uuid(), { lastEventId: "-1" })), 404);
    await refused(read(client.runs.joinStream(uuid(), run, { lastEventId: "-1" })), 404);
  },

  async inputOnInterrupted() {
    const thread = await newThread();
    await read(start(thread, "ask"));
    const frames = await read(start(thread, "say something else"));
    assert.equal(onlyText(frames), "something else");
    assert.ok(!("__interrupt__" in last(frames)));
    assert.deepEqual(contents(last(frames)), ["ask", "say something else", "something else"]);
    assert.equal((await client.threads.get(thread)).status, "idle");
    assert.deepEqual((await client.threads.getState(thread)).next, []);
  },

  async halfAnswers() {
    const thread = await newThread();
    await read(start(thread, "two", { streamMode: ["values"] }));
    const [first, second] = (await client.threads.getState(thread)).tasks.flatMap((task) => task.interrupts);
    const frames = await read(client.runs.stream(thread, "agent", { command: { resume: { [first.id]: "1" } }, streamMode: ["values"] }));
    if (!options.reference) assert.deepEqual(last(frames).__interrupt__.map((each) => each.id), [second.id]);
    await idle(thread);
    const open = (await client.threads.getState(thread)).tasks.flatMap((task) => (task.result ? [] : task.interrupts));
    assert.deepEqual(open.map((each) => each.id), [second.id]);
    assert.equal((await client.threads.get(thread)).status, "interrupted");
    const rest = await read(client.runs.stream(thread, "agent", { command: { resume: { [second.id]: "2" } }, streamMode: ["values"] }));
    assert.deepEqual(contents(last(rest)).slice(1).sort(), ["a: 1", "b: 2"]);
  },

  async twoAnswersAtOnce() {
    const thread = await newThread();
    await read(start(thread, "ask"));
    const answer = (value) => client.runs.wait(thread, "agent", { command: { resume: value }, multitaskStrategy: "reject" }).catch((error) => error);
    const found = await Promise.all(["one", "two"].map(answer));
    const answers = contents((await client.threads.getState(thread)).values).slice(1);
    assert.equal(answers.length, 1, JSON.stringify(answers));
    assert.ok(found.some((each) => each.messages?.at(-1).content === answers[0]));
  },

  async commands() {
    const thread = await newThread();
    await read(start(thread, "say one"));
    const command = { update: { messages: [{ type: "human", content: "say jumped", id: uuid() }] }, goto: "second" };
    const frames = await read(client.runs.stream(thread, "agent", { command, streamMode: TUPLES }));
    assert.equal(onlyText(frames), "jumped");
    assert.deepEqual(contents(last(frames)), ["say one", "one", "say jumped", "jumped"]);
    assert.equal(last(frames).note, "second");
    await refused(client.runs.create(thread, "agent", { command: { goto: 7 } }), 422).catch((error) => {
      if (!options.reference) throw error;
    });
  },

  async configs() {
    const thread = await newThread();
    const short = await read(start(thread, "steps a", { config: { recursion_limit: 1 } }));
    assert.equal(last(short, "error").error, "GraphRecursionError");
    const whole = await read(start(thread, "say one"));
    const history = await client.threads.getHistory(thread, { limit: 20 });
    const first = history.findLast((each) => each.next[0] === "__start__");
    const frames = await read(start(thread, "say forked", { config: { configurable: { checkpoint_id: first.checkpoint.checkpoint_id } } }));
    assert.deepEqual(contents(last(frames)).slice(-2), ["say forked", "forked"]);
    assert.ok(!contents(last(frames)).includes("one"));
    assert.ok(contents(last(whole)).includes("one"));
    const tagged = await client.runs.create(thread, "agent", { input: human("say x"), config: { tags: ["t"], metadata: { m: 1 } }, context: {}, metadata: { mine: true } });
    await ended(thread, tagged.run_id);
    assert.equal((await client.runs.get(thread, tagged.run_id)).metadata.mine, true);
    assert.equal(await statusOf(thread, tagged.run_id), "success");
  },

  async deepInterrupt() {
    const thread = await newThread();
    const modes = ["values", "updates", "messages-tuple"];
    const frames = await read(start(thread, "deep", { streamMode: modes, streamSubgraphs: true }));
    const [asked] = last(frames).__interrupt__;
    assert.deepEqual(asked.value, { question: "Go on?" });
    const state = await client.threads.getState(thread, undefined, { subgraphs: true });
    assert.deepEqual(state.next, ["deep"]);
    const inner = state.tasks[0].state;
    assert.deepEqual(inner.next, ["ask"]);
    assert.equal(inner.values.note, "first");
    assert.equal(inner.tasks[0].interrupts[0].id, asked.id);
    const space = inner.checkpoint.checkpoint_ns;
    assert.match(space, /^deep:/);
    const history = await client.threads.getHistory(thread, { checkpoint: { checkpoint_ns: space } });
    assert.ok(history.length >= 2 && history.every((each) => each.checkpoint.checkpoint_ns === space));
    const rest = await read(client.runs.stream(thread, "agent", { command: { resume: "deep yes" }, streamMode: modes, streamSubgraphs: true }));
    assert.equal(last(rest).messages.at(-1).content, "answer: deep yes");
    assert.equal((await client.threads.get(thread)).status, "idle");
  },

  async otherModes() {
    const frames = await read(start(await newThread(), "tool Oslo", { streamMode: ["events", "values", ...(options.reference ? [] : ["tools"])] }));
    const events = frames.filter((frame) => frame.event === "events").map((frame) => frame.data);
    const kinds = new Set(events.map((each) => each.event));
    for (const kind of ["on_chat_model_stream", "on_chat_model_end", "on_tool_start", "on_tool_end"]) assert.ok(kinds.has(kind), `${kind} of ${[...kinds]}`);
    const text = events.filter((each) => each.event === "on_chat_model_stream").map((each) => each.data.chunk.content);
    assert.equal(text.join(""), "It is sunny in Oslo.");
    const tool = events.find((each) => each.event === "on_tool_start");
    assert.equal(tool.name, "weather");
    assert.deepEqual(tool.data.input, { city: "Oslo" });
    if (options.reference) return; // it refuses the mode
    const tools = frames.filter((frame) => frame.event === "tools").map((frame) => frame.data);
    assert.deepEqual(tools.map((each) => each.event), ["on_tool_start", "on_tool_end"]);
    assert.equal(tools[0].name, "weather");
    assert.equal(tools[0].toolCallId, tools[1].toolCallId);
  },

  async oddText() {
    const odd = "a\u2028b\u0085c\u2029 💥 \\ \"q\" <b>&amp; \t end: [DONE] data: x";
    const frames = await read(start(await newThread(), `say ${odd}`));
    assert.equal(onlyText(frames), odd);
    assert.equal(last(frames).messages.at(-1).content, odd);
    const lines = await read(start(await newThread(), "say one\n\ntwo\r\nthree\rfour"));
    assert.equal(onlyText(lines), "one\n\ntwo\r\nthree\rfour");
    assertOrder(lines);
  },

  async largeState() {
    const thread = await newThread();
    await read(start(thread, "big"));
    const frames = await read(start(thread, "say small", { streamResumable: true }));
    assertOrder(frames);
    assert.ok(frames.filter((frame) => frame.event === "values").every((frame) => frame.data.messages.some((each) => each.content.length === 100000)));
    const late = await read(client.runs.joinStream(thread, frames[0].data.run_id, { lastEventId: "-1" }));
    assert.deepEqual(late, frames);
  },

  async cancelMany() {
    const thread = await newThread();
    const { run } = await waiting(thread);
    await shown(thread, run, "two");
    const queued = await client.runs.create(thread, "agent", { input: human("say never"), multitaskStrategy: "enqueue" });
    await client.runs.cancelMany({ threadId: thread, runIds: [queued.run_id, run] });
    await ended(thread, run);
    assert.equal(await statusOf(thread, run), "interrupted");
    await ended(thread, queued.run_id).catch((error) => assert.equal(error.status, 404));
    assert.ok(!JSON.stringify((await client.threads.getState(thread)).values).includes("never"));
  },

  async service() {
    const info = await (await fetch(`${url}/info`)).json();
    assert.ok(info.version && info.flags.assistants === true);
    assert.equal((await (await fetch(`${url}/ok`)).json()).ok, true);
    for (const [method, path] of [["GET", "/threads/x/no-such"], ["PUT", "/threads"]]) {
      const response = await fetch(url + path, { method });
      assert.ok([404, 405].includes(response.status));
      if (!options.reference) assert.equal(typeof (await response.json()).detail, "string");
    }
  },
};

await runChecks(checks);
