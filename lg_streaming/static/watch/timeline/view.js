// The part of a timeline that is shown, in units of its axis. Without a choice of a person it is the whole. Pure.

const STEP = 1.6;
const SMALLEST = 1e-5; // of the whole

export class View {
  #range = null; // {from, to}; null: the whole, also as it grows

  get isWhole() {
    return this.#range === null;
  }

  // Returns {from, to} for an axis of this length.
  of(length) {
    if (this.#range === null) return { from: 0, to: length };
    const size = Math.min(length, this.#range.to - this.#range.from);
    const from = Math.max(0, Math.min(this.#range.from, length - size));
    return { from, to: from + size };
  }

  fit() {
    this.#range = null;
  }

  // Zooms about a place; without one about the middle.
  zoom(length, isCloser, about = null) {
    const { from, to } = this.of(length);
    const size = Math.max(length * SMALLEST, (to - from) * (isCloser ? 1 / STEP : STEP));
    if (size >= length) return this.fit();
    const middle = about ?? (from + to) / 2;
    const share = (middle - from) / (to - from);
    return this.#show(length, middle - share * size, size);
  }

  // Moves by a share of what is shown.
  pan(length, share) {
    if (this.#range === null) return;
    const { from, to } = this.of(length);
    this.#show(length, from + share * (to - from), to - from);
  }

  select(length, from, to) {
    this.#show(length, Math.min(from, to), Math.max(length * SMALLEST, Math.abs(to - from)));
  }

  #show(length, from, size) {
    const first = Math.max(0, Math.min(from, length - size));
    this.#range = { from: first, to: first + size };
  }
}
