// Rows of a timeline: the tree of spans as a list, of which only the visible rows have elements.

import { make, plain, setText } from "../dom.js";
import { duration, stateOf } from "./words.js";

export const ROW = 30; // pixels, as in timeline.css
const MARKS = { failed: "✕", interrupted: "❚❚", cancelled: "⊘", abandoned: "⊘", cached: "⟲" };
const SPARE = 6; // rows beyond the visible ones

// Returns the spans in the order of the tree, without those inside collapsed ones.
export function listed(root, collapsed) {
  const rows = [];
  const stack = [root];
  while (stack.length > 0) {
    const span = stack.pop();
    rows.push(span);
    if (collapsed.has(span)) continue;
    for (let index = span.children.length - 1; index >= 0; index -= 1) stack.push(span.children[index]);
  }
  return rows;
}

export class Rows {
  #made = new Map(); // span -> its row
  #list;

  // onToggle(span) is called for a collapsed or expanded row.
  constructor(list, onToggle) {
    this.#list = list;
    this.onToggle = onToggle;
  }

  clear() {
    this.#made.clear();
    this.#list.replaceChildren();
  }

  rowOf(span) {
    return this.#made.get(span)?.element;
  }

  // Draws the rows between two heights of the list. `toShare(time)` gives a place on the track, 0 to 1 where it is visible.
  draw(spans, { top, bottom, active, collapsed, toShare, now }) {
    const from = Math.max(0, Math.floor(top / ROW) - SPARE);
    const to = Math.min(spans.length, Math.ceil(bottom / ROW) + SPARE);
    const kept = new Set(spans.slice(from, to));
    if (active) kept.add(active);
    for (const [span, { element }] of this.#made) {
      if (kept.has(span)) continue;
      element.remove();
      this.#made.delete(span);
    }
    for (let index = from; index < to; index += 1) this.#draw(spans[index], index, spans[index] === active, collapsed, toShare, now);
  }

  #draw(span, index, isActive, collapsed, toShare, now) {
    const row = this.#made.get(span) ?? this.#make(span);
    const { element, toggle, time, bars } = row;
    if (row.index !== index) {
      row.index = index;
      element.style.transform = `translateY(${index * ROW}px)`;
      element.setAttribute("aria-rowindex", String(index + 1));
    }
    element.tabIndex = isActive ? 0 : -1;
    element.dataset.state = span.state;
    const isParent = span.children.length > 0;
    toggle.hidden = !isParent;
    if (isParent) {
      const isExpanded = String(!collapsed.has(span));
      if (element.getAttribute("aria-expanded") !== isExpanded) element.setAttribute("aria-expanded", isExpanded);
    }
    setText(time, `${duration((span.endedAt ?? now) - span.startedAt)}`);
    setText(row.mark, MARKS[span.state] ?? "");
    setText(row.state, `, ${span.kind}, ${stateOf(span)}`);
    this.#drawBars(span, bars, toShare, now);
  }

  // A bar for each time at work, and a thin one from the first to the last.
  #drawBars(span, bars, toShare, now) {
    const marks = span.segments.length > 1 || (span.endedAt ?? now) > (span.segments.at(-1).endedAt ?? now)
      ? [{ name: "rest", from: span.startedAt, to: span.endedAt ?? now }] : [];
    for (const { startedAt, endedAt, state } of span.segments) marks.push({ name: "bar", state, from: startedAt, to: endedAt ?? now });
    if (span.firstTokenAt !== null) marks.push({ name: "first", from: span.firstTokenAt, to: span.firstTokenAt });
    while (bars.children.length > marks.length) bars.lastChild.remove();
    marks.forEach(({ name, state = "", from, to }, index) => {
      const bar = bars.children[index] ?? bars.appendChild(document.createElement("span"));
      bar.className = `timeline-${name}`;
      bar.dataset.state = state;
      const [left, right] = [Math.max(-0.01, toShare(from)), Math.min(1.01, toShare(to))];
      bar.hidden = left > 1 || right < 0;
      bar.style.left = `${left * 100}%`;
      bar.style.width = name === "first" ? "" : `${Math.max(0, right - left) * 100}%`;
    });
  }

  #make(span) {
    const element = make("div", "timeline-row");
    element.setAttribute("role", "row");
    element.setAttribute("aria-level", String(span.depth + 1));
    element.dataset.kind = span.kind;
    element.span = span;
    const head = make("div", "timeline-head");
    head.setAttribute("role", "rowheader");
    head.style.paddingInlineStart = `${Math.min(span.depth, 8) * 12 + 6}px`;
    const toggle = make("span", "timeline-toggle");
    toggle.setAttribute("aria-hidden", "true");
    toggle.addEventListener("click", () => this.onToggle(span));
    const name = make("span", "timeline-name", span.number > 1 ? `${span.name} #${span.number}` : span.name);
    name.dir = "auto";
    name.title = plain(span.question && typeof span.question === "string" ? span.question : span.name);
    const state = make("span", "visually-hidden");
    const mark = make("span", "timeline-mark");
    mark.setAttribute("aria-hidden", "true");
    head.append(toggle, name, state, mark);
    const track = make("div", "timeline-track");
    track.setAttribute("role", "gridcell");
    const bars = make("span", "timeline-bars");
    track.append(bars);
    const time = make("div", "timeline-time");
    time.setAttribute("role", "gridcell");
    element.append(head, track, time);
    this.#list.append(element);
    const row = { element, toggle, mark, time, state, bars, index: -1 };
    this.#made.set(span, row);
    return row;
  }
}
