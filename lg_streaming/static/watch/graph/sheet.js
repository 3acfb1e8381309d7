// Side sheet of a node: its visits, each with a link to its card on the Run tab.

import { make, seconds, setText, showText } from "../dom.js";
import { workOf } from "../timeline/spans.js";
import { wordsOf } from "./condition.js";

const MOST = 200; // listed visits: the newest

export class Sheet {
  id = null; // of the node that is shown
  #name;
  #facts;
  #list;
  #rows = [];

  // onClose() is called when a person closes the sheet.
  constructor(onClose) {
    this.element = make("aside", "graph-sheet");
    this.element.hidden = true;
    this.element.setAttribute("aria-label", "Visits of the node");
    this.close = make("button", "button", "Close");
    this.close.type = "button";
    this.close.addEventListener("click", onClose);
    this.#name = make("h2");
    this.#name.dir = "auto";
    this.#name.tabIndex = -1;
    this.#facts = make("p", "graph-facts");
    this.#list = make("ol", "graph-visits");
    const head = make("header");
    head.append(this.#name, this.close);
    this.element.append(head, this.#facts, this.#list);
    this.element.addEventListener("keydown", (event) => event.key === "Escape" && onClose());
  }

  open(node) {
    this.id = node.id;
    this.#rows = [];
    this.#list.replaceChildren();
    setText(this.#name, node.name);
    this.element.hidden = false;
    this.#name.focus();
  }

  hide() {
    this.id = null;
    this.element.hidden = true;
  }

  draw(condition, visits = [], now) {
    const shown = visits.slice(-MOST);
    showText(this.#facts, [wordsOf(condition), visits.length > MOST ? `the newest ${MOST} are listed` : ""].filter(Boolean).join(" · "));
    if (this.#rows.length !== shown.length || this.#rows[0]?.visit !== shown[0]) {
      this.#rows = shown.map((visit) => row(visit));
      this.#list.replaceChildren(...this.#rows.map(({ element }) => element));
    }
    for (const { visit, state, times, error } of this.#rows) {
      setText(state, visit.state === "failed" && visit.endedAt === null ? "failed, tries again" : visit.state);
      setText(times, timesOf(visit, now));
      showText(error, visit.error);
    }
  }
}

function row(visit) {
  const element = make("li");
  const link = linkTo(visit, `Visit ${visit.number}`);
  const state = make("span", "graph-visit-state");
  const times = make("span", "graph-visit-times");
  const error = make("p", "graph-visit-error");
  error.dir = "auto";
  element.append(link, state, times, error);
  return { element, visit, state, times, error };
}

function timesOf(visit, now) {
  const parts = [visit.state === "cached" ? "from the cache" : seconds(workOf(visit, now) / 1000)];
  if (visit.attempt > 1) parts.push(`${visit.attempt} attempts`);
  if (visit.agent) parts.push(visit.agent);
  return parts.join(" · ");
}

// Returns a link to a node's card on the Run tab. On this page it opens the tab.
export function linkTo(visit, text) {
  const link = make("a", "", text);
  const id = `node-${visit.key}`;
  link.href = `?view=run#${encodeURIComponent(id)}`;
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    showCard(visit);
  });
  return link;
}

// Opens the Run tab at the card of a visit. Visits with the same key are cards one after the other.
export function showCard({ key }) {
  document.getElementById("tab-run")?.click();
  const find = () => document.getElementById(`node-${key}`) ?? [...document.querySelectorAll("#panel-run [data-key]")].findLast((one) => one.dataset.key === key);
  const show = (tries) => {
    const card = find();
    if (card) card.scrollIntoView({ block: "start" });
    else if (tries > 0) requestAnimationFrame(() => show(tries - 1));
  };
  show(30);
}
