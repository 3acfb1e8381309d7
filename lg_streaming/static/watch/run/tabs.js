// Tabs of a page by the ARIA pattern: arrows, Home and End move between them. The open one is in the address.

import { make } from "../dom.js";

export class Tabs {
  #bar;
  #host;
  #panels;
  #store;

  constructor(bar, host, panels, store) {
    this.#bar = bar;
    this.#host = host;
    this.#panels = panels;
    this.#store = store;
    bar.append(...panels.map((panel) => this.#tab(panel)));
    host.append(...panels.map((panel) => this.#place(panel)));
    bar.hidden = panels.length < 2;
    bar.addEventListener("keydown", (event) => this.#onKey(event));
  }

  // Opens a panel by its name; without one, the first.
  async open(name) {
    const panel = this.#panels.find((one) => one.name === name) ?? this.#panels[0];
    for (const tab of this.#bar.children) {
      const isOpen = tab.dataset.name === panel.name;
      tab.setAttribute("aria-selected", String(isOpen));
      tab.tabIndex = isOpen ? 0 : -1;
    }
    for (const place of this.#host.children) place.hidden = place.dataset.name !== panel.name;
    const place = this.#host.querySelector(`[data-name="${panel.name}"]`);
    const known = place.querySelector(panel.element);
    if (known !== null) return known.redraw();
    try {
      await panel.load();
    } catch {
      return this.#showMissing(place, panel); // the connection was lost
    }
    if (place.querySelector(panel.element) !== null) return undefined; // opened twice
    const element = document.createElement(panel.element);
    place.replaceChildren(element);
    element.store = this.#store;
    return undefined;
  }

  #showMissing(place, { name, label }) {
    const button = make("button", "button", "Try again");
    button.type = "button";
    button.addEventListener("click", () => this.open(name));
    const text = make("p", "error", `The view “${label}” could not be loaded.`);
    text.setAttribute("role", "alert");
    place.replaceChildren(text, button);
  }

  #tab({ name, label }) {
    const tab = make("button", "tab", label);
    tab.type = "button";
    tab.id = `tab-${name}`;
    tab.dataset.name = name;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", `panel-${name}`);
    tab.addEventListener("click", () => this.#choose(name));
    return tab;
  }

  #place({ name }) {
    const place = make("section", "panel");
    place.id = `panel-${name}`;
    place.dataset.name = name;
    place.hidden = true;
    place.setAttribute("role", "tabpanel");
    place.setAttribute("aria-labelledby", `tab-${name}`);
    return place;
  }

  #choose(name) {
    const address = new URL(location.href);
    address.searchParams.set("view", name);
    if (name === this.#panels[0].name) address.searchParams.delete("view");
    history.replaceState(history.state, "", address);
    this.open(name);
  }

  #onKey(event) {
    const tabs = [...this.#bar.children];
    const at = tabs.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    const tab = tabs.at(to % tabs.length);
    tab.focus();
    this.#choose(tab.dataset.name);
  }
}
