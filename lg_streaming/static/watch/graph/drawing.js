// Drawing of a graph: edges as SVG, nodes as buttons over them, so that names wrap, truncate and read like other text.

import { make, plain, setText } from "../dom.js";
import { wordsOf } from "./condition.js";
import { layout } from "./layout.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  idle: "○", running: "▶", complete: "✓", failed: "✕", interrupted: "❚❚", cached: "⟲", cancelled: "⊘", abandoned: "⊘",
};
const NODE = { least: 172, most: 260, height: 50, margin: 52 };
const TERMINAL = { width: 68, height: 30 };
const TERMINALS = { start: "Start", end: "End" };
const LABEL = { height: 18, most: 28, count: 34, font: "500 12px" }; // pixels, characters, pixels

export class Drawing {
  #elements = new Map(); // id of a node -> its parts
  #links = new Map(); // key of an edge -> its parts
  #measure = null;
  size = { width: 0, height: 0 };

  // onOpen(id) is called for a chosen node, onToggle(id) for a subgraph's button.
  constructor({ onOpen, onToggle }) {
    this.onOpen = onOpen;
    this.onToggle = onToggle;
    this.element = make("div", "graph-canvas");
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("aria-hidden", "true");
    this.element.append(this.svg);
  }

  // Draws nodes and edges anew. `boxes` are the ids of nodes that can be expanded, `collapsed` those that are not.
  show({ nodes, edges }, { boxes, collapsed, direction }) {
    const focused = document.activeElement?.closest?.(".graph-canvas") === this.element ? document.activeElement.dataset : null;
    this.#measure ??= measurer(this.element);
    const labelSizeOf = ({ label }) => (label ? { width: this.#measure(short(plain(label)), LABEL.font) + LABEL.count, height: LABEL.height } : null);
    const placed = layout({ nodes, edges }, { direction, sizeOf: (node) => this.#sizeOf(node), labelSizeOf });
    this.size = { width: placed.width, height: placed.height };
    this.svg.setAttribute("width", placed.width);
    this.svg.setAttribute("height", placed.height);
    this.svg.replaceChildren();
    this.#links.clear();
    edges.forEach((edge, index) => this.#drawEdge(edge, placed.edges[index], direction === "right"));
    this.#elements.clear();
    const made = nodes.map((node) => this.#drawNode(node, placed.nodes.get(node.id), boxes.has(node.id), collapsed.has(node.id)));
    this.element.replaceChildren(this.svg, ...made);
    if (focused) this.focus(focused.id, focused.part);
  }

  focus(id, part = "node") {
    const parts = this.#elements.get(id);
    (part === "toggle" ? parts?.toggle : parts?.button)?.focus();
  }

  // Returns the element of a node.
  elementOf(id) {
    return this.#elements.get(id)?.element;
  }

  // Shows the condition of a node: see `conditionOf`.
  setNode(id, condition) {
    const parts = this.#elements.get(id);
    if (!parts || parts.words === undefined) return;
    const { state } = condition;
    if (parts.element.dataset.state !== state) {
      parts.element.dataset.state = state;
      setText(parts.icon, ICONS[state] ?? "○");
    }
    setText(parts.words, wordsOf(condition));
  }

  setTerminal(id, isReached) {
    const parts = this.#elements.get(id);
    if (parts) parts.element.dataset.state = isReached ? "complete" : "idle";
  }

  setEdge({ key, count, label }, isActive) {
    const parts = this.#links.get(key);
    if (!parts) return;
    const state = count === 0 ? "idle" : isActive ? "active" : "taken";
    if (parts.group.dataset.state !== state) parts.group.dataset.state = state;
    const text = plain([label ? short(label) : "", count > 1 ? `×${count}` : ""].filter(Boolean).join(" "));
    if (parts.text.textContent === text) return;
    parts.text.textContent = text;
    const width = label ? this.#measure(text, LABEL.font) + 8 : 0; // a count alone is next to the line
    parts.ground.setAttribute("width", width);
    parts.ground.setAttribute("x", parts.x - width / 2);
  }

  #sizeOf({ kind, name }) {
    if (kind in TERMINALS) return TERMINAL;
    const width = Math.ceil(this.#measure(plain(name), "600 14px")) + NODE.margin;
    return { width: Math.min(NODE.most, Math.max(NODE.least, width)), height: NODE.height };
  }

  #drawEdge({ key, source, target, conditional, isExtra, label }, { points, label: at, isBack }, isRight) {
    const group = svg("g", { class: ["graph-edge", conditional && "conditional", isExtra && "seen"].filter(Boolean).join(" ") });
    group.dataset.state = "idle";
    const line = svg("path", { d: source === target ? loop(points) : curve(points, isRight) });
    const [x2, y2] = points.at(-1);
    const angle = (isRight ? 0 : 90) + (isBack ? 180 : 0) + (source === target ? (isRight ? -90 : 90) : 0);
    const arrow = svg("path", { class: "graph-arrow", d: "M 0 0 l -8 -4.5 v 9 z", transform: `translate(${x2} ${y2}) rotate(${angle})` });
    const [dx, dy] = label ? [0, 4] : isRight ? [0, -6] : [14, 4]; // a count is next to the line
    const text = svg("text", { x: at.x + dx, y: at.y + dy, "text-anchor": "middle" });
    const ground = svg("rect", { x: at.x, y: at.y - LABEL.height / 2, width: 0, height: LABEL.height, rx: 4 });
    group.append(line, arrow, ground, text);
    if (label) group.append(Object.assign(svg("title", {}), { textContent: plain(label) }));
    this.svg.append(group);
    this.#links.set(key, { group, text, ground, x: at.x });
  }

  #drawNode(node, rect, canExpand, isCollapsed) {
    const isTerminal = node.kind in TERMINALS;
    const element = make("div", `graph-node${isTerminal ? " terminal" : ""}${rect.isBox ? " box" : ""}${node.isExtra ? " seen" : ""}`);
    place(element, rect);
    element.dataset.state = "idle";
    if (isTerminal) {
      element.textContent = TERMINALS[node.kind];
      this.#elements.set(node.id, { element });
      return element;
    }
    const button = make("button", "graph-button");
    button.type = "button";
    button.dataset.id = node.id;
    button.title = plain(node.name);
    const icon = make("span", "graph-icon", ICONS.idle);
    icon.setAttribute("aria-hidden", "true");
    const name = make("span", "graph-name", node.name);
    name.dir = "auto";
    const words = make("span", "graph-words");
    button.append(icon, name, words);
    button.addEventListener("click", () => this.onOpen(node.id));
    element.append(button);
    const toggle = canExpand ? this.#toggle(node, isCollapsed) : null;
    if (toggle) element.append(toggle);
    this.#elements.set(node.id, { element, button, icon, words, toggle });
    return element;
  }

  #toggle({ id, name }, isCollapsed) {
    const toggle = make("button", "graph-toggle", isCollapsed ? "+" : "−");
    toggle.type = "button";
    Object.assign(toggle.dataset, { id, part: "toggle" });
    toggle.setAttribute("aria-expanded", String(!isCollapsed));
    toggle.setAttribute("aria-label", plain(`Nodes inside ${name}`));
    toggle.addEventListener("click", () => this.onToggle(id));
    return toggle;
  }
}

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

function place(element, { x, y, width, height }) {
  Object.assign(element.style, { left: `${x}px`, top: `${y}px`, width: `${width}px`, height: `${height}px` });
}

// A line that is straight within ranks and bends between them.
function curve(points, isRight) {
  let path = `M ${points[0].join(" ")}`;
  for (let index = 1; index < points.length; index += 1) {
    const [[x1, y1], [x2, y2]] = [points[index - 1], points[index]];
    const middle = isRight ? [(x1 + x2) / 2, (x1 + x2) / 2, y1, y2] : [x1, x2, (y1 + y2) / 2, (y1 + y2) / 2];
    const isStraight = isRight ? y1 === y2 : x1 === x2;
    path += isStraight ? ` L ${x2} ${y2}` : ` C ${middle[0]} ${middle[2]} ${middle[1]} ${middle[3]} ${x2} ${y2}`;
  }
  return path;
}

function loop([start, out, back, end]) {
  return `M ${start.join(" ")} C ${out.join(" ")} ${back.join(" ")} ${end.join(" ")}`;
}

function short(text) {
  return text.length > LABEL.most ? `${text.slice(0, LABEL.most - 1)}…` : text;
}

function measurer(element) {
  const context = document.createElement("canvas").getContext("2d");
  const { fontFamily } = getComputedStyle(element);
  return (text, font) => {
    context.font = `${font} ${fontFamily}`;
    return context.measureText(text).width;
  };
}
