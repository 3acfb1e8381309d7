// Bar above the updates: their number, the filter, and the download.

import { make, plain, setText } from "../dom.js";

const TYPING = 200; // milliseconds after the last key until the text counts

export class FilterBar {
  #count = make("p", "events-count");
  #selects = { type: select("Type", "all types"), node: select("Node", "all nodes"), agent: select("Agent", "all agents") };
  #text = make("input", "events-text");
  #sizes = {}; // name of a select -> number of its options

  constructor(onFilter, onDownload) {
    this.element = make("div", "events-bar");
    this.#text.type = "search";
    this.#text.placeholder = "Text";
    this.#text.setAttribute("aria-label", "Text in the update");
    let timer;
    this.#text.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(onFilter, TYPING);
    });
    for (const each of Object.values(this.#selects)) each.addEventListener("change", onFilter);
    const save = make("button", "button", "Download as JSONL");
    save.type = "button";
    save.addEventListener("click", onDownload);
    this.#count.setAttribute("role", "status");
    this.element.append(...Object.values(this.#selects), this.#text, this.#count, save);
  }

  get values() {
    const { type, node, agent } = this.#selects;
    return { type: type.value, node: node.value, agent: agent.value, text: this.#text.value.trim() };
  }

  draw({ matches, types, nodes, agents }, { shown }) {
    for (const [name, found] of Object.entries({ type: types, node: nodes, agent: agents })) this.#fill(name, found);
    const all = shown.toLocaleString("en");
    setText(this.#count, matches.length === shown ? `${all} updates` : `${matches.length.toLocaleString("en")} of ${all} updates`);
  }

  #fill(name, found) {
    const box = this.#selects[name];
    box.hidden = found.size === 0;
    if (this.#sizes[name] === found.size) return;
    this.#sizes[name] = found.size;
    const { value } = box;
    box.replaceChildren(box.options[0], ...[...found].sort().map((each) => new Option(plain(each), each)));
    box.value = value;
  }
}

function select(label, all) {
  const box = make("select", "events-select");
  box.setAttribute("aria-label", label);
  box.append(new Option(all, ""));
  return box;
}
