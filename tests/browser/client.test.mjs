// What of the module needs no server: options, waits, and that Node can import it.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff, StreamingError, createClient, subscribe } from "../../lg_streaming/static/lg-streaming.js";

const url = "http://127.0.0.1:9";
const nothing = () => {};

test("waits grow up to a limit, a part of each is left to chance, and a success begins anew", () => {
  const table = [
    [{ jitter: 0 }, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]],
    [{ jitter: 0, initial: 100, factor: 3, max: 1000 }, [100, 300, 900, 1000]],
    [{ random: () => 0 }, [1000, 2000, 4000, 8000]],
    [{ random: () => 1 }, [500, 1000, 2000, 4000]],
    [{ random: () => 0.5, jitter: 1 }, [500, 1000, 2000]],
    [{ initial: 0, jitter: 0 }, [0, 0, 0]],
    [{ jitter: 0, factor: 10, max: 30_000, initial: 1 }, [1, 10, 100, 1000, 10_000, 30_000]],
  ];
  for (const [options, waits] of table) {
    const backoff = new Backoff(options);
    assert.deepEqual(waits.map(() => backoff.next()), waits);
    assert.equal(backoff.attempt, waits.length);
    backoff.reset();
    assert.equal(backoff.next(), waits[0]);
  }
});

test("a wait is never too long, however many there were", () => {
  const backoff = new Backoff({ jitter: 0 });
  for (let attempt = 0; attempt < 5000; attempt += 1) assert.ok(backoff.next() <= 30_000);
});

test("what the server asks for wins, and counts as an attempt", () => {
  const backoff = new Backoff({ jitter: 0 });
  assert.equal(backoff.next(1234), 1234);
  assert.equal(backoff.next(), 2000);
});

test("two clients do not come back together", () => {
  const waits = new Set(Array.from({ length: 100 }, () => new Backoff().next()));
  assert.ok(waits.size > 50);
});

test("an option that there is not is refused by its name, with those there are", () => {
  const client = createClient({ url });
  const refused = [
    [() => createClient({ url, tokne: "t" }), /createClient has no option "tokne": use url, transport/],
    [() => client.subscribe("exec-1", { event: ["token"] }), /subscribe has no option "event": use events/],
    [() => client.subscribe("exec-1", { toString: nothing }), /no option "toString"/],
    [() => client.subscribe("exec-1", { events: "token" }), /events of subscribe is a list of texts/],
    [() => client.subscribe("exec-1", { onUpdate: 1 }), /onUpdate of subscribe is function/],
    [() => client.subscribe("exec-1", { gap: "never" }), /gap of subscribe is "oldest", "tail", "fail"/],
    [() => client.subscribe("exec 1"), /execution id/],
    [() => client.subscribe(undefined), /execution id/],
    [() => createClient({ url, transport: "carrier pigeon" }), /transport of createClient is "auto"/],
    [() => createClient({ url, backoff: { intial: 1 } }), /backoff has no option "intial"/],
    [() => createClient({}), /the option url is needed/],
    [() => subscribe("exec-1", { url, evnets: [] }), /no option "evnets"/],
  ];
  for (const [make, message] of refused) assert.throws(make, { name: "TypeError", message });
  client.subscribe("exec-1", { events: undefined }).close();
});

test("a list of executions takes its options to the address, and refuses others", async () => {
  const asked = [];
  const fetch = async (address) => (asked.push(address), new Response(JSON.stringify({ executions: [], next_cursor: null })));
  const client = createClient({ url, fetch });
  const filters = { state: ["running", "failed"], text: "a b", owner: "" };
  assert.deepEqual(await client.executions({ ...filters, order: "newest", limit: 5 }), { executions: [], next_cursor: null });
  await client.executions({ ids: ["a,b", "c"] });
  assert.deepEqual(asked, [
    `${url}/executions?text=a+b&order=newest&limit=5&state=running%2Cfailed`,
    `${url}/executions?id=a%2Cb&id=c`,
  ]);
  await assert.rejects(client.executions({ sort: "cost" }), { name: "TypeError", message: /executions has no option "sort"/ });
  await assert.rejects(client.executions({ ids: ["a b"] }), { name: "TypeError", message: /execution id/ });
  assert.throws(() => client.watchExecutions({ onUpdate() {} }), /watchExecutions has no option "onUpdate"/);
});

