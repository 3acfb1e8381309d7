// Panel of a run's nodes: a card for each, parallel ones side by side, inner ones inside. Draws at most once a frame, and
// inserts text as text, never as markup.

import { gist, make, plain, readable, seconds, setText, showText } from "../dom.js";
import { PromptCard } from "../people/prompts.js";
import { timeLeft } from "../run/header.js";
import { Panel } from "../run/panel.js";
import { Run } from "../run/run.js";
import { client, page } from "../session.js";

const BOTTOM = 48; // pixels from the end of the page at which it still follows the text

export class NodesPanel extends Panel {
  #rows = new Map(); // row of the run -> its element
  #prompts = new Map(); // prompt of the run -> its card
  #cards = new Map(); // node of the run -> its card
  #count = 0; // number of created cards, which names them
  #run = null;
  #first = null; // the run's first row, to detect a reset
  #empty = make("p", "empty", "Nothing has happened yet. Updates appear here as soon as the run starts.");

  draw(store, now) {
    const run = store.use(Run);
    const view = document.scrollingElement;
    const isAtEnd = view.scrollHeight - view.scrollTop - view.clientHeight < BOTTOM;
    if (this.#run !== run || this.#first !== run.rows[0]) this.#clear(run);
    this.#empty.hidden = run.rows.length > 0;
    this.#drawRows(run.rows, this, 0, now);
    this.#dropGone();
    for (const card of this.#prompts.values()) card.draw(now);
    if (isAtEnd && store.isLive && run.endedAt === null) view.scrollTop = view.scrollHeight;
  }

  #clear(run) {
    this.#rows.clear();
    this.#prompts.clear();
    this.#cards.clear();
    this.replaceChildren(this.#empty);
    this.#run = run;
    this.#first = run.rows[0];
  }

  #drawRows(rows, into, depth, now) {
    for (const row of rows) {
      const element = this.#row(row, into);
      for (const node of row.nodes ?? []) {
        const card = this.#card(node, element, depth);
        const news = card.draw(now);
        if (news) setText(document.getElementById("announcer"), news);
        for (const part of node.parts) if (part.rows) this.#drawRows(part.rows, card.insideOf(part), depth + 1, now);
        this.#drawRows(node.rows, card.inside, depth + 1, now);
      }
    }
  }

  #row(row, into) {
    let element = this.#rows.get(row);
    if (!element) {
      element = this.#make(row);
      this.#rows.set(row, element);
      into.append(element);
    }
    return element;
  }

  #make({ kind, text, prompt }) {
    if (kind === "prompt") {
      const respond = (promptId, answer) => client.respond(page.execution, promptId, answer);
      const card = new PromptCard(prompt, `prompt-${prompt.number}`, respond);
      this.#prompts.set(prompt, card);
      return card.element;
    }
    if (kind === "nodes") return make("div", "row");
    const gap = make("p", "gap", text);
    gap.setAttribute("role", "note");
    return gap;
  }

  #card(node, row, depth) {
    let card = this.#cards.get(node);
    if (!card) {
      this.#count += 1;
      card = new NodeCard(node, `node-${this.#count}`, depth);
      this.#cards.set(node, card);
      row.append(card.element);
    }
    return card;
  }

  // A retried node has new inner nodes.
  #dropGone() {
    const there = new Set(this.#run.nodes);
    for (const [node, card] of this.#cards) {
      if (there.has(node)) continue;
      card.element.remove();
      this.#cards.delete(node);
    }
  }
}

class NodeCard {
  #node;
  #parts = new Map(); // part of the node -> its element and how to draw it
  #drawnAttempt = 0;

  constructor(node, id, depth) {
    this.#node = node;
    this.element = make("article", depth === 0 ? "card" : "card inner");
    this.element.setAttribute("aria-labelledby", id);
    this.element.dataset.node = node.id;
    this.element.dataset.key = node.key;
    const head = make("header", "card-head");
    this.title = make(`h${Math.min(2 + depth, 6)}`, "card-title");
    this.title.id = id;
    this.title.append(...node.path.map((part) => make("span", "path", `${part} › `)), make("bdi", "", node.name));
    this.number = make("span", "number");
    this.attempt = make("span", "attempt");
    this.state = make("span", "state");
    head.append(this.title, this.number, this.attempt, this.state);
    this.progress = make("div", "progress");
    this.bar = make("progress");
    this.bar.max = 100;
    this.bar.setAttribute("aria-labelledby", id);
    this.figures = make("span", "progress-text");
    this.progress.append(this.bar, this.figures);
    this.progress.hidden = true;
    this.body = make("div", "card-body");
    this.body.setAttribute("role", "group");
    this.body.setAttribute("aria-labelledby", id);
    this.error = make("p", "error");
    this.error.hidden = true;
    this.inside = make("div", "inside");
    this.element.append(head, this.progress, this.body, this.inside, this.error);
  }

