// Time of a replay: which updates are shown after some seconds at some speed. No DOM.

import { timeOf } from "../run/store.js";

const LONGEST_GAP = 2_000; // milliseconds between two updates; longer waits, as for people, are shortened
const AT_ONCE = 200; // updates in a frame at the highest speed

export const SPEEDS = [
  { value: 0.5, label: "0.5×" },
  { value: 1, label: "1×" },
  { value: 2, label: "2×" },
  { value: 4, label: "4×" },
  { value: 10, label: "10×" },
  { value: Infinity, label: "max" },
];

// Returns the number of shown updates after `elapsed` milliseconds, and the milliseconds that are left over.
export function advance(updates, shown, elapsed, speed) {
  if (speed === Infinity) return { shown: Math.min(updates.length, shown + AT_ONCE), left: 0 };
  let [count, left] = [shown, elapsed * speed];
  while (count < updates.length) {
    const gap = count === 0 ? 0 : timeOf(updates[count]) - timeOf(updates[count - 1]);
    const wait = Math.max(0, Math.min(LONGEST_GAP, gap));
    if (wait > left) break;
    left -= wait;
    count += 1;
  }
  return { shown: count, left: left / speed };
}
