import {
  StreamingError, asError, blocked, lost, malformed, noTransport, refusal, refused, silent, unanswered,
} from "./errors.js";
import { Watches } from "./watches.js";

const CLOSED_FOR_GOOD = [1003, 1008, 4000, 4010, 4031, 4130, 5000]; // permanent failures

// A WebSocket is shared: it carries many executions, each once.
export class WebSocketTransport {
  name = "websocket";
  #link;
  #wires = new Set();

  constructor(link) {
    this.#link = link;
  }

  open(order, sink) {
    const { executionId } = order;
    // A ticket of the page's function may be valid for one execution only.
    const fits = (wire) => !wire.watches(executionId) && this.#link.ticket === undefined;
    let wire = [...this.#wires].find(fits);
    if (wire === undefined) {
      wire = new Wire(this.#link, () => this.#wires.delete(wire));
      this.#wires.add(wire);
      wire.start(executionId).catch((error) => wire.lost(asError(error)));
    }
    return wire.watch(order, sink);
  }

  // Subscribes to all executions. A ticket of the page's function is for one execution, so it is not used.
  openEvents(order, sink) {
    let wire = [...this.#wires].find((one) => one.events === null && this.#link.ticket === undefined);
    if (wire === undefined) {
      wire = new Wire(this.#link, () => this.#wires.delete(wire));
      this.#wires.add(wire);
      wire.start(null).catch((error) => wire.lost(asError(error)));
    }
    return wire.watchEvents(order, sink);
  }

  // Sends a message over an open connection; returns undefined without one.
  send(type, payload) {
    return [...this.#wires].find((wire) => wire.isOpen)?.send(type, payload);
  }
}

class Wire extends Watches {
  link;
  status = {};
  isOpen = false;
  #gone;
  #executionId;
  #socket = null;
  #over = false;
  #answers = new Map();
  #number = 0;
  #serverError;
  #isGreeted = false;
  #wait;
  #timer;

  constructor(link, gone) {
    super();
    this.link = link;
    this.#gone = gone;
  }

  async start(executionId) {
    this.#executionId = executionId;
    const { WebSocket, openTimeout } = this.link;
    if (WebSocket === undefined) throw noTransport("WebSocket");
    const own = executionId === null ? undefined : await this.link.ownTicket(executionId);
    if (this.#over) return;
    this.#timer = setTimeout(() => this.lost(blocked("the WebSocket")), openTimeout);
    this.#socket = new WebSocket(this.link.socketAddress(own));
    this.#socket.onmessage = ({ data }) => this.#message(data);
    this.#socket.onclose = ({ code }) => this.#closed(code);
  }

  lost(error) {
    if (this.#over) return;
    this.#end(error);
    this.forgetAll((sink) => sink.lost(error, this.#wait));
  }

  // Closes the connection, which has no subscription any more.
  left() {
    if (!this.#over) this.#end();
  }

  ask(type, payload, answer) {
    const id = (this.#number += 1);
    this.#answers.set(id, answer);
    this.#socket.send(JSON.stringify({ type, payload, id }));
  }

  send(type, payload) {
    return new Promise((resolve) => this.ask(type, payload, resolve));
  }

  #end(error = lost()) {
    this.#over = true;
    this.isOpen = false;
    clearTimeout(this.#timer);
    this.#gone();
    this.#socket?.close(1000);
    for (const answer of this.#answers.values()) answer(unanswered(error));
    this.#answers.clear();
  }

  #closed(code) {
    if (this.#serverError?.code === code) this.lost(this.#serverError);
    else if (CLOSED_FOR_GOOD.includes(code)) {
      this.lost(refusal("closed", `the server has closed the connection with ${code}`, { code }));
    } else if (this.#isGreeted) this.lost(lost());
    else this.#explain();
  }

  // A WebSocket hides the reason of a refusal. A server with WebSockets answers a plain request with 426. A page of
  // another origin cannot read that response, so a second request goes to another address.
  async #explain() {
    const address = this.link.socketAddress().replace(/^ws/, "http");
    const error = await this.link.request(address).then(() => noTransport("WebSocket"), (refused) => refused);
    const isThere = error.status !== undefined || (await this.link.isThere(this.#executionId));
    this.lost(isThere && (error.status === undefined || error.status === 426) ? lost() : error);
  }

  #message(text) {
    if (this.#over) return;
    let message;
    try {
      message = JSON.parse(text);
    } catch (error) {
      this.lost(malformed(error));
      return;
    }
    const { type, payload, id } = message;
    if (this.isOpen) this.#listen();
    if (type === "reply") {
      const answer = this.#answers.get(id);
      this.#answers.delete(id);
      answer?.(payload);
    } else if (type === "connection_status") this.#greeted(payload);
    else if (type === "server_restart") this.#wait = payload.retry_ms;
    else if (type === "error" && payload.execution_id === undefined) {
      this.#serverError = new StreamingError(payload);
      this.events?.sink.trouble(this.#serverError); // the server has ended the subscription to all, or the connection
    } else this.take(type, payload);
  }

  async #greeted(status) {
    this.status = status;
    if (status.status === "authentication_required") {
      try {
        await this.#authenticate();
      } catch (error) {
        this.lost(asError(error));
        return;
      }
    }
    if (this.#over) return;
    this.isOpen = true;
    this.#listen();
    this.subscribeAll();
  }

  async #authenticate() {
    if (!this.link.hasToken) throw refusal("unauthorized", "the server requires a token", { code: 4010 });
    const token = await this.link.token();
    if (this.#over) return;
    const answer = await this.send("authenticate", { token });
    if (!answer?.ok) throw refused(answer);
  }

  // The server sends a heartbeat at each interval, so a silent connection is dead.
  #listen() {
    clearTimeout(this.#timer);
    const interval = this.status.heartbeat_interval_s;
    if (interval) this.#timer = setTimeout(() => this.lost(silent()), 2500 * interval);
  }
}