  // Updates the card; returns the text to announce to a screen reader, if any.
  draw(now) {
    const node = this.#node;
    const stuck = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < 24;
    for (const [part, drawn] of this.#parts) {
      if (node.parts.includes(part)) continue;
      drawn.element.remove(); // retracted
      this.#parts.delete(part);
    }
    const news = this.#drawHead(now);
    this.#drawProgress(now);
    for (const part of node.parts) this.#drawPart(part);
    showText(this.error, node.error);
    if (stuck) this.body.scrollTop = this.body.scrollHeight;
    if (this.body.scrollHeight > this.body.clientHeight + 1) this.body.tabIndex = 0; // scrollable by keyboard
    else this.body.removeAttribute("tabindex");
    return news;
  }

  // Container of the nodes inside a call of a tool.
  insideOf(part) {
    return this.#parts.get(part).inside;
  }

  #drawHead(now) {
    const node = this.#node;
    const took = node.state === "running" ? (now - node.startedAt) / 1000 : node.duration;
    setText(this.number, node.alone() ? "" : `#${node.number}`);
    const tries = node.attempt - node.resumes;
    setText(this.attempt, tries > 1 ? `attempt ${tries}` : "");
    setText(this.state, node.state === "cached" ? "cached" : `${node.state} · ${seconds(Math.max(0, took))}`);
    if (this.element.dataset.state === node.state && this.#drawnAttempt === node.attempt) return null;
    this.element.dataset.state = node.state;
    this.#drawnAttempt = node.attempt;
    return `${[...node.path, node.name].join(" ")} ${node.alone() ? "" : node.number} ${node.state}`;
  }

  #drawProgress(now) {
    const { progress, state, milestones } = this.#node;
    this.progress.hidden = !progress;
    if (!progress) return;
    this.bar.value = progress.progress;
    const parts = [`${Math.round(progress.progress)} %`];
    const counted = Number.isFinite(progress.current) && Number.isFinite(progress.total) && progress.total !== 100;
    if (counted) parts.push(`${progress.current.toLocaleString("en")} of ${progress.total.toLocaleString("en")}`);
    if (state === "running" && progress.progress < 100) parts.push(...timeLeft(progress, now));
    if (progress.text) parts.push(progress.text);
    setText(this.figures, parts.join(" · "));
    this.bar.title = milestones.length ? plain(`Milestones passed: ${milestones.join(", ")}`) : "";
  }

  #drawPart(part) {
    let drawn = this.#parts.get(part);
    if (!drawn) {
      drawn = part.kind === "tool" ? new ToolPart(part) : new TextPart(part);
      this.#parts.set(part, drawn);
      this.body.append(drawn.element);
    }
    drawn.draw(part);
  }
}

class TextPart {
  #drawn = 0; // characters of the text

  constructor({ kind, message }) {
    this.element = make("div", kind);
    this.element.dataset.message = message;
    this.text = new Text();
    this.element.append(this.text);
  }

  draw({ text }) {
    if (text.length === this.#drawn) return;
    this.text.appendData(plain(text.slice(this.#drawn)));
    this.#drawn = text.length;
  }
}

class ToolPart {
  constructor() {
    this.element = make("div", "call");
    this.details = make("details", "tool");
    this.inside = make("div", "inside");
    this.element.append(this.details, this.inside);
    const summary = make("summary");
    this.name = make("span", "tool-name");
    this.gist = make("span", "tool-gist");
    this.state = make("span", "tool-state");
    summary.append(this.name, this.gist, this.state);
    this.input = make("pre");
    this.output = make("pre");
    this.label = make("p", "tool-label", "Result");
    this.details.append(summary, make("p", "tool-label", "Input"), this.input, this.label, this.output);
  }

  draw(part) {
    const input = part.input ?? part.args;
    this.details.dataset.state = part.state;
    setText(this.name, part.name);
    setText(this.gist, gist(input));
    setText(this.state, toolState(part));
    setText(this.input, readable(input));
    const isPaused = part.question !== null;
    setText(this.label, isPaused ? "Question" : "Result");
    setText(this.output, part.error ?? readable(isPaused ? part.question : part.output));
  }
}

function toolState({ state, duration }) {
  if (state === "interrupted") return "waits for an answer";
  if (duration === null) return state;
  return `${state === "complete" ? "✓" : state} ${seconds(duration)}`;
}

customElements.define("lg-nodes", NodesPanel);
