// Form that starts a new execution from a checkpoint, with a changed state.

import { make, plain, showText } from "../dom.js";
import { addressOf, caller, client, page } from "../session.js";

const REFUSED = "You may not fork this run: that takes the right to control it, and to start its graph.";

export class ForkForm {
  #checkpoint = null;
  #values = make("textarea", "fork-values");
  #node = make("select", "fork-node");
  #error = make("p", "error");
  #send = make("button", "button", "Fork from here");

  constructor() {
    this.element = make("form", "fork-form");
    this.element.setAttribute("aria-label", "Fork");
    const hint = make("p", "fork-hint", "A fork is a new run that goes on from this state. This run does not change.");
    this.#values.rows = 4;
    this.#values.spellcheck = false;
    this.#values.placeholder = '{"field": "another value"}';
    this.#node.append(new Option("the node that made this state", ""));
    this.#error.setAttribute("role", "alert");
    this.#error.hidden = true;
    const [update, node] = [labelled("Update of the state, as JSON; empty for none", this.#values), labelled("As if made by", this.#node)];
    this.element.append(hint, update, node, this.#error, this.#send);
    this.element.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#fork();
    });
    if (caller.may("control") && caller.may("start")) return;
    this.element.replaceChildren(make("p", "fork-hint", REFUSED));
  }

  // Forks from a checkpoint, with the nodes of the graph to choose from.
  show(checkpointId, nodes) {
    if (this.#checkpoint !== checkpointId) showText(this.#error, "");
    this.#checkpoint = checkpointId;
    if (this.#node.options.length !== nodes.length + 1) this.#node.append(...nodes.map((name) => new Option(plain(name), name)));
  }

  async #fork() {
    const text = this.#values.value.trim();
    let values;
    try {
      if (text !== "") values = JSON.parse(text);
    } catch (error) {
      showText(this.#error, `This is no JSON: ${error.message}`);
      return;
    }
    this.#send.disabled = true;
    showText(this.#error, "");
    try {
      const asNode = this.#node.value || undefined;
      const started = await client.fork(page.execution, this.#checkpoint, { values, asNode });
      location.assign(addressOf(started.execution_id));
    } catch (error) {
      showText(this.#error, error.message);
      this.#send.disabled = false;
    }
  }
}

function labelled(text, field) {
  const label = make("label", "fork-field");
  label.append(make("span", "", text), field);
  return label;
}
