// The stock React hook of the LangGraph SDK: `useStream` of `@langchain/langgraph-sdk/react`, in jsdom.

import { JSDOM } from "jsdom";

import { assert, client, human, newClient, newProxy, openGate, options, runChecks, textOf, until, url, uuid } from "./lib.mjs";

const dom = new JSDOM("<!doctype html>", { url });
globalThis.window = dom.window;
globalThis.document = dom.window.document;
globalThis.navigator ??= dom.window.navigator;

process.env.NODE_ENV = "production";
const { createElement, useEffect } = await import("react");
const { createRoot } = await import("react-dom/client");
const { useStream } = await import(`${options.sdk}/react`);

/** Show a page; its `stream` is what the hook returned last. `close` ends the page, as a browser does. */
function open(props = {}) {
  const page = { stream: null, renderings: 0, shown: [], created: [], errors: [] };
  const root = createRoot(document.createElement("div"));
  const given = { apiUrl: url, apiKey: null, assistantId: "agent", onCreated: (run) => page.created.push(run), onError: (error) => page.errors.push(error), ...props };
  function Page() {
    const stream = useStream({ ...given, threadId: page.thread ?? given.threadId, onThreadId: (id) => (page.thread = id) });
    page.stream = stream;
    page.renderings += 1;
    useEffect(() => void (page.isMounted = true), []);
    const text = contents(stream.messages).join("\n");
    if (text !== page.shown.at(-1)) page.shown.push(text);
    return null;
  }
  root.render(createElement(Page));
  page.text = () => page.shown.at(-1);
  page.close = () => root.unmount();
  page.submit = (input, more) => page.stream.submit(input, more);
  // The hook's own first effect would abort a run that is submitted before it.
  page.ready = () => until(() => page.isMounted, "the first rendering and its effects");
  // What the hook has changed so far may not be shown yet: one more rendering shows it.
  page.idle = () => {
    const before = page.renderings;
    root.render(createElement(Page));
    return until(() => page.renderings > before && !page.stream.isLoading, "the end of loading");
  };
  page.has = (text) => until(() => page.shown.some((each) => each.includes(text)), () => `${text} in ${JSON.stringify(page.shown)}`);
  return page.ready().then(() => page);
}

/**
 * Show a page of a new thread that it has loaded. The hook loads a thread that its first submit makes while the run
 * goes on; the empty state hides a run that has ended by then.
 */
async function openNew(props = {}) {
  const { thread_id: threadId } = await newClient().threads.create();
  const page = await open({ threadId, ...props });
  await until(() => !page.stream.isThreadLoading, "the thread");
  return page;
}

const contents = (messages) => messages.map((each) => `${each.type}: ${textOf(each.content)}`);
const stored = (thread) => dom.window.sessionStorage.getItem(`lg:stream:${thread}`);
const statusOf = async (thread, run) => (await client.runs.get(thread, run)).status;
const isOver = (thread, run) => until(async () => !["pending", "running"].includes(await statusOf(thread, run)), "the run's end");

/** Submit a text that shows "one two", waits at a gate, and then has "three". */
async function half(page, more) {
  const gate = uuid();
  const submitted = page.submit(human(`say one two |${gate}| three`), more);
  await page.has("ai: one two");
  return { gate, submitted };
}

