// What the scripts share: the registry of checks, gates of the graphs, a TCP proxy that breaks connections, and readers.
//
// A script is run as `node SCRIPT URL GATES [OPTIONS]`. OPTIONS is JSON: `sdk` names the package of the client, `only`
// a check, `reference` says that LangChain's own server answers. Each check prints one line of JSON.

import assert from "node:assert/strict";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import net from "node:net";
import { join } from "node:path";

const [url, gates, given] = process.argv.slice(2);
export const options = { sdk: "@langchain/langgraph-sdk", reference: false, ...JSON.parse(given ?? "{}") };
export { assert, url };
export const sdk = await import(options.sdk);

const TIMEOUT = 60_000;

export const newClient = (more = {}) => new sdk.Client({ apiUrl: url, apiKey: null, ...more });
export const client = newClient();
export const uuid = () => crypto.randomUUID();
export const openGate = (name) => writeFileSync(join(gates, name), "");

export const human = (content, id = uuid()) => ({ messages: [{ type: "human", content, id }] });

/** Wait until a function returns something true, and return that; errors of `condition` end the wait. */
export async function until(condition, what, timeout = TIMEOUT) {
  const end = Date.now() + timeout;
  for (;;) {
    const found = await condition();
    if (found) return found;
    if (Date.now() > end) throw new Error(`not in time: ${typeof what === "function" ? what() : what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Read a stream to its end; `watch(frame, frames)` may act on each frame, and ends the reading by returning false. */
export async function read(stream, watch = () => {}) {
  const frames = [];
  for await (const frame of stream) {
    if (frame.event === "") continue; // clients before 1.15 make one of a comment
    frames.push(frame);
    if ((await watch(frame, frames)) === false) break;
  }
  return frames;
}

/** Start reading a stream; `stop()` ends that, `check()` has the frames so far, and raises what went wrong. */
export function follow(open, watch = () => {}) {
  const controller = new AbortController();
  const frames = [];
  let failed = null;
  let over = false;
  const reading = (async () => {
    try {
      for await (const frame of open(controller.signal)) {
        frames.push(frame);
        await watch(frame, frames);
      }
    } catch (error) {
      if (!controller.signal.aborted) failed = error;
    } finally {
      over = true;
    }
  })();
  const check = () => {
    if (failed) throw failed;
    return frames;
  };
  const stop = async () => {
    controller.abort();
    await reading;
    return check();
  };
  return { frames, check, stop, isOver: () => over };
}

/** The text of a message's content. */
export const textOf = (content) =>
  typeof content === "string" ? content : content.map((each) => (typeof each === "string" ? each : (each.text ?? ""))).join("");

/** The streamed texts by the ids of their messages, of frames of the mode `messages-tuple`. */
export function texts(frames, event = "messages") {
  const found = {};
  for (const { data } of frames.filter((frame) => frame.event === event)) {
    const [message] = data;
    found[message.id] = (found[message.id] ?? "") + textOf(message.content);
  }
  return found;
}

/** The only text of frames. */
export function onlyText(frames, event) {
  const found = Object.values(texts(frames, event));
  assert.equal(found.length, 1, `one message in ${JSON.stringify(found)}`);
  return found[0];
}

/** Whether a text has come so far. */
export const shows = (frames, text) => Object.values(texts(frames)).some((each) => each.includes(text));

export const last = (frames, event = "values") => frames.findLast((frame) => frame.event === event)?.data;
export const names = (frames) => frames.map((frame) => frame.event);

/** Assert that a promise is refused with one of these statuses, and return the body. */
export async function refused(promise, ...statuses) {
  let error;
  try {
    await promise;
  } catch (raised) {
    error = raised;
  }
  assert.ok(error, `not refused with ${statuses}`);
  assert.ok(statuses.includes(error.status), `${statuses}: ${error.status} ${error.message}`);
  if (!options.reference) assert.ok(typeof JSON.parse(error.text).detail === "string", error.text);
  return error.text;
}

/**
 * The order that pages rely on: metadata, then the values of the input, then chunks; values that contain a streamed
 * message come after all its chunks, and have the same text.
 */
export function assertOrder(frames, inputId) {
  assert.equal(frames[0].event, "metadata");
  assert.ok(frames[0].data.run_id);
  const first = frames.findIndex((frame) => frame.event === "values");
  const chunk = frames.findIndex((frame) => frame.event === "messages");
  assert.ok(first > 0 && (chunk < 0 || first < chunk), `values first: ${names(frames)}`);
  if (inputId) assert.ok(frames[first].data.messages.some((each) => each.id === inputId), "the input's message");
  const streamed = {};
  const final = new Set();
  for (const { event, data } of frames) {
    if (event === "messages") {
      const [message, metadata] = data;
      assert.ok(message.id, "chunks have ids");
      assert.ok(metadata.langgraph_node, "chunks have nodes");
      assert.ok(!final.has(message.id) || message.type !== "AIMessageChunk", "chunks come before values");
      streamed[message.id] = (streamed[message.id] ?? "") + textOf(message.content);
    } else if (event === "values") {
      for (const message of data.messages) {
        if (!(message.id in streamed)) continue;
        final.add(message.id);
        assert.equal(textOf(message.content), streamed[message.id]);
      }
    }
  }
}

/** Start a TCP proxy before the server. `cut()` resets all connections; `end()` ends their responses as if complete. */
export async function newProxy() {
  const target = new URL(url);
  const lines = new Set();
  const all = [];
  const server = net.createServer((near) => {
    const far = net.connect(Number(target.port), target.hostname);
    const line = { near, far, requests: "", answers: "" };
    lines.add(line);
    all.push(line);
    const close = () => {
      lines.delete(line);
      near.destroy();
      far.destroy();
    };
    for (const half of [near, far]) half.on("error", close).on("close", close);
    near.on("data", (data) => (line.requests += data.toString("latin1")) && far.write(data));
    far.on("data", (data) => (line.answers += data.toString("latin1")) && near.write(data));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    requests: () => all.map((line) => line.requests),
    answers: () => all.map((line) => line.answers),
    cut: () => {
      for (const line of [...lines]) {
        line.near.resetAndDestroy();
        line.far.resetAndDestroy();
      }
    },
    // At a moment without traffic the last chunk is complete.
    end: () => {
      for (const line of [...lines]) {
        lines.delete(line);
        line.near.end("0\r\n\r\n");
        line.far.removeAllListeners("close").resetAndDestroy();
      }
    },
    close: () => {
      server.close();
      for (const line of [...lines]) line.near.destroy();
    },
  };
}

/** Run the checks, a few at a time, and print a line for each. */
export async function runChecks(checks, atOnce = 6) {
  const waiting = Object.entries(checks).filter(([name]) => !options.only || name === options.only);
  const work = async () => {
    for (let next = waiting.shift(); next; next = waiting.shift()) {
      const [check, act] = next;
      const began = performance.now();
      let error = null;
      let timer;
      const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`more than ${TIMEOUT} ms`)), TIMEOUT);
      });
      try {
        await Promise.race([act(), late]);
      } catch (raised) {
        error = raised.stack ?? String(raised);
      } finally {
        clearTimeout(timer);
      }
      console.log(JSON.stringify({ type: "check", check, error, seconds: (performance.now() - began) / 1000 }));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  process.exit(0); // pooled connections would keep the process
}
