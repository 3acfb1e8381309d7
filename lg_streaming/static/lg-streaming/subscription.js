import { Backoff } from "./backoff.js";
import { GAP, call, isAbsent, isAway, malformed } from "./errors.js";
import { FILTERS } from "./options.js";
import { TextAssembly } from "./text.js";

const STABLE = 5000; // a connection that lasts this long, or delivers something, resets the count of attempts
const KEPT_CHARACTERS = 1_000_000; // largest state that a page keeps over a reload
const POSITION = /^[\w-]{1,32}:\d{1,15}$/;
const OVER = new Set(["ended", "failed", "closed"]);
const ON_THE_WIRE = { ...Object.fromEntries(Object.entries(FILTERS).map(([name, [wire]]) => [name, wire])), merge: "merge", gap: "on_gap" };

export class Subscription {
  #host;
  #id;
  #options;
  #query;
  #transports;
  #using = 0; // index of the transport in use
  #absent = new Set(); // transports that the server does not have
  #failures = 0; // consecutive attempts of this transport that the server did not accept
  #current = null; // {index, line, isIn, from}
  #trial = null; // attempt with a better transport, while the page polls
  #assembly = new TextAssembly();
  #state = "connecting";
  #position = null;
  #after;
  #head; // the server's position when it accepted the connection
  #backoff;
  #wasRefused = false;
  #timer; // timer of the next attempt
  #stable;
  #upgrade;
  #settle;

