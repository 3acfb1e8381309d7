// The nodes of a graph as a table: the same as the drawing, in text.

import { make, seconds, setText } from "../dom.js";
import { workOf } from "../timeline/spans.js";
import { conditionOf, wordsOf } from "./condition.js";

const HEADS = ["Node", "State", "Visits", "Time at work", "Came from"];

export class NodeTable {
  #body = make("tbody");
  #rows = new Map(); // id of a node -> its cells

  // onOpen(id) is called for a chosen node.
  constructor(onOpen) {
    this.onOpen = onOpen;
    this.element = make("div", "graph-table-region");
    this.element.tabIndex = 0; // it scrolls sideways
    this.element.setAttribute("role", "group");
    this.element.setAttribute("aria-label", "Table of nodes");
    const table = make("table", "graph-table");
    const head = make("tr");
    for (const text of HEADS) head.append(Object.assign(make("th", "", text), { scope: "col" }));
    const heads = make("thead");
    heads.append(head);
    table.append(make("caption", "visually-hidden", "Nodes of the graph"), heads, this.#body);
    this.element.append(table);
  }

  show(nodes) {
    this.#rows.clear();
    this.#body.replaceChildren(...nodes.filter(({ kind }) => kind !== "start" && kind !== "end").map((node) => this.#row(node)));
  }

  draw(graph, spans, now) {
    for (const [id, { state, visits, time, from }] of this.#rows) {
      const found = spans.byPath.get(id) ?? [];
      setText(state, wordsOf(conditionOf(found)));
      setText(visits, String(found.length));
      setText(time, found.length > 0 ? seconds(found.reduce((sum, visit) => sum + workOf(visit, now), 0) / 1000) : "");
      const taken = graph.edgesInto(id).filter(({ count }) => count > 0);
      setText(from, taken.map((edge) => `${nameOf(graph.nodes.get(edge.source))}${edge.count > 1 ? ` ×${edge.count}` : ""}`).join(", "));
    }
  }

  focus(id) {
    this.#rows.get(id)?.button.focus();
  }

  #row({ id, name, parent }) {
    const row = make("tr");
    const head = make("th");
    head.scope = "row";
    const button = make("button", "graph-row-button", name);
    button.type = "button";
    button.dir = "auto";
    button.addEventListener("click", () => this.onOpen(id));
    if (parent) head.append(make("span", "graph-row-path", `${parent.replaceAll("/", " › ")} › `));
    head.append(button);
    const [state, visits, time, from] = [1, 2, 3, 4].map(() => make("td"));
    row.append(head, state, visits, time, from);
    this.#rows.set(id, { button, state, visits, time, from });
    return row;
  }
}

function nameOf({ kind, name }) {
  return kind === "start" ? "the start" : name;
}