test("a watch without WebSockets polls, reports new executions and those that it shows, and ends when it is closed", async () => {
  const answers = { newest: [{ execution_id: "new" }], shown: [{ execution_id: "old" }] };
  const asked = [];
  const fetch = async (address) => {
    asked.push(new URL(address).search);
    const executions = address.includes("id=") ? answers.shown : answers.newest;
    return new Response(JSON.stringify({ executions, next_cursor: null }));
  };
  const client = createClient({ url, fetch, transport: "polling", pollInterval: 1 });
  const states = [];
  const changes = [];
  await new Promise((resolve) => {
    const watch = client.watchExecutions({
      interval: 1,
      owner: "ann",
      shown: () => ["new", "old", "gone"],
      onState: (state) => states.push(state),
      onChange: (executions, gone) => {
        changes.push([executions.map((one) => one.execution_id), gone]);
        if (changes.length === 4) watch.close();
        if (changes.length === 4) resolve();
      },
    });
  });
  assert.deepEqual(changes.slice(0, 2), [[["new"], []], [["old"], ["gone"]]]);
  assert.deepEqual(changes.slice(2), changes.slice(0, 2));
  assert.deepEqual(states, ["polling", "closed"]);
  assert.deepEqual(asked.slice(0, 2), ["?owner=ann&order=newest", "?owner=ann&id=old&id=gone"]);
});

test("a subscription that is closed at once asks for nothing", async () => {
  const asked = [];
  const fetch = async (address) => (asked.push(address), new Response("{}"));
  const states = [];
  const client = createClient({ url, fetch, transport: "polling" });
  const subscription = client.subscribe("exec-1", { onState: (state) => states.push(state) });
  subscription.close();
  subscription.close();
  await subscription.done;
  const aborted = client.subscribe("exec-2", { signal: AbortSignal.abort(), onState: (state) => states.push(state) });
  await aborted.done;
  assert.deepEqual(states, ["closed", "closed"]);
  assert.deepEqual([aborted.state, asked], ["closed", []]);
});

// Answers polls one after another; a function is called, and the last one is for all that follow.
function answering(...answers) {
  const asked = [];
  const fetch = async (address, request) => {
    asked.push({ address: new URL(address), ...request });
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (answer instanceof Error) throw answer;
    return answer();
  };
  return { asked, fetch };
}

const json = (status, content) => () => new Response(JSON.stringify(content), { status });
const refusal = (status, error) => json(status, { error: { name: "x", message: "no", ...error } });
const page = (more) => json(200, { updates: [], position: null, ended: false, more: false, ...more });
const note = (number) => ({
  type: "note", data: number, metadata: { sequence_number: number, epoch: "e", execution_id: "exec-1", timestamp: "" },
});
const quick = { backoff: { initial: 1, max: 20, jitter: 0 }, pollInterval: 0, transport: "polling", url };

test("attempts have an end where one is wanted", async () => {
  const { asked, fetch } = answering(new TypeError("no network"));
  const states = [];
  const client = createClient({ ...quick, fetch, maxAttempts: 3 });
  const onState = (state, { attempt, delay }) => states.push([state, attempt, delay]);
  const subscription = client.subscribe("exec-1", { onState });
  const error = await subscription.done.catch((one) => one);
  assert.ok(error instanceof StreamingError);
  assert.deepEqual([error.code, error.codeName, error.retryable], [null, "unreachable", true]);
  assert.deepEqual(states, [
    ["connecting", undefined, undefined],
    ["reconnecting", 1, 1],
    ["reconnecting", 2, 2],
    ["reconnecting", 3, 4],
    ["failed", undefined, undefined],
  ]);
  assert.equal(asked.length, 4);
});

