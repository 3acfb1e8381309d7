import { pause } from "./backoff.js";
import {
  LOG_UNAVAILABLE, StreamingError, asError, blocked, lost, malformed, noTransport, silent, trouble, unreachable,
} from "./errors.js";

// Each transport has `open(order, sink)`, which returns `{close(), check?()}` at once. It calls these functions of the
// sink, and none after `close()`:
// - opened(status): the server has accepted the connection.
// - updates(list, position): updates, and the position after them if it is further.
// - gap(gap), initial(data), trouble(error).
// - ended(position): the subscription has ended.
// - lost(error, wait): the connection has ended; `wait` is the pause that the server asks for.
// - paused(error): the connection is lost and reconnects by itself (socket.io-client only).
// `order` is {executionId, query, follow, after()}.

export class EventSourceTransport {
  name = "sse";
  #link;

  constructor(link) {
    this.#link = link;
  }

  open(order, sink) {
    const line = new EventSourceLine(this.#link, order, sink);
    line.start().catch((error) => line.lost(asError(error)));
    return line;
  }
}

class EventSourceLine {
  #link;
  #order;
  #sink;
  #source = null;
  #requests = new AbortController();
  #over = false;
  #in = false;
  #serverError; // the error that the server has sent
  #heardAt = performance.now();
  #seen; // the server's position at the last check
  #timer;

  constructor(link, order, sink) {
    this.#link = link;
    this.#order = order;
    this.#sink = sink;
  }

  async start() {
    const { executionId } = this.#order;
    if (this.#link.EventSource === undefined) throw noTransport("EventSource");
    const ticket = await this.#link.ticketFor(executionId, this.#requests.signal);
    if (this.#over) return;
    const { EventSource, withCredentials } = this.#link;
    this.#timer = setTimeout(() => this.lost(blocked("the event stream")), this.#link.openTimeout);
    this.#source = new EventSource(this.#address({ batch: true, named: false, ticket }), { withCredentials });
    this.#source.onerror = (event) => this.#failed(event);
    this.#on("message", (updates, { lastEventId }) => this.#sink.updates(updates, lastEventId));
    this.#on("connection_status", (status) => this.#opened(status));
    this.#on("initial", (data) => this.#sink.initial(data));
    this.#on("gap", (gap) => this.#sink.gap(gap));
    this.#on("end", (_, { lastEventId }) => this.#finish(() => this.#sink.ended(lastEventId)));
    for (const name of ["timeout", "server_restart"]) {
      this.#on(name, ({ retry_ms }) => this.lost(trouble(name, "the server has ended the stream"), retry_ms));
    }
  }

  close() {
    this.#over = true;
    clearTimeout(this.#timer);
    this.#requests.abort();
    this.#source?.close();
  }

  lost(error, wait) {
    this.#finish(() => this.#sink.lost(error, wait));
  }

  #address(more) {
    const { executionId, query, follow, after } = this.#order;
    const parameters = { ...query, after: after(), ...(follow && { follow }), ...more };
    return this.#link.address(executionId, "stream", parameters);
  }

  #on(name, action) {
    this.#source.addEventListener(name, (event) => {
      if (this.#over) return;
      this.#heardAt = performance.now();
      let data;
      try {
        data = JSON.parse(event.data);
      } catch (error) {
        this.lost(malformed(error));
        return;
      }
      action(data, event);
    });
  }

  #opened(status) {
    clearTimeout(this.#timer);
    this.#in = true;
    this.#sink.opened(status);
    const interval = status?.heartbeat_interval_s;
    if (interval && !this.#over) this.#timer = setInterval(() => this.check(), 3000 * interval);
  }

  #finish(tell) {
    if (this.#over) return;
    this.close();
    tell();
  }

  // An `error` event with data comes from the server; one without data means that the connection has ended.
  #failed(event) {
    if (this.#over) return;
    if (typeof event.data === "string") {
      const error = errorIn(event.data);
      if (error.code === LOG_UNAVAILABLE) this.#sink.trouble(error); // the server retries, and the stream stays open
      else this.#serverError = error;
      return;
    }
    const isRefused = this.#source.readyState === 2;
    this.#source.close();
    clearTimeout(this.#timer);
    if (this.#serverError !== undefined) this.lost(this.#serverError);
    else if (this.#in) this.lost(lost());
    else if (isRefused) this.#explain();
    else this.#look();
  }

  // Returns whether only the stream is unavailable.
  async #look() {
    const isThere = await this.#link.isThere(this.#order.executionId, this.#requests.signal);
    this.lost(isThere ? lost() : unreachable());
  }

  // EventSource hides the reason of a refusal; a plain request receives it.
  async #explain() {
    try {
      const { signal } = this.#requests;
      const accept = "text/event-stream";
      const status = await this.#link.request(this.#address({}), { accept, signal }, (response) => response.status);
      if (status === 204) this.#finish(() => this.#sink.ended());
      else this.lost(lost());
    } catch (error) {
      // On a server without event streams, this address names another execution.
      const isAnother = error.executionId === `${this.#order.executionId}/stream`;
      this.lost(isAnother ? noTransport("event stream") : error);
    }
  }

  // Browsers hide the comments that keep a stream alive, so a quiet stream may be dead. A request compares the server's
  // position with the page's.
  async check() {
    const before = this.#heardAt;
    if (this.#over || !this.#in || performance.now() - before < 2000) return;
    const isQuiet = () => !this.#over && this.#heardAt === before;
    try {
      const { signal } = this.#requests;
      const { position } = await this.#link.json(this.#link.address(this.#order.executionId), { signal });
      const isFurther = position !== this.#seen && position !== this.#order.after();
      this.#seen = position;
      if (!isFurther || !isQuiet()) return;
      await pause(2000, signal);
      if (isQuiet()) this.lost(silent());
    } catch (error) {
      if (error.retryable && isQuiet()) this.lost(error);
    }
  }
}

function errorIn(text) {
  try {
    return new StreamingError(JSON.parse(text));
  } catch (error) {
    return malformed(error);
  }
}
