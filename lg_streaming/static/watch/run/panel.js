// Base of the page's panels: draws while it is visible, at most once a frame.

import { Run } from "./run.js";

export class Panel extends HTMLElement {
  #store = null;
  #onDraw = () => this.redraw();
  #timer = null;

  get store() {
    return this.#store;
  }

  set store(store) {
    this.#leave();
    this.#store = store;
    if (this.isConnected) this.#join();
  }

  connectedCallback() {
    this.#join();
  }

  disconnectedCallback() {
    this.#leave();
  }

  // Draws now, if the panel is visible. A panel that becomes visible is drawn by its page.
  redraw() {
    if (this.#store !== null && this.isConnected && this.closest("[hidden]") === null) this.draw(this.#store, this.#store.now);
  }

  // Shows what the store has. `now` is the server's time, in milliseconds.
  draw(_store, _now) {
    throw new Error(`${this.localName} draws nothing`);
  }

  #join() {
    if (this.#store === null || this.#timer !== null) return;
    this.#store.addEventListener("draw", this.#onDraw);
    // Times and bars of an open run move without updates.
    this.#timer = setInterval(() => isOpen(this.#store) && this.redraw(), 500);
    this.redraw();
  }

  #leave() {
    this.#store?.removeEventListener("draw", this.#onDraw);
    clearInterval(this.#timer);
    this.#timer = null;
  }
}

function isOpen(store) {
  const run = store.use(Run);
  return store.isLive && run.startedAt !== null && run.endedAt === null;
}
