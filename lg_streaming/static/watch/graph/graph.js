// Panel of a run's graph: the server's structure with what runs lit up, or a table of the same.

import { make, setText, showText } from "../dom.js";
import { Panel } from "../run/panel.js";
import { client, page } from "../session.js";
import { Spans } from "../timeline/spans.js";
import { conditionOf } from "./condition.js";
import { Drawing } from "./drawing.js";
import { showCard } from "./links.js";
import { Sheet } from "./sheet.js";
import { RunGraph } from "./structure.js";
import { NodeTable } from "./table.js";
import { Zoom } from "./zoom.js";

const EXPANDED = 60; // nodes up to which subgraphs are expanded at first
const WIDE = 800; // pixels from which the graph runs to the right
const LONGEST = 3; // widths of the page; a longer graph runs down
const NOTES = {
  unknown: "This server does not know the graph of the run. The drawing shows the nodes that have run, and the order in which they followed.",
  functional: "The tasks of this graph are known when they begin. The drawing shows those that have begun.",
};

export class GraphPanel extends Panel {
  #drawing = new Drawing({ onOpen: (id) => this.#open(id), onToggle: (id) => this.#toggle(id) });
  #table = new NodeTable((id) => this.#open(id));
  #sheet = new Sheet(() => this.#close());
  #region = make("div", "graph-region");
  #space = make("div", "graph-space");
  #stage = make("div", "graph-stage");
  #step = make("p", "graph-step");
  #note = make("p", "graph-note");
  #empty = make("p", "empty", "The graph appears here when the run starts.");
  #zoom;
  #bar;
  #tools = {};
  #spans = null;
  #graph = null;
  #declared = undefined; // undefined: not asked yet; null: the server does not know it
  #collapsed = null;
  #shape = ""; // what was laid out
  #resized = new ResizeObserver(() => this.#resize());
  #followed = null; // the node that was last shown

  constructor() {
    super();
    this.#space.append(this.#drawing.element);
    this.#region.append(this.#space);
    this.#region.tabIndex = 0;
    this.#region.setAttribute("role", "group");
    this.#region.setAttribute("aria-label", "Graph. Zoom with plus and minus, 0 fits.");
    this.#zoom = new Zoom(this.#region, this.#space, this.#drawing.element);
    this.#bar = this.#makeBar();
    this.#stage.append(this.#region, this.#table.element, this.#sheet.element);
    this.#showTable(false);
    this.#sheet.element.addEventListener("keydown", (event) => event.stopPropagation());
  }

  // A small one, next to the cards, has no bar, and a node leads to its card.
  get isSmall() {
    return this.hasAttribute("small");
  }

