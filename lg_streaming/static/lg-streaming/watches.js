import { LOG_UNAVAILABLE, StreamingError, lost, refusal, refused } from "./errors.js";

const MIN_RENEWAL = 250;

// Subscriptions that share one connection. Subclasses implement the transport.
export class Watches {
  watching = new Map(); // execution id -> {order, sink, isLive}
  events = null; // {order, sink, isLive}: the subscription to all executions
  #renewal;

  watches(executionId) {
    return this.watching.has(executionId);
  }

  watch(order, sink) {
    const watch = { order, sink, isLive: false };
    this.watching.set(order.executionId, watch);
    if (this.isOpen) this.subscribe(watch);
    return { close: () => this.#unwatch(watch) };
  }

  subscribe(watch) {
    const { order, sink } = watch;
    const { executionId, query, follow, after } = order;
    const request = { ...query, after: after(), batch: true, ...(follow && { follow }) };
    this.ask("subscribe_execution", { execution_id: executionId, ...request }, (answer) => {
      if (this.watching.get(executionId) !== watch) return;
      if (answer?.ok) {
        watch.isLive = true; // earlier messages belong to a previous subscription
        sink.opened({ ...answer, ...this.status });
      } else {
        const error = refused(answer);
        this.#forget(watch, (own) => own.lost(error));
      }
    });
  }

  watchEvents(order, sink) {
    const events = (this.events = { order, sink, isLive: false });
    if (this.isOpen) this.subscribeEvents();
    return { close: () => this.#unwatchEvents(events) };
  }

  subscribeEvents() {
    const { events } = this;
    this.ask("subscribe_events", { ...events.order, batch: true }, (answer) => {
      if (this.events !== events) return;
      if (answer?.ok) {
        events.isLive = true;
        events.sink.opened();
      } else this.#forgetEvents(events, (sink) => sink.lost(refused(answer)));
    });
  }

  // Subscribes anew, on a connection that is open again.
  subscribeAll() {
    for (const watch of this.watching.values()) this.subscribe(watch);
    if (this.events !== null) this.subscribeEvents();
  }

  get isEmpty() {
    return this.watching.size === 0 && this.events === null;
  }

  take(type, payload) {
    const watch = this.watching.get(payload?.execution_id);
    if (type === "auth_expiring") this.#renewLater(payload.in_s);
    else if (watch === undefined && this.events?.isLive) this.#takeEvent(type, payload, this.events.sink);
    else if (!watch?.isLive) return;
    else if (type === "updates") watch.sink.updates(payload.updates);
    else if (type === "gap") watch.sink.gap(payload);
    else if (type === "error") this.#failed(watch, new StreamingError(payload));
    else if (type === "subscription_closed") this.#forget(watch, (sink) => closed(sink, payload.reason, watch.error));
  }

  forgetAll(notify) {
    for (const watch of [...this.watching.values()]) this.#forget(watch, notify);
    if (this.events !== null) this.#forgetEvents(this.events, notify);
  }

  #takeEvent(type, payload, sink) {
    if (type === "updates") sink.updates(payload.execution_id, payload.updates);
    else if (type === "gap") sink.gap(payload);
  }

  // Waits half of the remaining time, so that short-lived tokens are not renewed without a pause.
  #renewLater(left) {
    clearTimeout(this.#renewal);
    this.#renewal = setTimeout(() => this.#renew(left / 2), Math.max(MIN_RENEWAL, 500 * left));
  }

  // Only a function can return a fresh token.
  async #renew(left) {
    if (!this.link.renews || !this.link.hasToken) return;
    const token = await this.link.token().catch(() => undefined);
    if (!this.isOpen) return;
    if (token === undefined) this.#renewLater(left);
    else this.ask("authenticate", { token }, () => {});
  }

  #failed(watch, error) {
    if (error.code === LOG_UNAVAILABLE) watch.sink.trouble(error); // the server retries
    else watch.error = error; // the server closes the subscription next
  }

  #forget(watch, notify) {
    if (this.watching.get(watch.order.executionId) !== watch) return;
    this.watching.delete(watch.order.executionId);
    notify(watch.sink);
    this.#leaveIfEmpty();
  }

  #forgetEvents(events, notify) {
    if (this.events !== events) return;
    this.events = null;
    notify(events.sink);
    this.#leaveIfEmpty();
  }

  #leaveIfEmpty() {
    if (!this.isEmpty) return;
    clearTimeout(this.#renewal);
    this.left();
  }

  #unwatch(watch) {
    this.#forget(watch, () => {
      if (this.isOpen) this.ask("unsubscribe_execution", { execution_id: watch.order.executionId }, () => {});
    });
  }

  #unwatchEvents(events) {
    this.#forgetEvents(events, () => {
      if (this.isOpen) this.ask("unsubscribe_events", {}, () => {});
    });
  }
}

// Returns the error for the reason of a closed subscription.
function closed(sink, reason, error) {
  if (reason === "ended") sink.ended();
  else if (reason === "forbidden") sink.lost(refusal("forbidden", "you may not watch this any more", { code: 4030 }));
  else sink.lost(error ?? lost());
}
