import { StreamingError, lost, refusal, unanswered, unreachable } from "./errors.js";
import { Watches } from "./watches.js";

// A socket of the page, which connects, reconnects and authenticates by itself.
export class SocketIoTransport extends Watches {
  name = "socketio";
  link;
  status = {};
  #socket;
  #serverError;
  #isListening = false;

  constructor(link, socket) {
    super();
    this.link = link;
    this.#socket = socket;
  }

  get isOpen() {
    return this.#socket.connected;
  }

  open(order, sink) {
    if (this.watches(order.executionId)) {
      const message = "a socket watches an execution once: give the second subscription a socket of its own";
      queueMicrotask(() => sink.lost(refusal("watched_already", message)));
      return { close() {} };
    }
    if (!this.#isListening) this.#listen();
    const line = this.watch(order, sink);
    if (!this.#socket.active) this.#socket.connect();
    return line;
  }

  openEvents(order, sink) {
    if (this.events !== null) {
      const message = "a socket watches all executions once: give the second watch a socket of its own";
      queueMicrotask(() => sink.lost(refusal("watched_already", message)));
      return { close() {} };
    }
    if (!this.#isListening) this.#listen();
    const line = this.watchEvents(order, sink);
    if (!this.#socket.active) this.#socket.connect();
    return line;
  }

  ask(type, payload, answer) {
    this.#socket.emit(type, payload, answer);
  }

  send(type, payload) {
    return this.isOpen ? new Promise((resolve) => this.#ask(type, payload, resolve)) : undefined;
  }

  // socket.io-client drops pending requests when its connection is lost.
  #ask(type, payload, resolve) {
    const settle = (answer) => (this.#socket.off("disconnect", gone), resolve(answer));
    const gone = () => settle(unanswered(lost()));
    this.#socket.on("disconnect", gone);
    this.ask(type, payload, settle);
  }

  left() {
    for (const [name, action] of Object.entries(this.#handlers)) this.#socket.off(name, action);
    this.#isListening = false;
  }

  #listen() {
    for (const [name, action] of Object.entries(this.#handlers)) this.#socket.on(name, action);
    this.#isListening = true;
  }

  #handlers = {
    connect: () => {
      this.#serverError = undefined;
      this.subscribeAll();
    },
    disconnect: (reason) => {
      if (reason === "io server disconnect") this.forgetAll((sink) => sink.lost(this.#serverError ?? lost()));
      else this.#pause(this.#serverError ?? lost());
    },
    connect_error: (error) => {
      const failure = error.data?.code === undefined ? unreachable(error) : new StreamingError(error.data);
      if (this.#socket.active) this.#pause(failure);
      else this.forgetAll((sink) => sink.lost(failure));
    },
    error: (payload) => {
      if (payload?.execution_id === undefined) {
        this.#serverError = new StreamingError(payload);
        this.events?.sink.trouble(this.#serverError);
      } else this.take("error", payload);
    },
    updates: (payload) => this.take("updates", payload),
    gap: (payload) => this.take("gap", payload),
    subscription_closed: (payload) => this.take("subscription_closed", payload),
    auth_expiring: (payload) => this.take("auth_expiring", payload),
  };

  #pause(error) {
    for (const watch of this.watching.values()) watch.sink.paused(error);
    this.events?.sink.paused(error);
  }
}
