// Client of an lg_streaming server for browsers and Node: over EventSource, WebSocket, a socket.io-client of the page,
// or polling. Reconnects and resumes from its position, and assembles the text of each message.
// Without dependencies; the types are in lg-streaming.d.ts. All times are in milliseconds.

import { StreamingError, refused } from "./lg-streaming/errors.js";
import { EventSourceTransport } from "./lg-streaming/event-source.js";
import { ExecutionWatch } from "./lg-streaming/executions.js";
import { Link } from "./lg-streaming/link.js";
import {
  BACKOFF_OPTIONS, CLIENT_OPTIONS, SUBSCRIBE_OPTIONS, WATCH_OPTIONS, checked, checkedId, listQuery, startFields,
} from "./lg-streaming/options.js";
import { PollingTransport } from "./lg-streaming/polling.js";
import { SocketIoTransport } from "./lg-streaming/socketio.js";
import { Subscription } from "./lg-streaming/subscription.js";
import { WebSocketTransport } from "./lg-streaming/websocket.js";

export { Backoff } from "./lg-streaming/backoff.js";
export { TextAssembly, messageTree, nodePath } from "./lg-streaming/text.js";
export { StreamingError };

export function createClient(options = {}) {
  return new Client(checked(options, CLIENT_OPTIONS, "createClient"));
}

// Subscribes to one execution, without an explicit client.
export function subscribe(executionId, options = {}) {
  const forClient = Object.entries(options).filter(([name]) => Object.hasOwn(CLIENT_OPTIONS, name));
  const others = Object.entries(options).filter(([name]) => !Object.hasOwn(CLIENT_OPTIONS, name));
  return createClient(Object.fromEntries(forClient)).subscribe(executionId, Object.fromEntries(others));
}

class Client {
  #link;
  #subscriptions = new Set();
  #stopListening = null;

  constructor(options) {
    const { socket, backoff = {}, maxAttempts = Infinity, pollInterval = 1000, upgradeInterval = 60_000 } = options;
    this.#link = new Link(options);
    this.transports = transportsOf(this.#link, options);
    this.backoff = checked(backoff, BACKOFF_OPTIONS, "backoff");
    Object.assign(this, { maxAttempts, pollInterval, upgradeInterval, storage: storageOf(options.storage) });
    this.renews = this.#link.renews || socket !== undefined;
    this.url = this.#link.addressOf("").replace(/\/$/, "");
  }

  subscribe(executionId, options = {}) {
    const known = checked(options, SUBSCRIBE_OPTIONS, "subscribe");
    return this.#begin(new Subscription(this, checkedId(executionId), known));
  }

  // Returns a page of the executions that the page may read.
  async executions(options = {}) {
    return this.#link.json(this.#link.addressOf("executions", listQuery(options)), { signal: options.signal });
  }

  watchExecutions(options = {}) {
    return this.#begin(new ExecutionWatch(this, checked(options, WATCH_OPTIONS, "watchExecutions")));
  }

  #begin(subscription) {
    this.#subscriptions.add(subscription);
    this.#stopListening ??= this.#listen();
    queueMicrotask(() => subscription.begin()); // so that the page has the subscription before its callbacks are called
    return subscription;
  }

  async start(graph, input, options = {}) {
    const payload = { graph, input, ...startFields(options) };
    return this.#send("start_execution", payload, this.#link.addressOf("executions"), { method: "POST", body: payload });
  }

  async execution(executionId) {
    return this.#link.json(this.#link.address(checkedId(executionId)));
  }

  async graph(executionId) {
    return this.#link.json(this.#link.address(executionId, "graph"));
  }

  // Returns a page of the states of the graph, newest first; `before` is the `next` of the page before.
  async states(executionId, { limit, before } = {}) {
    return this.#link.json(this.#link.address(checkedId(executionId), "states", { limit, before }));
  }

  async state(executionId, checkpointId) {
    return this.#link.json(this.#link.address(checkedId(executionId), `states/${encodeURIComponent(checkpointId)}`));
  }

