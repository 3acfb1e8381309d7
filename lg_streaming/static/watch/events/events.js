// Panel of raw updates: a table of which only the visible rows have elements. Click or Enter opens one as JSON.

import { make, setText } from "../dom.js";
import { Panel } from "../run/panel.js";
import { page } from "../session.js";
import { copyText } from "../text/copy.js";
import { download, lineOf } from "./download.js";
import { Filter } from "./filter.js";
import { FilterBar } from "./filter-bar.js";
import { COLUMNS, Rows, ROW } from "./rows.js";

const BUDGET = 8; // milliseconds of a frame in which updates are filtered

export class EventsPanel extends Panel {
  #filter = new Filter();
  #bar = new FilterBar(() => this.#refilter(), () => this.#download());
  #head = make("div", "event-row event-head");
  #scroller = make("div", "events-scroller");
  #space = make("div", "events-space");
  #rows = new Rows(this.#space, (index) => this.#open(index));
  #empty = make("p", "empty", "No update passes the filter.");
  #newest = make("button", "button events-newest", "Follow the newest");
  #detail = make("section", "event-detail");
  #detailTitle = make("h3", "event-title");
  #json = make("pre", "event-json");
  #active = null; // index of the row that the keyboard is at, among the matches
  #opened = null; // the update that is shown as JSON
  #follows = true;
  #top = 0; // place of the scroller: to read it after a change would lay the page out at once
  #height = 0;
  #resized = new ResizeObserver(() => {
    this.#height = this.#scroller.clientHeight;
    this.redraw();
  });

  constructor() {
    super();
    this.#scroller.tabIndex = 0;
    this.#scroller.setAttribute("role", "grid");
    this.#scroller.setAttribute("aria-label", "Updates");
    this.#scroller.setAttribute("aria-colcount", String(COLUMNS.length));
    this.#head.setAttribute("role", "row");
    this.#head.setAttribute("aria-rowindex", "1");
    this.#head.append(...COLUMNS.map(({ name, label }) => cell(name, label)));
    this.#space.setAttribute("role", "rowgroup");
    const top = make("div", "events-top");
    top.setAttribute("role", "rowgroup");
    top.append(this.#head);
    this.#scroller.append(top, this.#space);
    this.#newest.type = "button";
    this.#newest.addEventListener("click", () => ((this.#follows = true), this.redraw()));
    this.#scroller.addEventListener("scroll", () => this.#onScroll());
    this.#scroller.addEventListener("keydown", (event) => this.#onKey(event));
    this.#makeDetail();
  }

  connectedCallback() {
    if (!this.firstChild) this.append(this.#bar.element, this.#scroller, this.#empty, this.#newest, this.#detail);
    this.#resized.observe(this.#scroller);
    super.connectedCallback();
  }

  disconnectedCallback() {
    this.#resized.disconnect();
    super.disconnectedCallback();
  }

  draw(store) {
    const isDone = this.#filter.read(store, BUDGET);
    if (!isDone) store.changed();
    this.#bar.draw(this.#filter, store);
    const { matches } = this.#filter;
    if (this.#active !== null && this.#active >= matches.length) this.#active = matches.length - 1;
    this.#empty.hidden = matches.length > 0 || !isDone;
    this.#scroller.setAttribute("aria-rowcount", String(matches.length + 1));
    this.#space.style.height = `${matches.length * ROW}px`;
    if (this.#follows) this.#scrollTo(this.#end);
    this.#newest.hidden = this.#follows || !store.isLive || matches.length === 0;
    this.#drawRows();
  }

  #drawRows() {
    if (this.store === null) return;
    this.#rows.draw(this.store.updates, this.#filter.matches, {
      top: this.#top, bottom: this.#top + this.#height, active: this.#active, opened: this.#opened,
    });
    const active = this.#rows.idOf(this.#active);
    if (active) this.#scroller.setAttribute("aria-activedescendant", active);
    else this.#scroller.removeAttribute("aria-activedescendant");
  }

  // The highest place of the scroller.
  get #end() {
    return Math.max(0, (this.#filter.matches.length + 1) * ROW + 2 - this.#height);
  }

  #scrollTo(top) {
    if (top === this.#top) return;
    this.#top = top;
    this.#scroller.scrollTop = top;
  }

  #onScroll() {
    this.#top = this.#scroller.scrollTop;
    this.#follows = this.#end - this.#top < ROW;
    this.#newest.hidden = this.#follows || !this.store?.isLive;
    this.#drawRows();
  }

  #refilter() {
    this.#filter.set(this.#bar.values);
    this.#active = null;
    this.#follows = true;
    this.redraw();
  }

  #onKey(event) {
    const last = this.#filter.matches.length - 1;
    const screen = Math.max(1, Math.floor(this.#height / ROW) - 2);
    const at = this.#active ?? (this.#follows ? last + 1 : Math.floor(this.#top / ROW) - 1);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + screen, PageUp: at - screen, Home: 0, End: last }[event.key];
    if (to !== undefined && last >= 0 && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.#move(Math.max(0, Math.min(last, to)));
    } else if (event.key === "Enter" && this.#active !== null) {
      event.preventDefault();
      this.#open(this.#active);
      this.#detail.querySelector("button").focus();
    }
  }

  #move(index) {
    this.#active = index;
    const top = index * ROW;
    const lowest = top + 2 * ROW + 2 - this.#height; // the head takes a row, too
    if (top < this.#top) this.#scrollTo(top);
    else if (lowest > this.#top) this.#scrollTo(lowest);
    this.#follows = index === this.#filter.matches.length - 1;
    this.#drawRows();
  }

  #open(index) {
    this.#active = index;
    this.#opened = this.store.updates[this.#filter.matches[index]];
    setText(this.#detailTitle, `Update ${this.#opened.metadata.sequence_number}: ${this.#opened.type}`);
    setText(this.#json, JSON.stringify(JSON.parse(lineOf(this.#opened)), null, 2));
    this.#detail.hidden = false;
    this.dataset.detail = "open";
    this.#detail.scrollIntoView({ block: "nearest" });
    this.#drawRows();
  }

  #close() {
    this.#opened = null;
    this.#detail.hidden = true;
    delete this.dataset.detail;
    this.#scroller.focus();
    this.#drawRows();
  }

  #makeDetail() {
    const copy = make("button", "button", "Copy");
    const close = make("button", "button", "Close");
    for (const button of [copy, close]) button.type = "button";
    copy.addEventListener("click", () => copyText(copy, lineOf(this.#opened)));
    close.addEventListener("click", () => this.#close());
    this.#detailTitle.id = "event-title";
    this.#json.tabIndex = 0;
    this.#json.setAttribute("role", "region");
    this.#json.setAttribute("aria-labelledby", "event-title");
    this.#detail.setAttribute("aria-labelledby", "event-title");
    this.#detail.hidden = true;
    this.#detail.addEventListener("keydown", (event) => event.key === "Escape" && this.#close());
    const head = make("header", "event-detail-head");
    head.append(this.#detailTitle, copy, close);
    this.#detail.append(head, this.#json);
  }

  #download() {
    download(`${page.execution.replaceAll("/", "-")}.jsonl`, this.store.updates);
  }
}

function cell(name, text) {
  const element = make("span", `event-${name}`, text);
  element.setAttribute("role", "columnheader");
  return element;
}

customElements.define("lg-events", EventsPanel);
