// Panel of the states of a graph: a list of checkpoints, the changes of each, its whole values, and forks.

import { make, setText, showText } from "../dom.js";
import { Panel } from "../run/panel.js";
import { Run } from "../run/run.js";
import { timeOf } from "../run/store.js";
import { client, page } from "../session.js";
import { changesBetween, pathText } from "./changes.js";
import { ForkForm } from "./fork-form.js";
import { shortValue, valueTree } from "./value-tree.js";

const PAGE = 50;
const PAUSE = 1_500; // milliseconds between two looks for new states
const CALLER_ERRORS = [4041, 4096]; // no graph, no checkpointer

export class StatePanel extends Panel {
  #states = []; // newest first
  #next = null; // `before` of the older ones; null on the last page
  #chosen = null; // id of the checkpoint; null: the newest, or that of the shown moment
  #drawn = null; // what the detail shows
  #loadedAt = -Infinity;
  #loadedUpdates = -1; // number of updates of the run when states were loaded last
  #isLoading = false;
  #whole = new Map(); // checkpoint -> its whole state, where the list has it in part
  #nodes = [];
  #note = make("p", "empty", "The states of the graph appear here.");
  #list = make("ol", "states-list");
  #older = make("button", "button", "Older states");
  #detail = make("div", "state-detail");
  #fork = new ForkForm();
  #stage = make("div", "states-stage");

