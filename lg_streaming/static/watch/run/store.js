// Holds the updates of one execution, and what views fold from them.
//
// A panel of the page is a `Panel` (panel.js) with a store:
//
//   draw(store, now) { const run = store.use(Run); … }
//
// `store.use(Fold)` returns an instance of a class with `apply(update, at)`, folded from all shown updates. It is made
// at its first use and then kept up to date, so a view that is never opened costs nothing. Call it in each `draw`: after
// a seek backwards, or when the next run begins, there is a new instance. A fold may have `miss(gap)`.
//
// `store.updates` are all updates that the page has, also those of earlier runs. `store.shown` is the number of those that
// are shown. `seek(count)` shows only the first ones, and `seek(null)` follows the run again. The store dispatches "draw" at
// most once a frame, and "state" when the connection changes.

import { fitted } from "./fitted.js";
import { Run } from "./run.js";

const MOST_UPDATES = 100_000; // the oldest are dropped beyond
const DROPPED_AT_ONCE = 10_000;

export class RunStore extends EventTarget {
  connection = { state: "connecting", error: null };
  #updates = [];
  #gaps = []; // {before, gap}: a gap before the update with this index
  #position = null; // {epoch, seq} of the newest update
  #folds = new Map(); // class -> {fold, next, gaps}: the next update and gap that it gets
  #shown = null; // number of shown updates; null: all
  #first = 0; // index of the first update of the shown run
  #isDrawing = false;
  #lag = -Infinity; // estimated offset of the server's clock, in milliseconds

  get updates() {
    return this.#updates;
  }

  get shown() {
    return this.#shown ?? this.#updates.length;
  }

  get isLive() {
    return this.#shown === null;
  }

  // Index of the first update of the shown run.
  get first() {
    return this.#first;
  }

  // The server's time, or in a replay the time of the newest shown update.
  get now() {
    const run = this.use(Run);
    if (run.endedAt !== null) return run.endedAt;
    if (!this.isLive) return run.newestAt ?? Date.now();
    return Date.now() + (Number.isFinite(this.#lag) ? this.#lag : 0);
  }

  // Adds updates that arrived; repeated ones are ignored.
  add(updates) {
    for (const update of updates) {
      const { epoch, sequence_number: seq } = update.metadata;
      if (this.#position?.epoch === epoch && seq <= this.#position.seq) continue;
      this.#position = { epoch, seq };
      this.#updates.push(update);
      if (update.type === "workflow_start" && this.isLive) this.#enter(this.#updates.length - 1);
    }
    const newest = this.#updates.at(-1);
    if (newest) this.#lag = Math.max(this.#lag, timeOf(newest) - Date.now());
    if (this.#updates.length > MOST_UPDATES) this.#drop(DROPPED_AT_ONCE);
    this.changed();
  }

  // Notes missing updates. A new log begins without the updates of the old one.
  miss(gap) {
    if (gap.reason !== "evicted") {
      this.#updates = [];
      this.#gaps = [];
      this.#position = null;
      this.#shown = null;
      this.#enter(0);
    }
    this.#gaps.push({ before: this.#updates.length, gap });
    this.changed();
  }

  connect(state, error = null) {
    this.connection = { state, error };
    this.dispatchEvent(new Event("state"));
    this.changed();
  }

  use(Fold) {
    const known = this.#folds.get(Fold) ?? this.#begin(Fold);
    for (;;) {
      const missing = this.#gaps[known.gaps];
      if (missing !== undefined && missing.before <= known.next) {
        known.fold.miss?.(missing.gap);
        known.gaps += 1;
      } else if (known.next < this.shown) {
        const update = this.#updates[known.next];
        known.next += 1; // first: an update that fails must not stop the later ones
        try {
          known.fold.apply(fitted(update), timeOf(update));
        } catch (error) {
          queueMicrotask(() => { throw error; });
        }
      } else {
        return known.fold;
      }
    }
  }

  // Shows only the first `count` updates; null: all, and those to come.
  seek(count) {
    const isBack = count !== null && count < this.shown;
    this.#shown = count === null ? null : Math.max(0, Math.min(count, this.#updates.length));
    const first = this.#firstOfRun(this.shown);
    if (isBack || first !== this.#first) this.#enter(first);
    this.changed();
  }

  // Requests a frame. A hidden page gets no frames, and is drawn when it becomes visible.
  changed() {
    if (this.#isDrawing) return;
    this.#isDrawing = true;
    requestAnimationFrame(() => {
      this.#isDrawing = false;
      this.dispatchEvent(new Event("draw"));
    });
  }

  #begin(Fold) {
    const gaps = this.#gaps.filter(({ before }) => before < this.#first).length;
    const known = { fold: new Fold(), next: this.#first, gaps };
    this.#folds.set(Fold, known);
    return known;
  }

  // Shows another run: folds begin anew.
  #enter(first) {
    this.#first = first;
    this.#folds.clear();
  }

  #firstOfRun(end) {
    for (let index = end - 1; index > 0; index -= 1) if (this.#updates[index].type === "workflow_start") return index;
    return 0;
  }

  #drop(count) {
    this.#updates.splice(0, count);
    this.#gaps = this.#gaps.map(({ before, gap }) => ({ before: Math.max(0, before - count), gap }));
    this.#first = Math.max(0, this.#first - count);
    if (this.#shown !== null) this.#shown = Math.max(0, this.#shown - count);
    for (const known of this.#folds.values()) known.next = Math.max(0, known.next - count);
  }
}

export function timeOf(update) {
  return (update.at ??= Date.parse(update.metadata.timestamp));
}