  connectedCallback() {
    if (!this.firstChild) this.append(...(this.isSmall ? [] : [this.#bar]), this.#note, this.#empty, this.#stage);
    this.#resized.observe(this);
    super.connectedCallback();
  }

  disconnectedCallback() {
    this.#resized.disconnect();
    super.disconnectedCallback();
  }

  draw(store, now) {
    const spans = store.use(Spans);
    if (spans.root === null) return this.#showEmpty(true);
    if (this.#declared === undefined) return this.#ask();
    if (this.#spans !== spans || this.#graph === null) this.#begin(spans);
    this.#graph.read(spans);
    this.#showEmpty(this.#graph.nodes.size === 0);
    if (this.#graph.nodes.size === 0) return undefined;
    this.#arrange();
    this.#light(spans, now);
    return undefined;
  }

  // Asks the server for the structure. What it does not know is read from the updates.
  async #ask() {
    this.#declared = null;
    this.#declared = await client.graph(page.execution).catch(() => null);
    this.#graph = null;
    this.redraw();
  }

  #begin(spans) {
    const isOther = this.#spans !== null && this.#spans.root?.startedAt !== spans.root.startedAt;
    this.#spans = spans;
    this.#graph = new RunGraph(this.#declared);
    if (isOther) this.#ask(); // another run may be of another graph
    const note = this.#declared === null ? NOTES.unknown : this.#graph.isFunctional ? NOTES.functional : "";
    showText(this.#note, this.isSmall ? "" : note);
  }

  #showEmpty(isEmpty) {
    this.#empty.hidden = !isEmpty;
    this.#stage.hidden = isEmpty;
    this.#bar.hidden = isEmpty;
  }

  // Lays the graph out, if it has changed.
  #arrange() {
    const { nodes, edges } = this.#graph;
    const boxes = this.#graph.boxes;
    const collapsed = this.#collapsed ?? (nodes.size > EXPANDED ? boxes : new Set());
    const width = this.isSmall ? 0 : this.#stage.clientWidth;
    const shape = [width >= WIDE, nodes.size, edges.size, ...collapsed].join("\n");
    if (shape === this.#shape) return;
    this.#shape = shape;
    const visible = this.#graph.visible(collapsed);
    if (width >= WIDE) this.#drawing.show(visible, { boxes, collapsed, direction: "right" });
    if (width < WIDE || this.#drawing.size.width > LONGEST * width) this.#drawing.show(visible, { boxes, collapsed, direction: "down" });
    this.#table.show([...nodes.values()]);
    this.#zoom.resize(this.#drawing.size);
    if (this.#tools.all) this.#tools.all.hidden = boxes.size === 0;
    setText(this.#tools.all, collapsed.size === 0 ? "Collapse all" : "Expand all");
  }

  #light(spans, now) {
    const active = new Set();
    for (const [id, { kind, parent }] of this.#graph.nodes) {
      if (kind === "start") this.#drawing.setTerminal(id, parent === null || spans.byPath.has(parent));
      else if (kind === "end") this.#drawing.setTerminal(id, this.#graph.edgesInto(id).some(({ count }) => count > 0));
      else {
        const condition = conditionOf(spans.byPath.get(id));
        if (condition.state === "running") active.add(id);
        this.#drawing.setNode(id, condition);
      }
    }
    for (const edge of this.#graph.edges.values()) this.#drawing.setEdge(edge, active.has(edge.target));
    const names = [...active].filter((id) => this.#graph.nodes.get(id).parent === null).map((id) => this.#graph.nodes.get(id).name);
    setText(this.#step, `Step ${spans.steps}${names.length > 0 ? ` · ${names.join(", ")}` : ""}`);
    if (!this.#table.element.hidden) this.#table.draw(this.#graph, spans, now);
    if (this.#sheet.id !== null) this.#sheet.draw(conditionOf(spans.byPath.get(this.#sheet.id)), spans.byPath.get(this.#sheet.id), now);
    const newest = spans.nodes.at(-1);
    if (spans.root.state === "complete" || newest === this.#followed) return;
    this.#followed = newest;
    if (newest) this.#zoom.follow(this.#shownElement(newest.path));
  }

  #resize() {
    this.redraw();
    this.#zoom.resize(this.#drawing.size);
  }

  // Returns the element of a node, or of the collapsed subgraph around it.
  #shownElement(path) {
    for (let id = path; id !== null; id = this.#graph.nodes.get(id).parent) {
      const element = this.#drawing.elementOf(id);
      if (element) return element;
    }
    return undefined;
  }

  #open(id) {
    if (this.isSmall) {
      const newest = this.#spans.byPath.get(id)?.at(-1);
      if (newest) showCard(newest.key);
      return;
    }
    this.#sheet.open(this.#graph.nodes.get(id));
    this.redraw();
  }

  #close() {
    const { id } = this.#sheet;
    this.#sheet.hide();
    if (this.#table.element.hidden) this.#drawing.focus(id);
    else this.#table.focus(id);
  }

  #toggle(id) {
    this.#collapsed ??= this.#graph.nodes.size > EXPANDED ? this.#graph.boxes : new Set();
    if (!this.#collapsed.delete(id)) this.#collapsed.add(id);
    this.redraw();
  }

  #toggleAll() {
    const isExpanded = this.#tools.all.textContent === "Collapse all";
    this.#collapsed = isExpanded ? this.#graph.boxes : new Set();
    this.redraw();
  }

  #showTable(isTable) {
    this.#table.element.hidden = !isTable;
    this.#region.hidden = isTable;
    for (const name of ["closer", "farther", "fit"]) this.#tools[name].hidden = isTable;
    this.#tools.table.setAttribute("aria-pressed", String(isTable));
    this.redraw();
  }

  #makeBar() {
    const bar = make("div", "graph-bar");
    const add = (name, text, label, action) => {
      const button = make("button", "button", text);
      button.type = "button";
      if (label) button.setAttribute("aria-label", label);
      button.addEventListener("click", action);
      this.#tools[name] = button;
    };
    add("all", "Collapse all", "", () => this.#toggleAll());
    add("farther", "−", "Zoom out", () => this.#zoom.farther());
    add("closer", "+", "Zoom in", () => this.#zoom.closer());
    add("fit", "Fit", "", () => this.#zoom.fit());
    add("table", "As a table", "", () => this.#showTable(this.#table.element.hidden));
    const tools = make("div", "graph-tools");
    tools.append(...Object.values(this.#tools));
    bar.append(this.#step, tools);
    return bar;
  }
}

customElements.define("lg-graph", GraphPanel);
