// The stock React hook over event streaming: `useStream` of `@langchain/react`, in jsdom.

import { JSDOM } from "jsdom";
import WebSocket from "ws";

import { assert, client, human, newProxy, openGate, options, runChecks, textOf, until, url, uuid } from "../../langgraph/js/lib.mjs";

const dom = new JSDOM("<!doctype html>", { url });
globalThis.window = dom.window;
globalThis.document = dom.window.document;
globalThis.navigator ??= dom.window.navigator;

const { createElement, useLayoutEffect } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useChannel, useExtension, useMessageMetadata, useMessages, useStream } = await import("@langchain/react");

/** Show a page; its `stream` is what the hook returned last. `close` ends the page, as a browser does. */
async function open({ extra, ...props } = {}) {
  const page = { stream: null, shown: [] };
  const root = createRoot(document.createElement("div"));
  const given = { apiUrl: url, assistantId: "agent", transport: options.transport, webSocketFactory: (to) => new WebSocket(to), ...props };
  if (options.transport === "sse") delete given.webSocketFactory;
  function Page() {
    const stream = useStream({ ...given, threadId: page.thread ?? given.threadId ?? null, onThreadId: (id) => (page.thread = id) });
    useLayoutEffect(() => { // React may render without a commit
      page.stream = stream;
      page.thread ??= stream.threadId ?? undefined;
      const text = contents(stream.messages).join("\n");
      if (text !== page.shown.at(-1)) page.shown.push(text);
    });
    return extra ? createElement(extra, { stream, page }) : null;
  }
  root.render(createElement(Page));
  page.close = () => root.unmount();
  page.submit = (input, more) => page.stream.submit(input, more);
  page.idle = () => until(() => page.stream && !page.stream.isLoading && !page.stream.isThreadLoading, "the end of loading");
  page.last = (text) => until(() => contents(page.stream.messages).at(-1) === text, () => `${text} at the end of ${JSON.stringify(contents(page.stream.messages))}`);
  page.has = (text) => until(() => page.shown.some((each) => each.includes(text)), () => `${text} in ${JSON.stringify(page.shown)}`);
  await until(() => page.stream, "the first rendering");
  await until(() => !page.stream.isThreadLoading, "the thread");
  return page;
}

const contents = (messages) => messages.map((each) => `${each.type}: ${textOf(each.content)}`);
const runsOf = (thread) => client.runs.list(thread, { limit: 20 });
const isOver = (thread) => until(async () => (await runsOf(thread)).every((run) => !["pending", "running"].includes(run.status)), "the run's end");

/** Submit a text that shows "one two", waits at a gate, and then has "three". */
async function half(page, more) {
  const gate = uuid();
  const submitted = page.submit(human(`say one two |${gate}| three`), more);
  await page.has("ai: one two");
  return { gate, submitted };
}

