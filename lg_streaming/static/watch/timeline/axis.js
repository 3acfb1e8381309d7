// Axis of a timeline: times to units of length, with long waits cut out, and ticks with round numbers. Pure.

const CUT_FROM = 5_000; // milliseconds of waiting from which it may be cut
const CUT_SHARE = 0.5; // of the time that is left, for a wait to be cut
const CUT_LENGTH = 0.04; // of the time that is left, for the mark of a cut
const STEPS = [
  1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 15_000, 30_000, 60_000, 120_000, 300_000, 600_000, 900_000,
  1_800_000, 3_600_000, 7_200_000, 10_800_000, 21_600_000, 43_200_000, 86_400_000, 172_800_000, 604_800_000, 2_592_000_000,
];

export class Axis {
  #pieces = []; // {from, to, at, length, isCut}: times, and their units

  // `idle` are {from, to}, the times in which nothing worked, in order. Times are in milliseconds.
  constructor(start, end, idle = []) {
    this.start = start;
    this.end = Math.max(end, start + 1);
    const cuts = cutsIn(idle, this.end - start);
    const left = cuts.reduce((rest, { from, to }) => rest - (to - from), this.end - start);
    let at = 0;
    let time = start;
    const add = (to, isCut) => {
      const length = isCut ? Math.max(1, left * CUT_LENGTH) : to - time;
      if (to > time) this.#pieces.push({ from: time, to, at, length, isCut });
      at += to > time ? length : 0;
      time = Math.max(time, to);
    };
    for (const { from, to } of cuts) {
      add(from, false);
      add(to, true);
    }
    add(this.end, false);
    this.length = at;
  }

  // The cut waits: {from, to} in milliseconds, {at, length} in units.
  get cuts() {
    return this.#pieces.filter(({ isCut }) => isCut);
  }

  unitsOf(time) {
    const piece = this.#pieces[this.#find(({ to }) => time <= to)];
    const within = (time - piece.from) * (piece.length / (piece.to - piece.from));
    return piece.at + Math.max(0, Math.min(piece.length, within));
  }

  timeOf(units) {
    const piece = this.#pieces[this.#find(({ at, length }) => units <= at + length)];
    const within = (units - piece.at) * ((piece.to - piece.from) / piece.length);
    return piece.from + Math.max(0, Math.min(piece.to - piece.from, within));
  }

  // Ticks between two places, at least `apart` units from each other: {at, text}, with the time since the start.
  ticks(from, to, apart) {
    const step = STEPS.find((one) => one >= apart) ?? STEPS.at(-1) * Math.ceil(apart / STEPS.at(-1));
    const ticks = [];
    for (const piece of this.#pieces) {
      if (piece.isCut || piece.at + piece.length < from || piece.at > to) continue;
      const first = Math.max(piece.from, piece.from + from - piece.at) - this.start;
      for (let since = Math.ceil(first / step) * step; since <= piece.to - this.start; since += step) {
        const at = piece.at + since - (piece.from - this.start);
        if (at > to) break;
        if (ticks.length === 0 || at - ticks.at(-1).at >= apart * 0.9) ticks.push({ at, text: sinceText(since, step) });
      }
    }
    return ticks;
  }

  #find(fits) {
    let [low, high] = [0, this.#pieces.length - 1];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (fits(this.#pieces[middle])) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}

// Waits are cut from the longest on, while they hide the rest.
function cutsIn(idle, whole) {
  let left = whole;
  const cuts = [];
  const long = idle.filter(({ from, to }) => to - from >= CUT_FROM);
  for (const one of long.sort((a, b) => b.to - b.from - (a.to - a.from))) {
    const length = one.to - one.from;
    if (length < CUT_SHARE * (left - length)) break;
    cuts.push(one);
    left -= length;
  }
  return cuts.sort((a, b) => a.from - b.from);
}

// The time since the start, with as many parts as the distance between ticks needs.
export function sinceText(since, step) {
  if (since === 0) return "0";
  if (since < 60_000) return step < 1_000 ? `${(since / 1_000).toFixed(step < 10 ? 3 : step < 100 ? 2 : 1)} s` : `${since / 1_000} s`;
  const two = (value) => String(Math.floor(value)).padStart(2, "0");
  const fine = step < 1_000 ? `.${String(Math.floor(since % 1_000)).padStart(3, "0")}` : "";
  const rest = `${two((since / 60_000) % 60)}:${two((since / 1_000) % 60)}${fine}`;
  if (since < 3_600_000) return rest.replace(/^0/, "");
  if (since < 86_400_000) return `${Math.floor(since / 3_600_000)}:${rest}`;
  return `${Math.floor(since / 86_400_000)} d ${two((since / 3_600_000) % 24)}:${two((since / 60_000) % 60)}`;
}