test("what makes no sense to try again fails at once, with the server's error", async () => {
  for (const [status, code] of [[400, 4000], [403, 4030], [401, 4010]]) {
    const { asked, fetch } = answering(refusal(status, { code, retryable: false }));
    const errors = [];
    const onError = (error) => errors.push(error);
    const subscription = createClient({ ...quick, fetch }).subscribe("exec-1", { onError });
    await assert.rejects(subscription.done, { code, status, message: "no" });
    assert.deepEqual([subscription.state, asked.length, errors.length], ["failed", 1, 1]);
  }
});

test("the server says when to come back", async () => {
  const { fetch } = answering(refusal(503, { code: 4500, retryable: true, retry_after_ms: 7 }), page({ ended: true }));
  const delays = [];
  await createClient({ ...quick, fetch }).subscribe("exec-1", { onState: (_, { delay }) => delays.push(delay) }).done;
  assert.ok(delays.includes(7));
});

test("a token that is made is made afresh after it was refused, once", async () => {
  let made = 0;
  const token = () => `t${(made += 1)}`;
  const wrong = refusal(401, { code: 4011, retryable: false });
  const first = answering(wrong, page({ ended: true }));
  await createClient({ ...quick, fetch: first.fetch, token }).subscribe("exec-1").done;
  assert.deepEqual(first.asked.map(({ headers }) => headers.Authorization), ["Bearer t1", "Bearer t2"]);
  const never = answering(wrong);
  await assert.rejects(createClient({ ...quick, fetch: never.fetch, token }).subscribe("exec-1").done, { code: 4011 });
  assert.equal(never.asked.length, 2);
  const fixed = answering(wrong);
  await assert.rejects(createClient({ ...quick, fetch: fixed.fetch, token: "t" }).subscribe("exec-1").done, { code: 4011 });
  assert.equal(fixed.asked.length, 1);
});

test("a page's token function that fails is tried again", async () => {
  let asked = 0;
  const token = async () => {
    asked += 1;
    if (asked === 1) throw new Error("the login is away");
    return "t";
  };
  const { fetch } = answering(page({ ended: true }));
  const errors = [];
  const onState = (_, { error }) => error && errors.push(error);
  await createClient({ ...quick, fetch, token }).subscribe("exec-1", { onState }).done;
  assert.deepEqual(errors.map(({ codeName, cause }) => [codeName, cause.message]), [["token", "the login is away"]]);
});

test("a callback that throws breaks nothing", async () => {
  const reported = [];
  globalThis.reportError = (error) => reported.push(error.message);
  const updates = [1, 2].map(note);
  const { fetch } = answering(page({ updates, position: "e:2", ended: true }));
  const seen = [];
  const onUpdate = ({ data }) => {
    seen.push(data);
    throw new Error(`callback ${data}`);
  };
  await createClient({ ...quick, fetch }).subscribe("exec-1", { onUpdate }).done;
  delete globalThis.reportError;
  assert.deepEqual([seen, reported], [[1, 2], ["callback 1", "callback 2"]]);
});

test("each update comes once, whatever comes again, and what follows the last one is asked for", async () => {
  const { asked, fetch } = answering(
    page({ updates: [1, 2].map(note), position: "e:2", more: true }),
    new TypeError("cut"),
    page({ updates: [2, 3].map(note), position: "e:5", more: true }),
    page({ updates: [], position: "e:5", ended: true }),
  );
  const seen = [];
  const batches = [];
  const onUpdate = ({ data }) => seen.push(data);
  const onUpdates = (updates) => batches.push(updates.length);
  const subscription = createClient({ ...quick, fetch }).subscribe("exec-1", { onUpdate, onUpdates });
  await subscription.done;
  assert.deepEqual([seen, batches], [[1, 2, 3], [2, 1]]);
  assert.deepEqual(asked.map(({ address }) => address.searchParams.get("after")), [null, "e:2", "e:2", "e:5"]);
  assert.equal(subscription.position, "e:5");
});