  constructor() {
    super();
    this.#older.type = "button";
    this.#older.addEventListener("click", () => this.#loadOlder());
    this.#list.setAttribute("aria-label", "States, newest first");
    this.#detail.setAttribute("aria-live", "polite");
    const side = make("div", "states-side");
    side.append(this.#list, this.#older);
    this.#stage.append(side, this.#detail);
  }

  connectedCallback() {
    if (!this.firstChild) this.append(this.#note, this.#stage);
    super.connectedCallback();
  }

  draw(store) {
    const run = store.use(Run);
    const isNew = store.updates.length !== this.#loadedUpdates;
    if (isNew && !this.#isLoading && performance.now() - this.#loadedAt > PAUSE) this.#load();
    this.#stage.hidden = this.#states.length === 0;
    this.#note.hidden = this.#states.length > 0;
    this.#older.hidden = this.#next === null;
    const shown = this.#shownState(store);
    this.#drawList(shown, store, run);
    this.#drawDetail(shown);
  }

  // The chosen state; in a replay, the newest one of the shown moment.
  #shownState(store) {
    const chosen = this.#states.find(({ checkpoint_id: id }) => id === this.#chosen);
    if (chosen || store.isLive) return chosen ?? this.#states[0];
    const moment = momentOf(store);
    return this.#states.find(({ created_at: at }) => Date.parse(at) <= moment) ?? this.#states.at(-1);
  }

  async #load() {
    this.#isLoading = true;
    const updates = this.store.updates.length;
    try {
      if (this.#nodes.length === 0) this.#nodes = await nodesOfGraph();
      const { states, next } = await client.states(page.execution, { limit: PAGE });
      const known = new Set(states.map(({ checkpoint_id: id }) => id));
      const older = this.#states.filter(({ checkpoint_id: id }) => !known.has(id));
      if (older.length === this.#states.length) [this.#states, this.#next] = [states, next]; // nothing in common
      else this.#states = [...states, ...older];
    } catch (error) {
      setText(this.#note, CALLER_ERRORS.includes(error.code) ? `There are no states: ${error.message}.` : error.message);
    }
    this.#loadedUpdates = updates;
    this.#loadedAt = performance.now();
    this.#isLoading = false;
    this.store?.changed();
  }

  async #loadOlder() {
    this.#older.disabled = true;
    try {
      const { states, next } = await client.states(page.execution, { limit: PAGE, before: this.#next });
      this.#states.push(...states);
      this.#next = next;
    } catch (error) {
      setText(this.#older, error.message);
    }
    this.#older.disabled = false;
    this.redraw();
  }

  #drawList(shown, store, run) {
    const key = this.#states.map(({ checkpoint_id: id }) => id).join(" ");
    if (this.#list.dataset.key !== key) {
      this.#list.dataset.key = key;
      const focused = this.#list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
      this.#list.replaceChildren(...this.#states.map((state) => this.#item(state)));
      if (focused !== null) this.#list.querySelector(`[data-id="${focused}"]`)?.focus();
    }
    const isWaiting = run.endedAt === null;
    const moment = store.isLive ? Infinity : momentOf(store);
    for (const [index, item] of [...this.#list.children].entries()) {
      const state = this.#states[index];
      item.firstElementChild.setAttribute("aria-current", String(state === shown));
      item.classList.toggle("later", Date.parse(state.created_at) > moment);
      item.classList.toggle("newest", index === 0 && isWaiting);
    }
  }

  #item(state) {
    const item = make("li");
    const button = make("button", "state-item");
    button.type = "button";
    button.dataset.id = state.checkpoint_id;
    const { step, source } = state.metadata;
    const time = new Date(state.created_at).toLocaleTimeString("en-GB");
    button.append(
      make("span", "state-step", `Step ${step ?? "?"}`),
      make("span", "state-source", source ?? ""),
      make("span", "state-time", time),
      make("span", "state-next", state.next.length > 0 ? `next: ${state.next.join(", ")}` : "end"),
    );
    if (state.has_errors) button.append(make("span", "state-failed", "failed"));
    if (state.interrupts.length > 0) button.append(make("span", "state-waits", "waits for a person"));
    button.addEventListener("click", () => {
      this.#chosen = state.checkpoint_id;
      this.redraw();
    });
    item.append(button);
    return item;
  }

  #drawDetail(state) {
    if (state === undefined) return;
    const whole = this.#whole.get(state.checkpoint_id) ?? state;
    const before = this.#before(state);
    if (this.#drawn?.whole === whole && this.#drawn.before === before) return;
    this.#drawn = { whole, before };
    const parts = [make("h2", "state-title", `Step ${state.metadata.step ?? "?"}`), this.#changes(whole, before)];
    for (const { name, error } of whole.tasks) if (error) parts.push(make("p", "error", `${name}: ${error}`));
    const values = make("section", "state-values");
    values.append(make("h3", "", "Values"), valueTree(whole.values));
    if (whole.truncated) values.append(this.#wholeButton(state));
    const fork = make("section", "state-fork");
    fork.append(make("h3", "", "Fork"), this.#fork.element);
    this.#fork.show(state.checkpoint_id, this.#nodes);
    this.#detail.replaceChildren(...parts, values, fork);
  }

  // The state before; undefined if it is not loaded, null for the first state.
  #before(state) {
    const { parent_checkpoint_id: id } = state;
    return id === null ? null : this.#whole.get(id) ?? this.#states.find(({ checkpoint_id: one }) => one === id);
  }

  #changes(state, before) {
    const section = make("section", "state-changes");
    section.append(make("h3", "", "Changes"));
    if (before === undefined) {
      section.append(make("p", "state-none", "Load older states to see what this step has changed."));
      return section;
    }
    const changes = changesBetween(before?.values ?? {}, state.values);
    if (changes.length === 0) section.append(make("p", "state-none", "This step has changed nothing."));
    const list = make("ul", "changes");
    list.append(...changes.map(changeItem));
    section.append(list);
    if (state.truncated || before?.truncated) section.append(make("p", "state-none", "Large values are compared in part."));
    return section;
  }

  #wholeButton(state) {
    const size = Object.values(state.truncated).reduce((sum, bytes) => sum + bytes, 0);
    const button = make("button", "button", `Show the whole state, ${Math.ceil(size / 1024).toLocaleString("en")} KiB`);
    button.type = "button";
    const problem = make("p", "error");
    problem.hidden = true;
    button.addEventListener("click", async () => {
      button.disabled = true;
      try {
        this.#whole.set(state.checkpoint_id, await client.state(page.execution, state.checkpoint_id));
        this.redraw();
      } catch (error) {
        showText(problem, error.message);
        button.disabled = false;
      }
    });
    const place = make("div", "state-whole");
    place.append(button, problem);
    return place;
  }
}

// Time of the newest shown update of a replay.
function momentOf({ updates, shown }) {
  return shown === 0 ? -Infinity : timeOf(updates[shown - 1]);
}

function changeItem({ path, kind, before, after }) {
  const item = make("li", `change ${kind}`);
  item.append(make("span", "change-kind", kind), make("code", "change-path", pathText(path)));
  if (before !== undefined) item.append(labelledValue("before", before));
  if (after !== undefined) item.append(labelledValue(before === undefined ? "" : "after", after));
  return item;
}

function labelledValue(label, value) {
  const line = make("div", `change-${label || "value"}`);
  if (label) line.append(make("span", "change-label", label));
  line.append(shortValue(value));
  return line;
}

async function nodesOfGraph() {
  const { nodes } = await client.graph(page.execution).catch(() => ({ nodes: [] }));
  return nodes.filter(({ kind, parent }) => !parent && (kind === "node" || kind === "subgraph")).map(({ name }) => name);
}

customElements.define("lg-state", StatePanel);
