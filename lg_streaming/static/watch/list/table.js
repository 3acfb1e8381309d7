// The rows of the list. Only those in view are in the document, so that many thousands scroll as smoothly as a few.

import { make } from "../dom.js";
import { addressOf } from "../session.js";
import { Row } from "./cells.js";

const EXTRA = 8; // rows above and below the view
const TICK = 1000;
const COLUMNS = [
  ["State"], ["Run"], ["Graph"], ["Owner"], ["Started", "started"], ["Duration", "duration"], ["Progress"],
  ["Tokens", "tokens"], ["Cost", "cost"],
];

export class Table {
  element = make("div", "table");
  #list;
  #filters;
  #head = make("div", "row head");
  #body = make("div", "rows");
  #rows = new Map(); // id -> Row
  #spare = []; // rows out of view, for other runs
  #height = 0; // of a row
  #frame = null;

  constructor(list, filters) {
    this.#list = list;
    this.#filters = filters;
    this.element.setAttribute("role", "table");
    this.element.setAttribute("aria-label", "Runs");
    this.#head.setAttribute("role", "row");
    this.#head.append(...COLUMNS.map(([name, sort]) => this.#column(name, sort)));
    this.#body.setAttribute("role", "rowgroup");
    this.element.append(this.#head, this.#body);
    this.#body.addEventListener("keydown", (event) => this.#onKey(event));
    this.#body.addEventListener("click", (event) => this.#onClick(event));
    list.keepsPlace = () => this.keepsPlace;
    addEventListener("scroll", () => this.draw(), { passive: true });
    addEventListener("resize", () => ((this.#height = 0), this.draw()), { passive: true });
    setInterval(() => this.draw(), TICK);
  }

  // Whether the reader has scrolled, or is at a row.
  get keepsPlace() {
    return scrollY > this.#top || this.#body.contains(document.activeElement);
  }

  get #top() {
    return this.#body.getBoundingClientRect().top + scrollY;
  }

  // Draws with the next frame, once for all changes until then.
  draw() {
    this.#frame ??= requestAnimationFrame(() => {
      this.#frame = null;
      this.#draw();
    });
  }

  #draw() {
    const { order, runs, gone, has } = this.#list;
    this.element.hidden = order.length === 0;
    this.element.setAttribute("aria-rowcount", String(order.length + 1));
    const columns = [...has].join(" ");
    if (this.element.dataset.has !== columns) this.element.dataset.has = columns;
    this.#drawHead();
    if (order.length === 0) {
      this.#rows.clear();
      this.#body.replaceChildren();
      return;
    }
    this.#height ||= this.#measure(runs.get(order[0]));
    this.#body.style.height = `${order.length * this.#height}px`;
    const above = -this.#body.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(above / this.#height) - EXTRA);
    const last = Math.min(order.length, Math.ceil((above + innerHeight) / this.#height) + EXTRA);
    const focused = order.indexOf(document.activeElement?.closest?.(".row")?.dataset.id);
    const places = new Map();
    for (let place = first; place < last; place += 1) places.set(order[place], place);
    if (focused >= 0) places.set(order[focused], focused);
    for (const [id, row] of this.#rows) {
      if (places.has(id)) continue;
      this.#rows.delete(id);
      this.#spare.push(row);
    }
    const now = Date.now();
    let before = null;
    for (const [id, place] of [...places].sort(([, one], [, other]) => one - other)) {
      const row = this.#rows.get(id) ?? this.#spare.pop() ?? new Row();
      this.#rows.set(id, row);
      row.fill(runs.get(id), addressOf(id), now);
      row.element.classList.toggle("gone", gone.has(id));
      row.element.setAttribute("aria-rowindex", String(place + 2));
      row.element.style.transform = `translateY(${place * this.#height}px)`;
      // In the order of the places, also for the keyboard. A row that moves in the document would lose the focus.
      const next = before === null ? this.#body.firstElementChild : before.nextElementSibling;
      if (next !== row.element && !row.element.contains(document.activeElement)) this.#body.insertBefore(row.element, next);
      before = row.element;
    }
    for (const row of this.#spare) row.element.remove();
  }

  #drawHead() {
    const { sort, isAscending } = this.#filters.filter;
    for (const cell of this.#head.children) {
      if (cell.dataset.sort === undefined) continue;
      const direction = isAscending ? "ascending" : "descending";
      cell.setAttribute("aria-sort", cell.dataset.sort === sort ? direction : "none");
    }
  }

  #measure(run) {
    const row = new Row();
    row.fill(run, "#", Date.now());
    this.#body.append(row.element);
    const height = row.element.getBoundingClientRect().height + parseFloat(getComputedStyle(row.element).marginBottom);
    row.element.remove();
    return height;
  }

  #column(name, sort) {
    const cell = make("div", `cell ${name.toLowerCase()}`, sort ? "" : name);
    cell.setAttribute("role", "columnheader");
    if (sort === undefined) return cell;
    cell.dataset.sort = sort;
    const button = make("button", "sort", name);
    button.type = "button";
    button.addEventListener("click", () => this.#filters.sort(sort));
    cell.append(button);
    return cell;
  }

  // Moves between the rows with the arrows, Home and End.
  #onKey(event) {
    const { order } = this.#list;
    const at = order.indexOf(event.target.closest(".row")?.dataset.id);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: order.length - 1 }[event.key];
    if (to === undefined || at < 0 || to < 0 || to >= order.length) return;
    event.preventDefault();
    const place = this.#top + to * this.#height;
    if (place < scrollY + 120) scrollTo(0, place - 120);
    else if (place + this.#height > scrollY + innerHeight) scrollTo(0, place + this.#height - innerHeight);
    this.#draw();
    this.#rows.get(order[to])?.element.querySelector("a").focus({ preventScroll: true });
  }

  // A click anywhere on a row opens the run, unless text is selected.
  #onClick(event) {
    if (event.target.closest("a") !== null || String(getSelection()) !== "") return;
    event.target.closest(".row")?.querySelector("a").click();
  }
}
