// Panel of a run's timeline: when nodes, models and tools were at work, and when the run waited.

import { make, setParts, setText } from "../dom.js";
import { linkTo } from "../graph/links.js";
import { Panel } from "../run/panel.js";
import { Axis } from "./axis.js";
import { ROW, Rows, listed } from "./rows.js";
import { Spans } from "./spans.js";
import { View } from "./view.js";
import { describe, duration, shares } from "./words.js";

const TICK = 72; // pixels between ticks, at least
const LAST = 0.06; // of the axis: a cut there has its text on its left
const BRUSH = 5; // pixels from which a drag selects a part

export class TimelinePanel extends Panel {
  #empty = make("p", "empty", "The timeline appears here when the run starts.");
  #body = make("div", "timeline");
  #totals = make("dl", "timeline-totals");
  #bar = make("div", "timeline-bar");
  #cut = make("button", "button", "Cut long waits");
  #detail = make("p", "timeline-detail");
  #grid = make("div", "timeline-grid");
  #ruler = make("div", "timeline-ruler");
  #track = make("div", "timeline-scale"); // the ruler's part over the tracks
  #list = make("div", "timeline-list");
  #rows = new Rows(this.#list, (span) => this.#toggle(span));
  #view = new View();
  #collapsed = new Set();
  #spans = null;
  #axis = null;
  #listed = []; // spans of all rows
  #listedFor = null; // number of spans for which they were listed
  #end = 0; // the run's end, or the present time
  #facts = make("span");
  #linked = null; // the node whose link is next to the facts
  #active = null; // span of the row that has or gets the focus
  #hovered = null;
  #brush = null; // {from, to} in pixels
  #resized = new ResizeObserver(() => this.redraw());

  constructor() {
    super();
    this.#grid.setAttribute("role", "treegrid");
    this.#grid.setAttribute("aria-label", "Timeline. Plus and minus zoom, 0 fits.");
    this.#list.setAttribute("role", "rowgroup");
    this.#ruler.setAttribute("aria-hidden", "true");
    this.#cut.type = "button";
    this.#cut.setAttribute("aria-pressed", "true");
    this.#ruler.append(make("span", "timeline-corner"), this.#track, make("span", "timeline-end"));
    this.#grid.append(this.#ruler, this.#list);
    this.#detail.append(this.#facts);
    this.#body.append(this.#totals, this.#bar, this.#detail, this.#grid);
    this.#makeBar();
    this.#listen();
  }

