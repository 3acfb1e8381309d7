import { Backoff, pause } from "./backoff.js";
import { asError, call, isAbsent } from "./errors.js";

// Updates that change what a list shows of an execution: its state, its progress, its usage.
const CHANGES = ["workflow_*", "status", "usage", "llm_complete", "human_prompt", "human_response"];
const AT_ONCE = 50; // executions of one request by their ids
const OVER = new Set(["failed", "closed"]);

// Changes of executions as they happen. The updates of a WebSocket name the executions that have changed, and a request
// reads their states. Many updates of an execution cost one request.
export class ExecutionWatch {
  #host;
  #options;
  #query;
  #state = "connecting";
  #line = null;
  #changed = new Set();
  #isReading = false;
  #timer; // timer of the next read
  #retry; // timer of the next connection
  #upgrade;
  #polls = null;
  #refusals = 0; // consecutive connections that did not come about
  #backoff;
  #readAt = -Infinity;

  constructor(host, { state, owner, text, ...options }) {
    this.#host = host;
    this.#options = { interval: 1000, shown: () => [], ...options };
    this.#query = { state, owner, text };
    this.#backoff = new Backoff(host.backoff);
    this.close = this.close.bind(this);
  }

  get state() {
    return this.#state;
  }

  begin() {
    this.#options.signal?.addEventListener("abort", this.close);
    if (this.#options.signal?.aborted) this.close();
    if (!OVER.has(this.#state)) this.#connect();
  }

  close() {
    if (!OVER.has(this.#state)) this.#finish("closed");
  }

  // Skips the pause: the network is back, or the page is visible again.
  hurry() {
    if (this.#retry !== undefined) this.#connect();
  }

  suspend() {
    this.#drop();
  }

  wake() {
    if (!OVER.has(this.#state)) this.#connect();
  }

  save() {} // it keeps nothing over a reload

  #connect() {
    clearTimeout(this.#retry);
    this.#retry = undefined;
    const transport = this.#host.transports.find((one) => one.openEvents !== undefined);
    if (transport === undefined) {
      this.#poll();
      return;
    }
    const line = { close: () => {} };
    const ifCurrent = (action) => (...values) => line === this.#line && action(...values);
    this.#line?.close();
    this.#line = line;
    const order = { events: CHANGES, executions: this.#options.executions };
    const { close } = transport.openEvents(order, {
      opened: ifCurrent(() => this.#opened()),
      updates: ifCurrent((executionId) => this.#note(executionId)),
      gap: ifCurrent(({ execution_id: executionId }) => this.#note(executionId)),
      trouble: ifCurrent((error) => this.#lost(error)),
      paused: ifCurrent((error) => this.#setState("reconnecting", { error })),
      lost: ifCurrent((error, wait) => this.#lost(error, wait)),
    });
    line.close = close;
  }

  #opened() {
    this.#refusals = 0;
    this.#backoff.reset();
    this.#stopPolling();
    this.#setState("connected");
    this.#readAll(); // changes before the subscription
  }

  #lost(error, wait) {
    this.#line?.close();
    this.#line = null;
    if (error.isUnauthorized && !this.#host.renews) {
      this.#finish("failed", error);
      return;
    }
    if (isAbsent(error) || error.codeName === "blocked" || (this.#refusals += 1) > 2) {
      this.#poll();
      return;
    }
    const delay = this.#backoff.next(wait ?? error.retryAfter);
    this.#retry = setTimeout(() => this.#connect(), delay);
    this.#setState("reconnecting", { error, delay });
  }

  // ---------------------------------------------------------- reads
  #note(executionId) {
    this.#changed.add(executionId);
    this.#readLater();
  }

  #readLater() {
    if (this.#isReading || this.#timer !== undefined || OVER.has(this.#state)) return;
    const delay = Math.max(this.#options.interval / 10, this.#readAt + this.#options.interval - performance.now());
    this.#timer = setTimeout(() => this.#read(), delay);
  }

  async #read() {
    this.#timer = undefined;
    this.#isReading = true;
    const ids = [...this.#changed].slice(0, AT_ONCE);
    ids.forEach((id) => this.#changed.delete(id));
    try {
      await this.#tell(ids);
    } catch (error) {
      ids.forEach((id) => this.#changed.add(id));
      this.#fail(asError(error));
    }
    this.#isReading = false;
    this.#readAt = performance.now();
    if (this.#changed.size > 0) this.#readLater();
  }

  async #tell(ids) {
    if (ids.length === 0) return;
    const { executions } = await this.#host.executions({ ...this.#query, ids, signal: this.#options.signal });
    if (OVER.has(this.#state)) return;
    const found = new Set(executions.map((one) => one.execution_id));
    call(this.#options.onChange, executions, ids.filter((id) => !found.has(id)));
  }

  // Reads the newest executions, and those that the page shows.
  async #readAll() {
    try {
      const { executions } = await this.#host.executions({ ...this.#query, order: "newest", signal: this.#options.signal });
      if (OVER.has(this.#state)) return;
      if (executions.length > 0) call(this.#options.onChange, executions, []);
      const listed = new Set(executions.map((one) => one.execution_id));
      const ids = [...this.#options.shown()].filter((id) => !listed.has(id));
      for (let at = 0; at < ids.length; at += AT_ONCE) await this.#tell(ids.slice(at, at + AT_ONCE));
    } catch (error) {
      this.#fail(asError(error));
    }
  }

  #fail(error) {
    if (OVER.has(this.#state)) return;
    if (error.retryable || (error.isUnauthorized && this.#host.renews)) call(this.#options.onError, error);
    else this.#finish("failed", error);
  }

  // ---------------------------------------------------------- without a connection
  async #poll() {
    if (this.#polls !== null) {
      this.#upgradeLater();
      return;
    }
    const polls = (this.#polls = new AbortController());
    this.#setState("polling");
    this.#upgradeLater();
    while (!polls.signal.aborted) {
      await this.#readAll();
      await pause(Math.max(this.#options.interval, this.#host.pollInterval), polls.signal);
    }
  }

  #upgradeLater() {
    clearTimeout(this.#upgrade);
    this.#upgrade = setTimeout(() => ((this.#refusals = 0), this.#connect()), this.#host.upgradeInterval);
  }

  #stopPolling() {
    clearTimeout(this.#upgrade);
    this.#polls?.abort();
    this.#polls = null;
  }

  // ---------------------------------------------------------- end
  #finish(state, error) {
    this.#drop();
    this.#options.signal?.removeEventListener("abort", this.close);
    this.#setState(state, error === undefined ? {} : { error });
    this.#host.forget(this);
    if (error !== undefined) call(this.#options.onError, error);
  }

  #drop() {
    for (const timer of [this.#timer, this.#retry]) clearTimeout(timer);
    this.#timer = this.#retry = undefined;
    this.#stopPolling();
    this.#line?.close();
    this.#line = null;
  }

  #setState(state, detail = {}) {
    this.#state = state;
    call(this.#options.onState, state, detail);
  }
}
