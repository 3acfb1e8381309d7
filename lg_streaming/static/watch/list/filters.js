// Filters and order of the list. They are in the address, so that a reload, a link and the back button keep them.

import { make } from "../dom.js";
import { STATES } from "./cells.js";

const TYPED = 250; // milliseconds after the last key
const SORTS = ["started", "duration", "tokens", "cost"];

export class Filters {
  element = make("form", "filters");
  filter = {};
  #onChange;
  #text = field("search", "Search", "Id, question, graph or owner");
  #owner = field("search", "Owner", "");
  #chips;
  #timer;
  #isTyping = false;

  constructor(onChange) {
    this.#onChange = onChange;
    this.element.setAttribute("role", "search");
    const chips = make("div", "chips");
    chips.setAttribute("role", "group");
    chips.setAttribute("aria-label", "State");
    this.#chips = Object.entries(STATES).map(([state, { word }]) => this.#chip(state, word));
    chips.append(...this.#chips);
    this.element.append(this.#text.label, this.#owner.label, chips);
    this.element.addEventListener("submit", (event) => (event.preventDefault(), this.#apply()));
    for (const { input } of [this.#text, this.#owner]) input.addEventListener("input", () => this.#later());
    addEventListener("popstate", () => this.read());
  }

  get isActive() {
    const { state, owner, text } = this.filter;
    return state.length > 0 || owner !== "" || text !== "";
  }

  // Takes the filter of the address.
  read() {
    clearTimeout(this.#timer);
    const query = new URLSearchParams(location.search);
    const states = (query.get("state") ?? "").split(",").filter((one) => Object.hasOwn(STATES, one));
    const sort = SORTS.includes(query.get("sort")) ? query.get("sort") : "started";
    const [text, owner] = ["text", "owner"].map((name) => (query.get(name) ?? "").slice(0, 256));
    this.#take({ state: states, owner, text, sort, isAscending: query.get("direction") === "ascending" });
  }

  clear() {
    this.#set({ ...this.filter, state: [], owner: "", text: "" });
    this.#text.input.focus();
  }

  // Sorts by a column; again by the same, the other way round.
  sort(by) {
    const isAscending = by === this.filter.sort && !this.filter.isAscending;
    this.#set({ ...this.filter, sort: by, isAscending });
  }

  #chip(state, word) {
    const chip = make("button", "chip", word);
    chip.type = "button";
    chip.dataset.state = state;
    chip.addEventListener("click", () => {
      const { state: chosen } = this.filter;
      const states = chosen.includes(state) ? chosen.filter((one) => one !== state) : [...chosen, state];
      this.#set({ ...this.filter, state: states });
    });
    return chip;
  }

  #later() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#apply(), TYPED);
  }

  #apply() {
    clearTimeout(this.#timer);
    const [text, owner] = [this.#text, this.#owner].map(({ input }) => input.value.trim());
    if (text === this.filter.text && owner === this.filter.owner) return;
    this.#set({ ...this.filter, text, owner }, { isTyped: true });
  }

  #set(filter, { isTyped = false } = {}) {
    const address = new URL(location.href);
    const { state, owner, text, sort, isAscending } = filter;
    const values = { state: state.join(","), owner, text, sort: sort === "started" ? "" : sort, direction: isAscending ? "ascending" : "" };
    for (const [name, value] of Object.entries(values)) {
      if (value) address.searchParams.set(name, value);
      else address.searchParams.delete(name);
    }
    // The letters of one search are one step of the back button.
    if (isTyped && this.#isTyping) history.replaceState(null, "", address);
    else history.pushState(null, "", address);
    this.#isTyping = isTyped;
    this.#take(filter);
  }

  #take(filter) {
    const before = this.filter;
    this.filter = filter;
    for (const chip of this.#chips) chip.setAttribute("aria-pressed", String(filter.state.includes(chip.dataset.state)));
    for (const [{ input }, value] of [[this.#text, filter.text], [this.#owner, filter.owner]]) {
      if (input.value.trim() !== value) input.value = value;
    }
    const keyOf = ({ state = null, owner, text }) => JSON.stringify([state, owner, text]);
    this.#onChange(filter, keyOf(before) !== keyOf(filter));
  }
}

function field(type, name, hint) {
  const label = make("label", "field");
  const input = make("input");
  Object.assign(input, { type, placeholder: hint, maxLength: 256, spellcheck: false, autocomplete: "off" });
  input.name = name.toLowerCase();
  label.append(make("span", "field-name", name), input);
  return { label, input };
}