const checks = {
  async tokens() {
    const page = await open();
    const [one, two] = [uuid(), uuid()];
    const input = human(`say Hello there, |${one}| my dear |${two}| friend.`);
    const submitted = page.submit(input, { optimisticValues: (old) => ({ messages: [...(old.messages ?? []), ...input.messages] }) });
    await page.has("ai: Hello there,");
    openGate(one);
    await page.has("ai: Hello there, my dear");
    openGate(two);
    await submitted;
    await page.idle();
    assert.deepEqual(contents(page.stream.messages), [`human: ${input.messages[0].content}`, "ai: Hello there, my dear friend."]);
    const growing = page.shown.filter((each) => each.includes("ai: "));
    assert.ok(growing.every((each, at) => at === 0 || each.startsWith(growing[at - 1])), `it only grows: ${JSON.stringify(growing)}`);
    assert.equal(page.created.length, 1);
    await page.submit(human("say Second."));
    await page.idle();
    assert.deepEqual(contents(page.stream.messages).slice(2), ["human: say Second.", "ai: Second."]);
    assert.ok(page.shown.slice(page.shown.findIndex((each) => each.includes("Second"))).every((each) => each.includes("Hello there, my dear friend.\n")), "nothing vanishes");
    assert.deepEqual(page.errors, []);
    page.close();
  },

  async stopWithoutReconnect() {
    const page = await open();
    const { submitted } = await half(page);
    const [{ run_id: run, thread_id: thread }] = page.created;
    await page.stream.stop();
    await submitted;
    await isOver(thread, run);
    assert.equal(await statusOf(thread, run), "interrupted");
    await page.idle();
    await page.submit(human("say again"));
    await page.idle();
    assert.equal(contents(page.stream.messages).at(-1), "ai: again");
    page.close();
  },

  async stopWithReconnect() {
    const page = await open({ reconnectOnMount: true });
    await half(page);
    const [{ run_id: run, thread_id: thread }] = page.created;
    assert.equal(stored(thread), run);
    await page.stream.stop();
    await isOver(thread, run);
    assert.equal(await statusOf(thread, run), "interrupted");
    assert.equal(stored(thread), null);
    page.close();
  },

  async reload() {
    const page = await open({ reconnectOnMount: true });
    const { gate } = await half(page);
    const [{ run_id: run, thread_id: thread }] = page.created;
    page.close();
    const again = await open({ reconnectOnMount: true, threadId: thread });
    await again.has("ai: one two");
    assert.ok(again.stream.isLoading);
    assert.equal(await statusOf(thread, run), "running");
    openGate(gate);
    await again.has("ai: one two three");
    await again.idle();
    assert.deepEqual(contents(again.stream.messages).slice(1), ["ai: one two three"]);
    assert.equal(again.stream.messages.length, 2);
    await until(() => stored(thread) === null, "the key is removed");
    // A page that is opened after the end shows the state.
    const late = await open({ reconnectOnMount: true, threadId: thread, fetchStateHistory: true });
    await late.has("ai: one two three");
    await late.idle();
    for (const each of [again, late]) each.close();
  },

  async secondTab() {
    const page = await open();
    const { gate, submitted } = await half(page, { streamResumable: true, onDisconnect: "continue" });
    const [{ run_id: run, thread_id: thread }] = page.created;
    const tab = await open({ threadId: thread });
    tab.stream.joinStream(run);
    await tab.has("ai: one two");
    openGate(gate);
    await Promise.all([page.has("three"), tab.has("three"), submitted]);
    await Promise.all([page.idle(), tab.idle()]);
    assert.deepEqual(contents(tab.stream.messages), contents(page.stream.messages));
    for (const each of [page, tab]) each.close();
  },

  async interrupt() {
    const page = await openNew();
    await page.submit(human("ask"));
    await page.idle();
    await until(() => page.stream.interrupt, "the question");
    assert.deepEqual(page.stream.interrupt.value, { question: "Go on?" });
    // A page that is opened later asks, too.
    const thread = page.created[0].thread_id;
    const later = await open({ threadId: thread, fetchStateHistory: true });
    await until(() => later.stream.interrupt, "the question after a reload");
    assert.deepEqual(later.stream.interrupt.value, { question: "Go on?" });
    assert.equal(later.stream.interrupt.id, page.stream.interrupt.id);
    await later.submit(undefined, { command: { resume: "sure" } });
    await later.idle();
    assert.equal(contents(later.stream.messages).at(-1), "ai: answer: sure");
    assert.equal(later.stream.interrupt, undefined);
    assert.equal(later.stream.messages.length, 2);
    for (const each of [page, later]) each.close();
  },

  async error() {
    const page = await openNew();
    await page.submit(human("fail half a"));
    await page.idle();
    assert.match(String(page.stream.error.message ?? page.stream.error), /boom/);
    assert.equal(page.stream.error.name, "ValueError");
    const later = await open({ threadId: page.created[0].thread_id });
    await until(() => later.stream.error, "the error after a reload");
    assert.match(String(later.stream.error), /boom/);
    await page.submit(human("say fine"));
    await page.idle();
    assert.equal(contents(page.stream.messages).at(-1), "ai: fine");
    assert.equal(page.stream.error, undefined);
    const nowhere = await open({ assistantId: "no-such-graph" });
    await nowhere.submit(human("say x"));
    await until(() => nowhere.stream.error, "an error of a refused start");
    for (const each of [page, later, nowhere]) each.close();
  },

  async eventsAndBranches() {
    const seen = { custom: [], updates: [] };
    const page = await openNew({
      fetchStateHistory: true,
      onCustomEvent: (data) => seen.custom.push(data),
      onUpdateEvent: (data) => seen.updates.push(Object.keys(data)[0]),
    });
    await page.submit(human("custom"));
    await page.idle();
    assert.deepEqual(seen.custom, [{ step: 1 }, "plain"]);
    assert.deepEqual(seen.updates, ["plan", "custom"]);
    assert.equal(page.stream.values.note, "customized");
    await until(() => page.stream.history.length >= 3, "the history");

    const [asked] = page.stream.messages;
    const { firstSeenState } = page.stream.getMessagesMetadata(asked);
    await page.submit(human("say edited"), { checkpoint: firstSeenState.parent_checkpoint });
    await page.idle();
    await until(() => contents(page.stream.messages).at(-1) === "ai: edited", "the edited branch");
    assert.equal(page.stream.messages.length, 2);
    await until(() => page.stream.getMessagesMetadata(page.stream.messages[0]).branchOptions?.length === 2, "two branches");
    page.stream.setBranch(page.stream.getMessagesMetadata(page.stream.messages[0]).branchOptions[0]);
    await until(() => contents(page.stream.messages).at(-1) === "ai: made by hand", "the first branch");
    page.close();
  },

  async cutConnection() {
    const proxy = await newProxy();
    const page = await open({ apiUrl: proxy.url, reconnectOnMount: true });
    const { gate, submitted } = await half(page);
    proxy.cut();
    openGate(gate);
    await submitted;
    await page.idle();
    assert.deepEqual(contents(page.stream.messages).slice(1), ["ai: one two three"]);
    assert.deepEqual(page.errors, []);
    assert.ok(page.shown.every((each) => !each.includes("one two one") && !each.includes("three three")));
    page.close();
    proxy.close();
  },

  async toolCall() {
    const progress = [];
    const page = await openNew({ onToolEvent: options.reference ? undefined : (data) => progress.push([data.event, data.name]) });
    await page.submit(human("tool Oslo"));
    await page.idle();
    await until(() => page.stream.messages.length === 4, () => contents(page.stream.messages));
    assert.deepEqual(page.stream.messages.map((each) => each.type), ["human", "ai", "tool", "ai"]);
    assert.equal(contents(page.stream.messages).at(-1), "ai: It is sunny in Oslo.");
    const [call] = page.stream.toolCalls;
    assert.deepEqual([call.call.name, call.call.args, call.result.content], ["weather", { city: "Oslo" }, "sunny in Oslo"]);
    assert.equal(page.stream.messages.filter((each) => each.type === "tool").length, 1);
    if (!options.reference) {
      assert.deepEqual(progress, [["on_tool_start", "weather"], ["on_tool_end", "weather"]]);
      assert.deepEqual(page.stream.toolProgress.map((each) => [each.name, each.state]), [["weather", "completed"]]);
    }
    page.close();
  },

  async subgraph() {
    const page = await open();
    const gate = uuid();
    const asked = `child one two |${gate}| three`;
    const submitted = page.submit(human(asked), { streamSubgraphs: true });
    await page.has("ai: one two"); // a run of a moment may end before the hook has the empty history of its new thread
    openGate(gate);
    await submitted;
    await page.idle();
    assert.deepEqual(contents(page.stream.messages), [`human: ${asked}`, "ai: one two three"]);
    assert.ok(page.shown.slice(page.shown.indexOf(`human: ${asked}`)).every((each) => each.startsWith(`human: ${asked}`)));
    const values = await newClient().threads.getState(page.created[0].thread_id);
    assert.equal(values.values.messages.length, 2);
    page.close();
  },
};

await runChecks(checks);