  constructor(host, executionId, options) {
    this.#host = host;
    this.#id = executionId;
    this.#options = options;
    this.#after = options.after;
    this.#backoff = new Backoff(host.backoff);
    this.#transports = host.transports;
    const given = Object.entries(ON_THE_WIRE).filter(([name]) => options[name] !== undefined && options[name] !== false);
    this.#query = Object.fromEntries(given.map(([name, wire]) => [wire, options[name]]));
    this.done = new Promise((resolve, reject) => (this.#settle = { resolve, reject }));
    this.done.catch(() => {}); // the page may ignore it
    this.close = this.close.bind(this);
  }

  get state() {
    return this.#state;
  }

  get position() {
    return this.#position;
  }

  get messages() {
    return this.#assembly.messages;
  }

  get executionId() {
    return this.#id;
  }

  begin() {
    const { signal } = this.#options;
    signal?.addEventListener("abort", this.close);
    if (signal?.aborted) this.close();
    if (OVER.has(this.#state)) return;
    const wasOver = this.#restore();
    if (wasOver) this.#finish("ended", {});
    else {
      this.#setState("connecting", {});
      this.#attempt();
    }
  }

  close() {
    if (!OVER.has(this.#state)) this.#finish("closed", {});
  }

  // Skips the pause: the network is back, or the page is visible again.
  hurry() {
    if (this.#timer !== undefined) this.#attempt();
    else this.#current?.line?.check?.();
  }

  // Stores the state: the page is unloaded, and may be restored.
  suspend() {
    this.save();
    this.#drop();
  }

  wake() {
    if (!OVER.has(this.#state)) this.#attempt();
  }

  // ---------------------------------------------------------- attempts
  #attempt() {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (OVER.has(this.#state)) return;
    this.#current = this.#open(this.#using);
  }

  #open(index) {
    const attempt = { index, line: null, isIn: false, from: this.#position };
    attempt.line = this.#transports[index].open(this.#order(), this.#sink(attempt));
    return attempt;
  }

  #order() {
    const after = () => this.#position ?? this.#after;
    return { executionId: this.#id, query: this.#query, follow: this.#options.follow ?? false, after };
  }

  #sink(attempt) {
    const ifCurrent = (action) => (...values) => {
      if (attempt !== this.#current && attempt !== this.#trial) return;
      try {
        action(...values);
      } catch (error) {
        attempt.line?.close(); // the server violates the protocol
        this.#lost(attempt, malformed(error));
      }
    };
    return {
      opened: ifCurrent((status) => this.#opened(attempt, status)),
      updates: ifCurrent((updates, position) => this.#take(updates, position)),
      gap: ifCurrent((gap) => this.#missed(gap)),
      initial: ifCurrent((data) => call(this.#options.onInitial, data)),
      trouble: ifCurrent((error) => call(this.#options.onError, error)),
      ended: ifCurrent((position) => this.#ended(position)),
      paused: ifCurrent((error) => this.#setState("reconnecting", { error, attempt: this.#backoff.attempt })),
      lost: ifCurrent((error, wait) => this.#lost(attempt, error, wait)),
    };
  }

  #opened(attempt, status) {
    if (attempt === this.#trial) {
      this.#current.line.close();
      this.#trial = null;
      this.#current = attempt;
      this.#using = attempt.index;
      if (this.#options.merge && attempt.from !== this.#position) {
        attempt.line.close(); // its merged updates may begin before updates that have arrived since
        this.#attempt();
        return;
      }
    }
    attempt.isIn = true;
    this.#head = status.position;
    this.#wasRefused = false;
    this.#failures = 0;
    if (this.#after === "latest") {
      this.#after = undefined;
      this.#position ??= status.position ?? null;
    }
    const { name } = this.#transports[attempt.index];
    this.#setState(name === "polling" ? "polling" : "connected", { transport: name });
    if (OVER.has(this.#state)) return;
    clearTimeout(this.#stable);
    this.#stable = setTimeout(() => this.#backoff.reset(), STABLE);
    if (name === "polling" && this.#transports.length > 1) this.#tryBetterLater();
  }

  #lost(attempt, error, wait) {
    if (attempt === this.#trial) {
      this.#trial = null;
      this.#tryBetter(attempt.index + 1);
      return;
    }
    clearTimeout(this.#stable);
    clearTimeout(this.#upgrade);
    this.#trial?.line.close();
    this.#trial = null;
    this.#current = null;
    const delay = this.#decide(attempt, error, wait);
    if (delay === null) {
      this.#finish("failed", { error });
      return;
    }
    this.#timer = setTimeout(() => this.#attempt(), delay);
    const { name } = this.#transports[this.#using];
    this.#setState("reconnecting", { error, delay, attempt: this.#backoff.attempt, transport: name });
  }

  // Returns the pause; null if a retry is useless.
  #decide(attempt, error, wait) {
    if (error.code === GAP) return null;
    if (error.isUnauthorized) {
      if (this.#wasRefused || !(this.#host.renews || attempt.isIn)) return null;
      this.#wasRefused = true;
    } else if (isAbsent(error)) {
      this.#absent.add(attempt.index);
      if (this.#absent.size === this.#transports.length) return null;
    } else if (!error.retryable) return null;
    if (this.#backoff.attempt >= this.#host.maxAttempts) return null;
    const delay = this.#backoff.next(wait ?? error.retryAfter);
    return this.#nextTransport(attempt, error) ? 0 : delay;
  }

  // Chooses the transport of the next attempt; returns whether it begins at once. An absent server is absent for all.
  #nextTransport(attempt, error) {
    if (attempt.isIn || error.isUnauthorized || isAway(error)) return false;
    this.#failures += 1;
    const isBarred = isAbsent(error) || error.codeName === "blocked";
    if (!isBarred && this.#failures < 2) return false;
    this.#failures = 0;
    const before = this.#using;
    do this.#using = (this.#using + 1) % this.#transports.length;
    while (this.#absent.has(this.#using));
    return isBarred && this.#using > before;
  }

  #tryBetterLater() {
    clearTimeout(this.#upgrade);
    this.#upgrade = setTimeout(() => this.#tryBetter(0), this.#host.upgradeInterval);
  }

  #tryBetter(from) {
    let index = from;
    while (this.#absent.has(index)) index += 1;
    if (index < this.#current.index) this.#trial = this.#open(index);
    else this.#tryBetterLater();
  }

  // ---------------------------------------------------------- received messages
  #take(updates, position) {
    const fresh = [];
    for (const update of updates) {
      if (!isOf(this.#id, update)) {
        call(this.#options.onError, malformed());
        continue;
      }
      if (!this.#advance(update)) continue; // a duplicate
      fresh.push(update);
      this.#assembly.add(update);
      call(this.#options.onUpdate, update);
      if (OVER.has(this.#state)) return;
    }
    if (fresh.length > 0) {
      this.#backoff.reset();
      call(this.#options.onUpdates, fresh);
    }
    this.#moveTo(position);
    this.#showTexts();
  }

  #advance({ metadata: { epoch, sequence_number: number } }) {
    const [known, last] = split(this.#position);
    if (epoch === known && number <= last) return false;
    this.#position = `${epoch}:${number}`;
    return true;
  }

  // A filter may have left out the last updates.
  #moveTo(position) {
    if (!POSITION.test(position)) return;
    const [epoch, number] = split(position);
    const [known, last] = split(this.#position);
    if (epoch !== known || number > last) this.#position = position;
  }

  #missed(gap) {
    if (gap.reason === "evicted") this.#assembly.miss();
    else {
      // The server has a new log. A reconnect before its first update reports no second gap.
      const [epoch] = split(this.#head);
      const isKnown = POSITION.test(this.#head) && epoch !== split(this.#position ?? this.#after)[0];
      if (isKnown) this.#position = this.#options.gap === "tail" ? this.#head : `${epoch}:0`;
      else this.#position = null;
      this.#assembly.clear();
    }
    call(this.#options.onGap, gap);
    this.#showTexts();
  }

  #showTexts() {
    for (const message of this.#assembly.changes()) {
      if (!OVER.has(this.#state)) call(this.#options.onText, message, this.#assembly.messages);
    }
  }

  #ended(position) {
    this.#moveTo(position);
    this.#assembly.finish();
    this.#showTexts();
    if (!OVER.has(this.#state)) this.#finish("ended", {});
  }

  // ---------------------------------------------------------- end
  #finish(state, detail) {
    this.#drop();
    this.#options.signal?.removeEventListener("abort", this.close);
    this.#setState(state, detail);
    if (state === "ended") this.save();
    this.#host.forget(this);
    if (state === "failed") {
      call(this.#options.onError, detail.error);
      this.#settle.reject(detail.error);
    } else this.#settle.resolve();
  }

  #drop() {
    for (const timer of [this.#timer, this.#stable, this.#upgrade]) clearTimeout(timer);
    this.#timer = undefined;
    for (const attempt of [this.#current, this.#trial]) attempt?.line.close();
    this.#current = this.#trial = null;
  }

  #setState(state, detail) {
    this.#state = state;
    call(this.#options.onState, state, detail);
  }

  // ---------------------------------------------------------- state over a reload
  get #key() {
    const { resume } = this.#options;
    return typeof resume === "string" ? resume : `lg-streaming ${this.#host.url} ${this.#id}`;
  }

  // A subscription with other filters than before reads all updates again.
  get #request() {
    return JSON.stringify([this.#id, this.#query, this.#options.follow ?? false]);
  }

  save() {
    const { storage } = this.#host;
    if (!this.#options.resume || !storage || this.#state === "closed") return;
    const { follow, until } = this.#options;
    const isOver = this.#state === "ended" && !follow && until !== "interrupted";
    const kept = JSON.stringify({ request: this.#request, position: this.#position, isOver, texts: this.#assembly });
    try {
      if (kept.length <= KEPT_CHARACTERS) storage.setItem(this.#key, kept);
      else storage.removeItem(this.#key);
    } catch {
      this.#forgetKept(storage); // the storage is full: no state is better than an old one
    }
  }

  #forgetKept(storage) {
    try {
      storage.removeItem(this.#key);
    } catch {
      // another page uses it now
    }
  }

  // Returns whether the subscription has ended.
  #restore() {
    const { storage } = this.#host;
    if (!this.#options.resume || !storage) return false;
    try {
      const { request, position, isOver, texts } = JSON.parse(storage.getItem(this.#key));
      if (request !== this.#request || !(POSITION.test(position) || (position === null && isOver))) return false;
      this.#assembly = TextAssembly.from(texts);
      this.#position = position;
      for (const message of this.messages) call(this.#options.onText, message, this.messages);
      return isOver;
    } catch {
      return false; // no stored state, or not of this library
    }
  }
}

// Returns whether the value is an update of the execution, by its position.
function isOf(executionId, update) {
  const { execution_id: id, epoch, sequence_number: number } = update?.metadata ?? {};
  return typeof update?.type === "string" && id === executionId && typeof epoch === "string" && Number.isInteger(number);
}

function split(position) {
  const [epoch, number] = (position ?? "").split(":");
  return [epoch, Number(number)];
}
