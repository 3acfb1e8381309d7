// What a row shows of a run.

import { make, money, plain, seconds, setText } from "../dom.js";
import { duration, isOpen } from "./run-list.js";

const MINUTE = 60_000;
const UNITS = [["day", 24 * 60 * MINUTE], ["hour", 60 * MINUTE], ["minute", MINUTE]];
const relative = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
const exact = new Intl.DateTimeFormat("en", { dateStyle: "medium", timeStyle: "medium" });
const whole = new Intl.NumberFormat("en");

// Word and drawing of each state, on a field of 16 by 16.
export const STATES = {
  running: { word: "running", path: "M5 3.5v9l7-4.5z" },
  interrupted: { word: "waits for you", path: "M8 2a6 6 0 1 0 0 12A6 6 0 0 0 8 2zm-.9 3h1.8v4H7.1zm0 5h1.8v1.6H7.1z" },
  completed: { word: "completed", path: "M6.4 12 2.6 8.2l1.3-1.3 2.5 2.5 5.7-5.7 1.3 1.3z" },
  failed: { word: "failed", path: "m4.2 3 3.8 3.7L11.8 3 13 4.2 9.3 8l3.7 3.8-1.2 1.2L8 9.3 4.2 13 3 11.8 6.7 8 3 4.2z" },
  cancelled: { word: "cancelled", path: "M3.5 3.5h9v9h-9z" },
  abandoned: { word: "abandoned", path: "M8 2 15 14H1zm-.8 4.5v4h1.6v-4zm0 4.9v1.4h1.6v-1.4z" },
};

const SVG = "http://www.w3.org/2000/svg";

function icon(path) {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 16 16");
  drawing.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  line.setAttribute("fill-rule", "evenodd");
  drawing.append(line);
  return drawing;
}

export function ago(at, now) {
  const past = at - now;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(past) >= length) ?? [];
  return unit === undefined ? "just now" : relative.format(Math.round(past / size), unit);
}

function time(span) {
  const hours = Math.floor(span / (60 * MINUTE));
  return hours > 0 ? `${hours} h ${Math.floor((span % (60 * MINUTE)) / MINUTE)} min` : seconds(span / 1000);
}

// A row, whose cells are filled by `fill`.
export class Row {
  element = make("div", "row");
  #state = cell("cell state");
  #badge = make("span", "badge");
  #link = make("a", "title");
  #id = make("span", "id");
  #graph = cell("cell graph", "Graph");
  #owner = cell("cell owner", "Owner");
  #started = cell("cell started", "Started");
  #duration = cell("cell duration", "Duration");
  #progress = cell("cell progress");
  #bar = make("progress");
  #tokens = cell("cell tokens", "Tokens");
  #cost = cell("cell cost", "Cost");
  #shown = null;
  #run = null;

  constructor() {
    this.element.setAttribute("role", "row");
    const title = cell("cell what");
    for (const part of [this.#link, this.#id]) part.dir = "auto";
    title.append(this.#link, this.#id);
    this.#bar.max = 100;
    this.#bar.setAttribute("aria-label", "Progress");
    this.#state.append(this.#badge);
    this.#progress.append(this.#bar);
    this.element.append(
      this.#state, title, this.#graph, this.#owner, this.#started, this.#duration, this.#progress, this.#tokens, this.#cost,
    );
  }

  fill(run, address, now) {
    if (run !== this.#run) this.#fillAll(run, address);
    setText(this.#started, ago(run.startedAt, now));
    setText(this.#duration, time(duration(run, now)));
  }

  #fillAll(run, address) {
    this.#run = run;
    const { execution_id: id, state, title, graph, owner, progress, usage } = run;
    this.element.dataset.id = id;
    this.element.dataset.state = state;
    if (this.#shown !== state) {
      this.#shown = state;
      const { word, path } = STATES[state] ?? { word: state, path: "" };
      this.#badge.replaceChildren(icon(path), word);
    }
    this.#link.href = address;
    setText(this.#link, title ?? id);
    this.#link.title = plain(title ?? id);
    setText(this.#id, title === null ? "" : id);
    for (const [part, text] of [[this.#graph, graph], [this.#owner, owner]]) {
      setText(part, text ?? "");
      part.title = plain(text ?? "");
    }
    this.#started.title = exact.format(run.startedAt);
    this.#bar.hidden = progress === null || !isOpen(run);
    if (progress !== null) this.#bar.value = progress;
    setText(this.#tokens, usage === null ? "" : whole.format(usage.total_tokens));
    this.#tokens.title = usage === null ? "" : `${whole.format(usage.input_tokens)} in, ${whole.format(usage.output_tokens)} out`;
    setText(this.#cost, usage === null || usage.cost === null ? "" : money(usage.cost));
  }
}

function cell(name, label) {
  const element = make("div", name);
  element.setAttribute("role", "cell");
  if (label) element.dataset.label = label;
  return element;
}
