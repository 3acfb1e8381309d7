// Servers that say what they should not, storages that hold what is not ours, and pages whose functions never answer.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Backoff, createClient } from "../../lg_streaming/static/lg-streaming.js";

const url = "http://127.0.0.1:9";
const quick = { backoff: { initial: 1, max: 20, jitter: 0 }, pollInterval: 0, transport: "polling", url };
const metadata = (number) => ({ sequence_number: number, epoch: "e", execution_id: "exec-1", timestamp: "" });
const note = (number) => ({ type: "note", data: number, metadata: metadata(number) });
const page = (more) => ({ updates: [], position: null, ended: false, more: false, ...more });

// Answers polls with these one after another, and then that nothing more comes.
function serving(...answers) {
  const asked = [];
  const fetch = async (address) => {
    asked.push(new URL(address).searchParams.get("after"));
    const { status = 200, ...content } = answers.shift() ?? page({ ended: true });
    return new Response(content.text ?? JSON.stringify(content), { status });
  };
  return { asked, fetch };
}

test("no number of a server's makes a client storm it, nor stay away for good", () => {
  const backoff = () => new Backoff({ jitter: 0, initial: 1000, max: 30_000 });
  for (const [hint, wait] of [
    [1e300, 3_600_000], [2 ** 31, 3_600_000], [-5, 0], [Infinity, 1000], [NaN, 1000], ["7", 1000], [{}, 1000], [null, 1000],
  ]) {
    assert.equal(backoff().next(hint), wait);
  }
  const often = backoff();
  assert.deepEqual([0, 0, 0, 9000].map((hint) => often.next(hint)), [0, 2000, 4000, 9000]);
});

test("a time that a browser would take for none is refused", () => {
  for (const option of ["openTimeout", "pollInterval", "upgradeInterval"]) {
    for (const time of [Infinity, 2 ** 31]) {
      assert.throws(() => createClient({ url, [option]: time }), new RegExp(`${option} of createClient is a number, 0 to`));
    }
  }
  createClient({ url, maxAttempts: Infinity, openTimeout: 2 ** 31 - 1 });
});

test("an id that leads elsewhere in an address is refused", () => {
  const client = createClient({ url });
  for (const id of [".", "..", "\ud800", ""]) assert.throws(() => client.subscribe(id), /execution id/);
  for (const id of ["...", "a..", "🙂", "../x"]) client.subscribe(id).close();
});

test("what is no update of this execution is told, and those beside it come", async () => {
  const strange = [
    null, 7, {}, { type: "note" }, { ...note(2), type: 7 }, { ...note(2), metadata: null },
    ...[{ execution_id: "another" }, { epoch: 7 }, { sequence_number: "2" }, { sequence_number: 1.5 }].map((wrong) => (
      { ...note(2), metadata: { ...metadata(2), ...wrong } }
    )),
  ];
  const { asked, fetch } = serving(page({ updates: [...strange, note(1), ...strange, note(2)], position: "nonsense" }));
  const seen = [];
  const errors = [];
  const subscription = createClient({ ...quick, fetch }).subscribe("exec-1", {
    onUpdate: ({ data }) => seen.push(data),
    onError: ({ codeName }) => errors.push(codeName),
  });
  await subscription.done;
  assert.deepEqual(seen, [1, 2]);
  assert.deepEqual(errors, Array(2 * strange.length).fill("malformed"));
  assert.deepEqual([subscription.position, ...asked], ["e:2", null, "e:2"]);
});

test("answers of another form count as a connection that failed", async () => {
  const strange = [page({ updates: 7 }), { text: "null" }, { text: "[]" }, { text: "{" }, { status: 503, text: "null" }];
  const { asked, fetch } = serving(...strange);
  const errors = [];
  const onState = (_, { error }) => error && errors.push(error.codeName);
  await createClient({ ...quick, fetch }).subscribe("exec-1", { onState }).done;
  assert.equal(asked.length, strange.length + 1);
  assert.equal(errors.length, strange.length);
  assert.equal(errors.at(-1), "http");
});