test("a page that closes in the middle has a position that fits what it was given", async () => {
  const updates = [1, 2, 3].map(note);
  const { fetch } = answering(page({ updates, position: "e:3" }));
  const seen = [];
  const subscription = createClient({ ...quick, fetch }).subscribe("exec-1", {
    onUpdate: ({ data }) => {
      seen.push(data);
      if (data === 2) subscription.close();
    },
  });
  await subscription.done;
  assert.deepEqual([seen, subscription.position], [[1, 2], "e:2"]);
});

test("filters travel under their names on the wire, and an id may hold anything", async () => {
  const { asked, fetch } = answering(page({ ended: true }));
  await createClient({ ...quick, fetch, url: `${url}/live/` }).subscribe("acme/run?1", {
    events: ["token", "task:*"], nodeIds: ["a"], agentTypes: ["b"], categories: ["c"], minPriority: "high",
    since: "2026-11-20T20:00:00Z", until: "2026-11-21T20:00:00Z", after: "e:1", gap: "tail", merge: false,
  }).done;
  const [{ address }] = asked;
  assert.equal(address.pathname, "/live/executions/acme%2Frun%3F1/updates");
  assert.deepEqual(Object.fromEntries(address.searchParams), {
    events: "token,task:*", node_ids: "a", agent_types: "b", categories: "c", min_priority: "high",
    since: "2026-11-20T20:00:00Z", until: "2026-11-21T20:00:00Z", after: "e:1", on_gap: "tail", limit: "1000",
  });
});

test("a page starts, steers and answers by HTTP requests", async () => {
  const { asked, fetch } = answering(json(200, { execution_id: "acme/1", graphs: [{ name: "research" }] }));
  const client = createClient({ ...quick, fetch, url: `${url}/live/` });
  const started = await client.start("research", { question: "Why?" }, {
    executionId: "acme/1", threadId: "t", config: { tags: ["a"] }, context: null, metadata: { a: 1 },
    ifRunning: "enqueue", onDisconnect: "cancel", deadline: 1500, idempotencyKey: "k",
  });
  assert.equal(started.execution_id, "acme/1");
  assert.deepEqual(await client.graphs(), [{ name: "research" }]);
  await client.respond("acme/1", "p", { any: "thing" });
  await client.cancel("acme/1", "a & b");
  await client.pause("acme/1", "a look");
  await client.pause("acme/1");
  await client.resume("acme/1");
  await client.inject("acme/1", { tone: "short" }, { asNode: "plan" });
  const place = "/live/executions/acme%2F1";
  const sent = asked.map(({ method, address, body }) => [method, address.pathname + address.search, body && JSON.parse(body)]);
  assert.deepEqual(sent, [
    ["POST", "/live/executions", {
      graph: "research", input: { question: "Why?" }, execution_id: "acme/1", thread_id: "t", config: { tags: ["a"] },
      context: null, metadata: { a: 1 }, if_running: "enqueue", on_disconnect: "cancel", deadline: 1.5, idempotency_key: "k",
    }],
    ["GET", "/live/graphs", undefined],
    ["POST", `${place}/responses`, { prompt_id: "p", response: { any: "thing" } }],
    ["DELETE", `${place}?reason=a+%26+b`, undefined],
    ["POST", `${place}/pause?reason=a+look`, undefined],
    ["POST", `${place}/pause`, undefined],
    ["POST", `${place}/resume`, undefined],
    ["POST", `${place}/inputs`, { input: { tone: "short" }, as_node: "plan" }],
  ]);
  await assert.rejects(client.start("research", {}, { execution_id: "a" }), /start has no option "execution_id"/);
  await assert.rejects(client.start("research", {}, { ifRunning: "wait" }), /ifRunning of start is "reject"/);
  await assert.rejects(client.pause("exec 1"), /execution id/);
});

