// Rows of the table of updates, for the visible ones only. Elements are used again for other rows.

import { gist, make, setText } from "../dom.js";
import { timeOf } from "../run/store.js";

export const ROW = 28; // pixels, as in events.css
export const COLUMNS = [
  { name: "number", label: "No." },
  { name: "time", label: "Time" },
  { name: "type", label: "Type" },
  { name: "node", label: "Node" },
  { name: "agent", label: "Agent" },
  { name: "gist", label: "What" },
];
const SPARE = 8; // rows beyond the visible ones
const MOST_TEXT = 300;
const SHOWN_ELSEWHERE = new Set(["node_id", "node_name", "run_id"]);

export class Rows {
  #list;
  #onOpen;
  #made = new Map(); // index among the matches -> its row
  #free = [];
  #count = 0;

  constructor(list, onOpen) {
    this.#list = list;
    this.#onOpen = onOpen;
  }

  idOf(index) {
    return this.#made.get(index)?.element.id;
  }

  draw(updates, matches, { top, bottom, active, opened }) {
    const from = Math.max(0, Math.floor(top / ROW) - SPARE);
    const to = Math.min(matches.length, Math.ceil(bottom / ROW) + SPARE);
    for (const [index, row] of this.#made) {
      if (index >= from && index < to) continue;
      this.#made.delete(index);
      this.#free.push(row);
    }
    for (let index = from; index < to; index += 1) this.#row(index).show(updates[matches[index]], index, index === active, opened);
    for (const { element } of this.#free) element.hidden = true;
  }

  #row(index) {
    const known = this.#made.get(index);
    if (known) return known;
    const row = this.#free.pop() ?? this.#make();
    row.element.hidden = false;
    this.#made.set(index, row);
    return row;
  }

  #make() {
    const row = new Row(`event-${this.#count}`, this.#onOpen);
    this.#count += 1;
    this.#list.append(row.element);
    return row;
  }
}

class Row {
  #cells = {};
  #update = null;
  #index = 0;

  constructor(id, onOpen) {
    this.element = make("div", "event-row");
    this.element.id = id;
    this.element.setAttribute("role", "row");
    this.element.addEventListener("click", () => onOpen(this.#index));
    for (const { name } of COLUMNS) {
      this.#cells[name] = make("span", `event-${name}`);
      this.#cells[name].setAttribute("role", "gridcell");
      this.element.append(this.#cells[name]);
    }
  }

  show(update, index, isActive, opened) {
    this.#index = index;
    const { style, classList } = this.element;
    style.top = `${index * ROW}px`;
    classList.toggle("active", isActive);
    classList.toggle("opened", update === opened);
    this.element.setAttribute("aria-rowindex", String(index + 2));
    this.element.setAttribute("aria-selected", String(update === opened));
    if (this.#update === update) return;
    this.#update = update;
    const { metadata, type, data } = update;
    this.element.dataset.kind = kindOf(type);
    setText(this.#cells.number, String(metadata.sequence_number));
    setText(this.#cells.time, clock(timeOf(update)));
    setText(this.#cells.type, type);
    setText(this.#cells.node, metadata.node_id ?? "");
    setText(this.#cells.agent, metadata.agent_type ?? "");
    setText(this.#cells.gist, summary(data));
  }
}

function kindOf(type) {
  if (type.endsWith("error")) return "error";
  if (type.startsWith("workflow")) return "workflow";
  return type.startsWith("human") || type.endsWith("interrupted") ? "human" : "";
}

// The most useful part of the data, in one line.
function summary(data) {
  if (data === null || typeof data !== "object") return String(data ?? "").slice(0, MOST_TEXT);
  const text = data.content ?? data.error?.message ?? data.error ?? data.prompt ?? data.message;
  if (typeof text === "string") return text.slice(0, MOST_TEXT);
  const fields = Object.entries(data).filter(([name, value]) => !SHOWN_ELSEWHERE.has(name) && value !== null);
  return fields.map(([name, value]) => `${name}: ${textOf(value)}`).join(" · ").slice(0, MOST_TEXT);
}

function textOf(value) {
  return typeof value === "object" ? gist(value) : String(value).slice(0, MOST_TEXT);
}

function clock(at) {
  const date = new Date(at);
  const two = (value) => String(value).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}
