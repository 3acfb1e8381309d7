import { BACKOFF_OPTIONS, checked } from "./options.js";

const LONGEST_WISH = 3_600_000; // longest pause that a server may ask for

// Pauses between attempts: exponential, with jitter.
export class Backoff {
  #options;
  #attempt = 0;

  constructor(options = {}) {
    const given = checked(options, BACKOFF_OPTIONS, "backoff");
    this.#options = { initial: 1000, max: 30_000, factor: 2, jitter: 0.5, random: Math.random, ...given };
  }

  // Number of pauses since the last success.
  get attempt() {
    return this.#attempt;
  }

  // Returns the next pause. The first attempt takes the pause that the server asks for; later attempts take the longer
  // of that and the backoff.
  next(hint) {
    const { initial, max, factor, jitter, random } = this.#options;
    const longest = Math.min(max, initial * factor ** this.#attempt);
    const own = longest * (1 - jitter * random());
    this.#attempt += 1;
    if (!Number.isFinite(hint)) return Math.round(own);
    const wish = Math.min(Math.max(0, hint), LONGEST_WISH);
    return Math.round(this.#attempt === 1 ? wish : Math.max(wish, own));
  }

  reset() {
    this.#attempt = 0;
  }
}

export function pause(delay, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, delay);
    signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });
}