// A WebSocket whose server is the test: `said` is what the client sends, `say` what it hears.
class FakeWebSocket {
  static all = [];
  said = [];

  constructor(address) {
    this.address = address;
    FakeWebSocket.all.push(this);
    queueMicrotask(() => this.say("connection_status", { status: "connected", heartbeat_interval_s: null }));
  }

  send(text) {
    this.said.push(JSON.parse(text));
  }

  say(type, payload, more = {}) {
    this.onmessage({ data: JSON.stringify({ type, payload, ...more }) });
  }

  answer(index, payload) {
    this.say("reply", { ok: true, ...payload }, { id: this.said[index].id });
  }

  close(code) {
    this.closedWith = code;
  }
}

const soon = () => new Promise((resolve) => setTimeout(resolve, 5));

test("what was on its way to an earlier subscription is not taken for the next one's", async () => {
  const client = createClient({ url, transport: "websocket", WebSocket: FakeWebSocket });
  const other = client.subscribe("exec-2");
  const first = client.subscribe("exec-1");
  await soon();
  const [socket] = FakeWebSocket.all;
  assert.deepEqual(socket.said.map(({ type, payload }) => [type, payload.execution_id]), [
    ["subscribe_execution", "exec-2"],
    ["subscribe_execution", "exec-1"],
  ]);
  socket.answer(1, { position: "e:9" });
  const updates = (...numbers) => socket.say("updates", { execution_id: "exec-1", updates: numbers.map(note) });
  updates(1);
  first.close();
  const seen = [];
  const second = client.subscribe("exec-1", { onUpdate: ({ data }) => seen.push(data) });
  await soon();
  updates(2, 3);
  socket.answer(3, { position: "e:9" });
  updates(1, 2, 3);
  assert.deepEqual(seen, [1, 2, 3]);
  assert.deepEqual(socket.said.slice(2).map(({ type }) => type), ["unsubscribe_execution", "subscribe_execution"]);
  second.close();
  assert.equal(socket.closedWith, undefined);
  other.close();
  assert.equal(socket.closedWith, 1000);
  assert.equal(FakeWebSocket.all.length, 1);
});

test("over an open WebSocket a page starts and steers by messages", async () => {
  FakeWebSocket.all = [];
  const client = createClient({ url, transport: "websocket", WebSocket: FakeWebSocket });
  client.subscribe("exec-1");
  await soon();
  const [socket] = FakeWebSocket.all;
  const answers = [
    client.start("research", { question: "Why?" }, { deadline: 2000 }),
    client.respond("exec-1", "p", true),
    client.cancel("exec-1", "enough"),
    client.pause("exec-1"),
    client.resume("exec-1"),
    client.inject("exec-1", { tone: "short" }),
  ];
  const sent = socket.said.slice(1);
  const here = { execution_id: "exec-1" };
  assert.deepEqual(sent.map(({ type, payload }) => [type, payload]), [
    ["start_execution", { graph: "research", input: { question: "Why?" }, deadline: 2 }],
    ["respond", { ...here, prompt_id: "p", response: true }],
    ["cancel_execution", { ...here, reason: "enough" }],
    ["pause_execution", here],
    ["resume_execution", here],
    ["inject_input", { ...here, input: { tone: "short" } }],
  ]);
  sent.forEach((_, index) => socket.answer(index + 1, { execution_id: `exec-${index}` }));
  const ids = (await Promise.all(answers)).map(({ execution_id: id }) => id);
  assert.deepEqual(ids, sent.map((_, index) => `exec-${index}`));
  client.close();
});