const checks = {
  async tokensAndASecondMessage() {
    const page = await open();
    const gate = uuid();
    const submitted = page.submit(human(`say Hello |${gate}| there, my dear friend.`));
    await page.has("ai: Hello");
    assert.ok(page.stream.isLoading);
    openGate(gate);
    await submitted;
    await page.idle();
    await page.last("ai: Hello there, my dear friend.");
    assert.equal(page.stream.messages.length, 2);
    const growing = page.shown.filter((each) => each.includes("ai: "));
    assert.ok(growing.every((each, at) => at === 0 || each.startsWith(growing[at - 1])), `it only grows: ${JSON.stringify(growing)}`);
    await page.submit(human("say Second."));
    await page.idle();
    await page.last("ai: Second.");
    assert.equal(page.stream.messages.length, 4);
    assert.equal(page.stream.values.note, "say");
    page.close();
  },

  async queuedMessage() {
    const page = await open();
    const { gate, submitted } = await half(page);
    const second = page.submit(human("say after it"), { multitaskStrategy: "enqueue" });
    openGate(gate);
    await Promise.all([submitted, second]);
    await page.last("ai: after it");
    await page.idle();
    assert.deepEqual(contents(page.stream.messages).filter((each) => each.startsWith("ai")), ["ai: one two three", "ai: after it"]);
    page.close();
  },

  async stop() {
    const page = await open();
    await half(page);
    await page.stream.stop();
    await isOver(page.thread);
    assert.equal((await runsOf(page.thread))[0].status, "interrupted");
    await page.idle();
    await page.submit(human("say again"));
    await page.has("ai: again"); // SDK 1.11 keeps the unfinished text after it
    page.close();
  },

  async reloadInTheMiddle() {
    const page = await open();
    const { gate } = await half(page);
    const { thread } = page;
    page.close();
    const again = await open({ threadId: thread });
    await again.has("ai: one two");
    assert.ok(again.stream.isLoading);
    openGate(gate);
    await again.last("ai: one two three");
    await again.idle();
    assert.equal(again.stream.messages.length, 2);
    again.close();
  },

  async reloadAfterTheEnd() {
    const page = await open();
    await page.submit(human("tool Oslo"));
    await page.idle();
    const again = await open({ threadId: page.thread });
    await again.last("ai: It is sunny in Oslo.");
    assert.ok(!again.stream.isLoading);
    assert.deepEqual(contents(again.stream.messages), contents(page.stream.messages));
    await again.submit(human("say more"));
    await again.last("ai: more");
    assert.equal(again.stream.messages.length, 6);
    for (const each of [page, again]) each.close();
  },

  async interrupt() {
    const page = await open();
    await page.submit(human("ask"));
    await until(() => page.stream.interrupt, "the question");
    assert.deepEqual(page.stream.interrupt.value, { question: "Go on?" });
    await page.idle();
    await page.stream.respond("sure");
    await page.last("ai: answer: sure");
    await page.idle();
    assert.equal(page.stream.interrupt, undefined);
    assert.equal(page.stream.messages.length, 2);
    page.close();
  },

  async interruptAfterAReload() {
    const page = await open();
    await page.submit(human("ask"));
    await until(() => page.stream.interrupt, "the question");
    const { thread } = page;
    page.close();
    const again = await open({ threadId: thread });
    await until(() => again.stream.interrupt, "the question after a reload");
    await again.stream.respond("later", { interruptId: again.stream.interrupt.id });
    await again.last("ai: answer: later");
    await again.idle();
    assert.equal(again.stream.interrupts.length, 0);
    again.close();
  },

  async twoInterrupts() {
    const page = await open();
    await page.submit(human("two"));
    await until(() => page.stream.interrupts.length === 2, "both questions");
    await page.idle();
    const answers = Object.fromEntries(page.stream.interrupts.map(({ id, value }) => [id, `${value.question}!`]));
    await page.stream.respondAll(answers);
    await until(() => page.stream.messages.length === 3, () => contents(page.stream.messages));
    await page.idle();
    assert.deepEqual(contents(page.stream.messages).slice(1).toSorted(), ["ai: a: a?!", "ai: b: b?!"]);
    assert.equal(page.stream.interrupts.length, 0);
    page.close();
  },

  async failureThenSuccess() {
    const page = await open();
    await page.submit(human("fail half a text")).catch(() => {});
    await until(() => page.stream.error, "the error");
    assert.match(String(page.stream.error.message ?? page.stream.error), /boom/);
    await page.idle();
    await page.submit(human("say fine"));
    await page.has("ai: fine"); // SDK 1.11 keeps the text of the failed run after it
    await until(() => !page.stream.error, "the end of the error");
    page.close();
  },

  async toolCalls() {
    const page = await open();
    await page.submit(human("tool Oslo"));
    await page.idle();
    await page.last("ai: It is sunny in Oslo.");
    assert.deepEqual(page.stream.messages.map((each) => each.type), ["human", "ai", "tool", "ai"]);
    const [call] = page.stream.toolCalls;
    assert.deepEqual([call.name, call.args ?? call.input], ["weather", { city: "Oslo" }]);
    assert.match(JSON.stringify(call.output), /sunny in Oslo/);
    assert.deepEqual(page.stream.messages[1].tool_calls[0].args, { city: "Oslo" });
    page.close();
  },

  async reasoning() {
    const page = await open();
    const reasoned = [];
    page.watch = setInterval(() => {
      for (const each of page.stream.messages) if (JSON.stringify(each.content).includes("Let me think")) reasoned.push(each);
    }, 5);
    await page.submit(human("think All right."));
    await page.idle();
    clearInterval(page.watch);
    await until(() => contents(page.stream.messages)[1]?.includes("All right."), () => contents(page.stream.messages));
    assert.equal(page.stream.messages.length, 2);
    assert.match(JSON.stringify(page.stream.messages[1].content), /Let me think/);
    page.close();
  },

  async customData() {
    const seen = { events: [], extension: undefined };
    function Extra({ stream }) {
      seen.events = useChannel(stream, ["custom"]).filter((event) => event.params.data.name === "stream_writer");
      seen.extension = useExtension(stream, "stream_writer");
      return null;
    }
    const page = await open({ extra: Extra });
    await page.submit(human("custom"));
    await page.idle();
    await until(() => seen.events.length >= 2, () => JSON.stringify(seen));
    assert.deepEqual(seen.events.map((event) => event.params.data.payload), [{ step: 1 }, "plain"]);
    await until(() => seen.extension === "plain", () => JSON.stringify(seen));
    await page.last("ai: made by hand");
    page.close();
  },

  async subgraph() {
    const seen = { messages: [] };
    function Extra({ stream }) {
      const target = [...stream.subgraphs.values()][0];
      return target ? createElement(Scoped, { stream, target }) : null;
    }
    function Scoped({ stream, target }) {
      seen.messages = useMessages(stream, target);
      seen.target = target;
      return null;
    }
    const proxy = await newProxy();
    const page = await open({ extra: Extra, apiUrl: proxy.url });
    const gate = uuid();
    const submitted = page.submit(human(`child |${gate}| one two three`));
    // Over SSE the hook opens another stream for the subgraph. From any server, it gives the subgraph's reader what arrives
    // before that stream ahead of what came first, and the reader drops it.
    const demanded = () => seen.target && (options.transport !== "sse" || proxy.requests().some((each) => each.includes('["child:')));
    await until(demanded, "the demand for the subgraph");
    openGate(gate);
    await submitted;
    await page.idle();
    await page.last("ai:  one two three");
    assert.equal(page.stream.messages.length, 2);
    await until(() => contents(seen.messages).at(-1) === "ai:  one two three", () => JSON.stringify(contents(seen.messages)));
    await until(() => seen.target.status === "complete", () => seen.target.status);
    assert.equal(seen.target.nodeName, "child");
    page.close();
    proxy.close();
  },

  async fork() {
    const seen = {}; // the first of each message: SDK 1.11 replaces it by those of later checkpoints
    function Extra({ stream }) {
      const asked = stream.messages.filter((each) => each.type === "human").at(-1);
      const parent = useMessageMetadata(stream, asked?.id ?? "")?.parentCheckpointId;
      if (parent) seen[textOf(asked.content)] ??= parent;
      return null;
    }
    const page = await open({ extra: Extra });
    await page.submit(human("say one"));
    await page.idle();
    await page.submit(human("say two"));
    await page.idle();
    await page.last("ai: two");
    await until(() => seen["say two"], "the checkpoint before the message");
    await page.submit(human("say other"), { forkFrom: seen["say two"] });
    await page.idle();
    await page.last("ai: other");
    assert.deepEqual(contents(page.stream.messages), ["human: say one", "ai: one", "human: say other", "ai: other"]);
    page.close();
  },

  async secondTab() {
    const page = await open();
    const { gate, submitted } = await half(page);
    const tab = await open({ threadId: page.thread });
    await tab.has("ai: one two");
    openGate(gate);
    await submitted;
    await Promise.all([page.last("ai: one two three"), tab.last("ai: one two three")]);
    await Promise.all([page.idle(), tab.idle()]);
    await page.submit(human("say next"));
    await Promise.all([page.last("ai: next"), tab.last("ai: next")]);
    assert.deepEqual(contents(tab.stream.messages), contents(page.stream.messages));
    for (const each of [page, tab]) each.close();
  },

  async cutConnection() {
    const proxy = await newProxy();
    const page = await open({ apiUrl: proxy.url });
    const { gate, submitted } = await half(page);
    proxy.cut();
    openGate(gate);
    await submitted;
    await page.last("ai: one two three");
    await page.idle();
    assert.equal(page.stream.messages.length, 2);
    assert.ok(page.shown.every((each) => !each.includes("one two one") && !each.includes("three three")));
    page.close();
    proxy.close();
  },

  async unknownGraph() {
    const page = await open({ assistantId: "no-such-graph" });
    await page.submit(human("say x")).catch(() => {});
    await until(() => page.stream.error, "the error of a refused start");
    page.close();
  },
};

await runChecks(checks);
