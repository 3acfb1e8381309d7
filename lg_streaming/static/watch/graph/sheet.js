// Side sheet of a node: its visits, each with a link to its card on the Run tab.

import { make, seconds, setText, showText } from "../dom.js";
import { workOf } from "../timeline/spans.js";
import { wordsOf } from "./condition.js";
import { linkTo } from "./links.js";

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