test("what another program has put into the storage is passed over", async () => {
  const kept = (content) => ({ getItem: () => JSON.stringify(content), setItem() {}, removeItem() {} });
  const ours = { request: JSON.stringify(["exec-1", {}, false]), texts: { attempts: [], messages: [] } };
  const storages = [null, 7, [], ours, ...[7, "nonsense", "e:x", {}, true].map((position) => ({ ...ours, position }))].map(kept);
  const forbidden = () => {
    throw new Error("SecurityError");
  };
  storages.push({ getItem: forbidden, setItem: forbidden, removeItem: forbidden });
  for (const storage of storages) {
    const { asked, fetch } = serving(page({ updates: [note(1)], position: "e:1" }));
    const seen = [];
    const onUpdate = ({ data }) => seen.push(data);
    await createClient({ ...quick, fetch, storage }).subscribe("exec-1", { resume: true, onUpdate }).done;
    assert.deepEqual([seen, asked], [[1], [null, "e:1"]]);
  }
  const { asked, fetch } = serving();
  const storage = kept({ ...ours, position: "e:7" });
  await createClient({ ...quick, fetch, storage }).subscribe("exec-1", { resume: true }).done;
  assert.deepEqual(asked, ["e:7"]);
});

test("a function for a token that never answers counts as a failed attempt", async () => {
  const client = createClient({ ...quick, openTimeout: 5, maxAttempts: 1, token: () => new Promise(() => {}) });
  await assert.rejects(client.subscribe("exec-1").done, { codeName: "token" });
});

// ---------------------------------------------------------------- lines
class FakeWebSocket {
  said = [];

  constructor() {
    FakeWebSocket.last = this;
    queueMicrotask(() => this.say("connection_status", { status: "connected", heartbeat_interval_s: null }));
  }

  send(text) {
    this.said.push(JSON.parse(text));
  }

  say(type, payload, id) {
    this.onmessage({ data: JSON.stringify({ type, payload, id }) });
  }

  close() {}
}

const soon = () => new Promise((resolve) => setTimeout(resolve, 5));

test("who asks over a WebSocket that is left is told so, and does not wait for ever", async () => {
  const client = createClient({ url, transport: "websocket", WebSocket: FakeWebSocket });
  const subscription = client.subscribe("exec-1");
  await soon();
  const asking = client.cancel("exec-1");
  subscription.close();
  await assert.rejects(asking, { codeName: "lost" });
});

test("a refusal that says nothing ends in an error", async () => {
  for (const answer of [null, {}, { ok: false }, { ok: false, error: "no" }]) {
    const client = createClient({ url, transport: "websocket", WebSocket: FakeWebSocket, maxAttempts: 0 });
    const subscription = client.subscribe("exec-1");
    await soon();
    const asking = client.cancel("exec-1");
    await soon();
    const { said } = FakeWebSocket.last;
    FakeWebSocket.last.say("reply", answer, said[1].id);
    await assert.rejects(asking, { codeName: "malformed" });
    FakeWebSocket.last.say("reply", answer, said[0].id);
    await assert.rejects(subscription.done, { codeName: "malformed" });
  }
});

test("who asks over a socket of socket.io-client that is lost is told so", async () => {
  const listeners = new Map();
  const socket = {
    connected: true,
    active: true,
    emit: () => {},
    on: (name, does) => listeners.set(name, [...(listeners.get(name) ?? []), does]),
    off: (name, does) => listeners.set(name, (listeners.get(name) ?? []).filter((one) => one !== does)),
  };
  const asking = createClient({ url, socket }).cancel("exec-1");
  for (const does of listeners.get("disconnect")) does("transport close");
  await assert.rejects(asking, { codeName: "lost" });
  assert.deepEqual(listeners.get("disconnect"), []);
});

test("that the server began anew is told once, also to those who come back before anything came", async () => {
  for (const [gap, position] of [["oldest", "new:0"], ["tail", "new:7"]]) {
    const client = createClient({ ...quick, transport: "websocket", WebSocket: FakeWebSocket });
    const gaps = [];
    const subscription = client.subscribe("exec-1", { after: "old:5", gap, onGap: (one) => gaps.push(one) });
    await soon();
    const { last } = FakeWebSocket;
    last.say("reply", { ok: true, position: "new:7" }, last.said[0].id);
    last.say("gap", { execution_id: "exec-1", from: 6, to: null, reason: "epoch_changed" });
    last.onclose({ code: 1006 });
    while (FakeWebSocket.last === last || FakeWebSocket.last.said.length === 0) await soon();
    assert.deepEqual([last.said[0].payload.after, FakeWebSocket.last.said[0].payload.after], ["old:5", position]);
    assert.equal(gaps.length, 1);
    subscription.close();
  }
});