  connectedCallback() {
    if (!this.firstChild) this.append(this.#empty, this.#body);
    this.#resized.observe(this.#grid);
    super.connectedCallback();
  }

  disconnectedCallback() {
    this.#resized.disconnect();
    super.disconnectedCallback();
  }

  draw(store, now) {
    const spans = store.use(Spans);
    this.#empty.hidden = spans.root !== null;
    this.#body.hidden = spans.root === null;
    if (spans.root === null) return;
    if (this.#spans !== spans || this.#listed[0] !== spans.root) this.#begin(spans);
    const end = spans.root.endedAt ?? Math.max(now, spans.newestAt);
    const isCut = this.#cut.getAttribute("aria-pressed") === "true";
    this.#axis = new Axis(spans.root.startedAt, end, isCut ? spans.idleUntil(now) : []);
    this.#end = end;
    this.#arrange(spans);
    this.#drawTotals(spans.totals(now));
    this.#drawRuler();
    this.#drawRows();
    this.#drawDetail();
  }

  #begin(spans) {
    this.#spans = spans;
    this.#rows.clear();
    this.#collapsed.clear();
    this.#listedFor = null;
    this.#active = spans.root;
    this.#hovered = null;
  }

  #arrange(spans) {
    if (spans.count === this.#listedFor) return;
    this.#listedFor = spans.count;
    this.#listed = listed(spans.root, this.#collapsed);
    if (!this.#listed.includes(this.#active)) this.#active = spans.root;
    this.#list.style.height = `${this.#listed.length * ROW}px`;
    this.#grid.setAttribute("aria-rowcount", String(this.#listed.length));
  }

  #drawTotals(totals) {
    const parts = shares(totals);
    if (this.#totals.children.length !== parts.length || parts.some(({ kind }, index) => this.#totals.children[index].dataset.kind !== kind)) {
      this.#totals.replaceChildren(...parts.map(({ kind, label }) => {
        const part = make("div");
        part.dataset.kind = kind;
        part.append(make("dt", "", label), make("dd"));
        return part;
      }));
    }
    parts.forEach(({ time, share }, index) => {
      const part = this.#totals.children[index];
      part.style.flexGrow = String(Math.max(0.001, share));
      setText(part.lastChild, `${duration(time)} · ${Math.round(share * 100)} %`);
    });
  }

  #drawRuler() {
    const { from, to } = this.#shown;
    const width = Math.max(1, this.#track.clientWidth);
    const place = (units) => `${((units - from) / (to - from)) * 100}%`;
    const ticks = this.#axis.ticks(from, to, ((to - from) * TICK) / width).map(({ at, text }) => {
      const tick = make("span", "timeline-tick", text);
      tick.style.left = place(at);
      return tick;
    });
    const cuts = this.#axis.cuts.filter(({ at, length }) => at < to && at + length > from).map(({ at, length, from: begin, to: end }) => {
      const cut = make("span", at + length > to - (to - from) * LAST ? "timeline-cut last" : "timeline-cut");
      cut.style.left = place(at);
      cut.style.width = `${(length / (to - from)) * 100}%`;
      cut.append(make("span", "", `${duration(end - begin)} cut`));
      return cut;
    });
    const brush = this.#brush === null ? [] : [make("span", "timeline-brush")];
    if (this.#brush !== null) {
      brush[0].style.left = `${Math.min(this.#brush.from, this.#brush.to)}px`;
      brush[0].style.width = `${Math.abs(this.#brush.to - this.#brush.from)}px`;
    }
    this.#track.replaceChildren(...ticks, ...cuts, ...brush);
  }

  get #shown() {
    return this.#view.of(this.#axis.length);
  }

  #drawRows() {
    const { from, to } = this.#shown;
    const top = this.#grid.scrollTop;
    this.#rows.draw(this.#listed, {
      top, bottom: top + this.#grid.clientHeight, active: this.#active, collapsed: this.#collapsed, now: this.#end,
      toShare: (time) => (this.#axis.unitsOf(time) - from) / (to - from),
    });
  }

  #drawDetail() {
    const span = this.#hovered ?? this.#active;
    setParts(this.#facts, describe(span, this.#spans.root, this.#end));
    let node = span;
    while (node !== null && node.kind !== "node") node = node.parent;
    if (node === this.#linked) return;
    this.#linked = node;
    this.#detail.replaceChildren(this.#facts, ...(node === null ? [] : [" ", linkTo(node, "Show its node")]));
  }

  #toggle(span) {
    if (span.children.length === 0) return;
    if (!this.#collapsed.delete(span)) this.#collapsed.add(span);
    this.#listedFor = null;
    this.redraw();
  }

  #makeBar() {
    const button = (text, label, action) => {
      const element = make("button", "button", text);
      element.type = "button";
      if (label) element.setAttribute("aria-label", label);
      element.addEventListener("click", () => (action(), this.redraw()));
      return element;
    };
    this.#cut.addEventListener("click", () => {
      this.#cut.setAttribute("aria-pressed", String(this.#cut.getAttribute("aria-pressed") !== "true"));
      this.#view.fit();
      this.redraw();
    });
    const all = button("Collapse all", "", () => {
      const isExpanded = this.#collapsed.size === 0;
      this.#collapsed = new Set(isExpanded ? listed(this.#spans.root, new Set()).filter(({ depth, children }) => depth > 0 && children.length > 0) : []);
      this.#listedFor = null;
      setText(all, isExpanded ? "Expand all" : "Collapse all");
    });
    this.#bar.append(
      all, this.#cut,
      button("−", "Zoom out", () => this.#view.zoom(this.#axis.length, false)),
      button("+", "Zoom in", () => this.#view.zoom(this.#axis.length, true)),
      button("Fit", "", () => this.#view.fit()),
    );
  }

  #listen() {
    const grid = this.#grid;
    let isScrolled = false;
    grid.addEventListener("scroll", () => {
      if (isScrolled) return;
      isScrolled = true;
      requestAnimationFrame(() => {
        isScrolled = false;
        if (this.#axis !== null) this.#drawRows();
      });
    });
    grid.addEventListener("keydown", (event) => this.#onKey(event));
    grid.addEventListener("wheel", (event) => this.#onWheel(event), { passive: false });
    const spanAt = (event) => event.target.closest?.(".timeline-row")?.span ?? null;
    grid.addEventListener("pointerover", (event) => this.#hover(spanAt(event)));
    grid.addEventListener("pointerleave", () => this.#hover(null));
    grid.addEventListener("focusin", (event) => this.#activate(spanAt(event)));
    grid.addEventListener("click", (event) => this.#rows.rowOf(spanAt(event))?.focus());
    grid.addEventListener("dblclick", (event) => this.#toggle(spanAt(event) ?? this.#spans.root));
    this.#track.addEventListener("pointerdown", (event) => this.#startBrush(event));
    this.#track.addEventListener("pointermove", (event) => this.#moveBrush(event));
    this.#track.addEventListener("pointerup", () => this.#endBrush());
    this.#track.addEventListener("pointercancel", () => (this.#brush = null));
  }

  #hover(span) {
    this.#hovered = span;
    if (this.#axis !== null) this.#drawDetail();
  }

  #activate(span) {
    if (span === null || span === this.#active) return;
    this.#active = span;
    this.redraw();
  }

  // Keys of a treegrid, and those of the view.
  #onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || this.#axis === null) return;
    const { length } = this.#axis;
    const at = this.#listed.indexOf(this.#active);
    const page = Math.max(1, Math.floor(this.#grid.clientHeight / ROW) - 2);
    const isCollapsed = this.#collapsed.has(this.#active);
    const hasChildren = this.#active.children.length > 0;
    const go = (index) => () => this.#focus(this.#listed[Math.max(0, Math.min(index, this.#listed.length - 1))]);
    const action = {
      ArrowDown: go(at + 1), ArrowUp: go(at - 1), PageDown: go(at + page), PageUp: go(at - page), Home: go(0), End: go(this.#listed.length - 1),
      ArrowRight: event.shiftKey ? () => this.#view.pan(length, 0.2) : hasChildren && isCollapsed ? () => this.#toggle(this.#active) : go(at + 1),
      ArrowLeft: event.shiftKey ? () => this.#view.pan(length, -0.2)
        : hasChildren && !isCollapsed ? () => this.#toggle(this.#active) : () => this.#focus(this.#active.parent ?? this.#active),
      Enter: () => this.#toggle(this.#active),
      "+": () => this.#view.zoom(length, true, this.#activeStart), "=": () => this.#view.zoom(length, true, this.#activeStart),
      "-": () => this.#view.zoom(length, false, this.#activeStart), 0: () => this.#view.fit(),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
    this.redraw();
  }

  get #activeStart() {
    return this.#axis.unitsOf(this.#active.startedAt);
  }

  #focus(span) {
    this.#active = span;
    const top = this.#listed.indexOf(span) * ROW;
    const head = this.#ruler.clientHeight;
    const { scrollTop, clientHeight } = this.#grid;
    if (top < scrollTop) this.#grid.scrollTop = top;
    else if (top + ROW > scrollTop + clientHeight - head) this.#grid.scrollTop = top + ROW - clientHeight + head;
    this.#drawRows();
    const row = this.#rows.rowOf(span);
    row.focus({ preventScroll: true });
    row.scrollIntoView({ block: "nearest" });
  }

  #onWheel(event) {
    const isZoom = event.ctrlKey || event.metaKey;
    const sideways = event.deltaX || (event.shiftKey ? event.deltaY : 0);
    if (this.#axis === null || (!isZoom && Math.abs(sideways) <= Math.abs(event.shiftKey ? 0 : event.deltaY))) return;
    event.preventDefault();
    if (isZoom) this.#view.zoom(this.#axis.length, event.deltaY < 0, this.#unitsAt(this.#pixels(event)));
    else this.#view.pan(this.#axis.length, sideways / Math.max(1, this.#track.clientWidth));
    this.redraw();
  }

  #pixels(event) {
    return event.clientX - this.#track.getBoundingClientRect().left;
  }

  #unitsAt(pixels) {
    const { from, to } = this.#shown;
    return from + (pixels / Math.max(1, this.#track.clientWidth)) * (to - from);
  }

  #startBrush(event) {
    this.#track.setPointerCapture(event.pointerId);
    this.#brush = { from: this.#pixels(event), to: this.#pixels(event) };
  }

  #moveBrush(event) {
    if (this.#brush === null) return;
    this.#brush.to = this.#pixels(event);
    this.#drawRuler();
  }

  #endBrush() {
    const { from, to } = this.#brush ?? { from: 0, to: 0 };
    this.#brush = null;
    if (Math.abs(to - from) >= BRUSH) this.#view.select(this.#axis.length, this.#unitsAt(from), this.#unitsAt(to));
    this.redraw();
  }
}

customElements.define("lg-timeline", TimelinePanel);
