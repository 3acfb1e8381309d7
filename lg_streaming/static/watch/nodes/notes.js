// Notes of a node or a run: log lines, errors, events of the program. Folded, with their number.

import { gist, make, readable, setText } from "../dom.js";

const LONG = 300; // characters of a note; more is folded

export class Notes {
  #last = null; // the newest that is shown

  constructor(label) {
    this.label = label;
    this.element = make("details", "notes");
    this.summary = make("summary");
    this.list = make("ol");
    this.element.append(this.summary, this.list);
    this.element.hidden = true;
  }

  clear() {
    this.#last = null;
    this.list.replaceChildren();
    this.element.hidden = true;
  }

  draw(notes) {
    if (notes.at(-1) === this.#last || notes.length === 0) return;
    const from = notes.lastIndexOf(this.#last) + 1;
    this.list.append(...notes.slice(from).map(noteElement));
    while (this.list.children.length > notes.length) this.list.firstChild.remove();
    this.#last = notes.at(-1);
    const errors = notes.filter(({ level }) => level === "error" || level === "fatal").length;
    const bad = errors > 0 ? `, ${errors} of them ${errors === 1 ? "an error" : "errors"}` : "";
    setText(this.summary, `${this.label} · ${notes.length}${bad}`);
    this.element.classList.toggle("bad", errors > 0);
    this.element.hidden = false;
  }
}

function noteElement({ name, level, message, at }) {
  const entry = make("li");
  entry.dataset.level = level ?? "";
  const time = make("time", "", new Date(at).toLocaleTimeString("en-GB"));
  const text = make("span", "", gist(message).slice(0, LONG));
  text.dir = "auto";
  entry.append(time, make("span", "note-name", level && level !== name ? `${name} ${level}` : name), text);
  if (message !== null && typeof message === "object") {
    text.remove();
    const more = make("details");
    more.append(make("summary", "", gist(message).slice(0, LONG)), make("pre", "", readable(message)));
    entry.append(more);
  }
  return entry;
}