  // Starts a new execution that goes on from a checkpoint.
  async fork(executionId, checkpointId, { values, asNode, executionId: newId } = {}) {
    const given = { values, as_node: asNode, execution_id: newId };
    const body = { checkpoint_id: checkpointId, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) };
    return this.#link.json(this.#link.address(checkedId(executionId), "forks"), { method: "POST", body });
  }

  async graphs() {
    return (await this.#link.json(this.#link.addressOf("graphs"))).graphs;
  }

  async respond(executionId, promptId, response) {
    const payload = { execution_id: checkedId(executionId), prompt_id: promptId, response };
    const address = this.#link.address(executionId, "responses");
    return this.#send("respond", payload, address, { method: "POST", body: { prompt_id: promptId, response } });
  }

  async cancel(executionId, reason) {
    const payload = { execution_id: checkedId(executionId), ...(reason !== undefined && { reason }) };
    const address = this.#link.address(executionId, "", { reason });
    return this.#send("cancel_execution", payload, address, { method: "DELETE" });
  }

  async pause(executionId, reason) {
    const payload = { execution_id: checkedId(executionId), ...(reason !== undefined && { reason }) };
    const address = this.#link.address(executionId, "pause", { reason });
    return this.#send("pause_execution", payload, address, { method: "POST" });
  }

  async resume(executionId) {
    const payload = { execution_id: checkedId(executionId) };
    const address = this.#link.address(executionId, "resume");
    return this.#send("resume_execution", payload, address, { method: "POST" });
  }

  async inject(executionId, input, { asNode } = {}) {
    const body = { input, ...(asNode !== undefined && { as_node: asNode }) };
    const address = this.#link.address(executionId, "inputs");
    return this.#send("inject_input", { execution_id: checkedId(executionId), ...body }, address, { method: "POST", body });
  }

  // Makes a read-only credential for one execution.
  async link(executionId, { expiresIn } = {}) {
    const body = expiresIn === undefined ? {} : { expires_in_s: expiresIn / 1000 };
    return this.#link.json(this.#link.address(checkedId(executionId), "links"), { method: "POST", body });
  }

  close() {
    for (const subscription of [...this.#subscriptions]) subscription.close();
  }

  forget(subscription) {
    this.#subscriptions.delete(subscription);
    if (this.#subscriptions.size > 0) return;
    this.#stopListening?.();
    this.#stopListening = null;
  }

  // Sends over an open connection, or else by an HTTP request.
  async #send(type, payload, address, request) {
    const sent = this.transports.map((transport) => transport.send?.(type, payload));
    const answer = await sent.find((one) => one !== undefined);
    if (answer === undefined) return this.#link.json(address, request);
    if (!answer?.ok) throw refused(answer);
    return answer;
  }

  #listen() {
    const all = (action) => () => [...this.#subscriptions].forEach(action);
    const hurry = all((subscription) => subscription.hurry());
    const handlers = [
      [globalThis, "online", hurry],
      [globalThis, "pagehide", all((subscription) => subscription.suspend())],
      [globalThis, "pageshow", ({ persisted }) => persisted && all((subscription) => subscription.wake())()],
      [globalThis.document, "visibilitychange", () => (document.hidden ? all((one) => one.save()) : hurry)()],
    ];
    for (const [target, name, action] of handlers) target?.addEventListener?.(name, action);
    return () => handlers.forEach(([target, name, action]) => target?.removeEventListener?.(name, action));
  }
}

function transportsOf(link, { socket, transport = "auto", pollInterval = 1000 }) {
  if (socket !== undefined) return [new SocketIoTransport(link, socket)];
  const transports = { sse: EventSourceTransport, websocket: WebSocketTransport, polling: PollingTransport };
  const names = transport === "auto" ? Object.keys(transports) : [transport];
  return names.map((name) => new transports[name](link, pollInterval));
}

function storageOf(given) {
  if (given !== undefined) return given;
  try {
    return globalThis.sessionStorage ?? null;
  } catch {
    return null; // the browser may forbid storage
  }
}
