// Replay of a run: a slider over its updates, with play, pause and speed. All panels show the same moment.

import { make, seconds, setText } from "../dom.js";
import { Panel } from "../run/panel.js";
import { timeOf } from "../run/store.js";
import { SPEEDS, advance } from "./clock.js";

export class Scrubber extends Panel {
  #play = button("scrub-play");
  #slider = make("input", "scrub-slider");
  #speed = make("select", "scrub-speed");
  #text = make("span", "scrub-text");
  #count = make("span", "scrub-count"); // narrow windows have no room for it
  #time = make("span");
  #live = button("scrub-live");
  #frame = null; // of the next step; null: it does not play
  #last = 0; // time of the last step
  #left = 0; // milliseconds that the last step did not use

  connectedCallback() {
    if (!this.firstChild) this.#make();
    super.connectedCallback();
  }

  disconnectedCallback() {
    this.#pause();
    super.disconnectedCallback();
  }

  draw(store) {
    const { updates, shown, isLive } = store;
    this.#bar.hidden = updates.length < 2;
    this.#slider.max = String(updates.length);
    this.#slider.value = String(shown);
    const [count, time] = momentOf(store);
    this.#slider.setAttribute("aria-valuetext", [count, time].filter(Boolean).join(" · "));
    setText(this.#count, time ? `${count} · ` : count);
    setText(this.#time, time);
    this.#live.setAttribute("aria-pressed", String(isLive));
    setText(this.#live, store.connection.state === "ended" ? "End" : "Live");
    const isPlaying = this.#frame !== null;
    setText(this.#play, isPlaying ? "❚❚" : "▶");
    this.#play.setAttribute("aria-label", isPlaying ? "Pause the replay" : "Replay");
    this.dataset.state = isPlaying ? "playing" : isLive ? "live" : "paused";
  }

  #bar = make("div", "scrub-bar");

  #make() {
    this.#bar.setAttribute("role", "group");
    this.#bar.setAttribute("aria-label", "Replay");
    this.#bar.hidden = true; // until there is something to replay
    this.#text.append(this.#count, this.#time);
    Object.assign(this.#slider, { type: "range", min: "0", step: "1" });
    this.#slider.setAttribute("aria-label", "Shown updates");
    this.#slider.addEventListener("input", () => this.#seek(Number(this.#slider.value)));
    this.#slider.addEventListener("keydown", (event) => {
      if (event.key !== " ") return;
      event.preventDefault();
      this.#toggle();
    });
    this.#speed.setAttribute("aria-label", "Speed of the replay");
    this.#speed.append(...SPEEDS.map(({ value, label }) => new Option(label, String(value), value === 1, value === 1)));
    this.#play.addEventListener("click", () => this.#toggle());
    this.#live.addEventListener("click", () => (this.#pause(), this.store.seek(null)));
    this.#bar.append(this.#play, this.#slider, this.#text, this.#speed, this.#live);
    this.append(this.#bar);
  }

  #toggle() {
    if (this.#frame !== null) this.#pause();
    else this.#start();
    this.redraw();
  }

  // Plays from the shown moment on; at the end, from the beginning of the run.
  #start() {
    const { store } = this;
    store.seek(store.shown >= store.updates.length ? store.first : store.shown);
    this.#last = performance.now();
    this.#left = 0;
    this.#frame = requestAnimationFrame((now) => this.#step(now));
  }

  #step(now) {
    const { store } = this;
    const { shown, left } = advance(store.updates, store.shown, now - this.#last + this.#left, Number(this.#speed.value));
    [this.#last, this.#left] = [now, left];
    this.#frame = shown < store.updates.length ? requestAnimationFrame((next) => this.#step(next)) : null;
    if (shown !== store.shown || this.#frame === null) store.seek(shown);
  }

  #pause() {
    if (this.#frame !== null) cancelAnimationFrame(this.#frame);
    this.#frame = null;
  }

  #seek(count) {
    this.#pause();
    this.store.seek(count);
  }
}

// The number of shown updates, and the time in the run.
function momentOf({ updates, shown, first }) {
  const of = `${shown.toLocaleString("en")} of ${updates.length.toLocaleString("en")}`;
  if (shown <= first) return [of, ""];
  return [of, seconds(Math.max(0, timeOf(updates[shown - 1]) - timeOf(updates[first])) / 1000)];
}

function button(name) {
  const made = make("button", `button ${name}`);
  made.type = "button";
  return made;
}

customElements.define("lg-scrubber", Scrubber);
