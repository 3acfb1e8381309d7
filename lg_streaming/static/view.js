// Shows a Run. Draws at most once a frame, and inserts text as text, never as markup.

import { gist, make, readable, seconds, setText, showText } from "./dom.js";
import { PromptCard } from "./prompts.js";

const CONNECTIONS = {
  connecting: "connecting",
  connected: "live",
  polling: "live, by polling",
  reconnecting: "connection lost, trying again",
  ended: "all updates received",
  failed: "not connected",
};

export class RunView {
  #run;
  #document;
  #parts = {};
  #actions;
  #connection = { state: "connecting", text: CONNECTIONS.connecting };
  #rows = new Map(); // row of the run -> its element
  #prompts = new Map(); // prompt of the run -> its card
  #cards = new Map(); // node of the run -> its card
  #count = 0; // number of created cards, which names them
  #first = null; // the run's first row, to detect a reset
  #drawing = false;
  #lag = -Infinity; // estimated offset of the server's clock, in milliseconds

  // actions: respond(promptId, answer) sends an answer; onDraw() is called after each frame.
  constructor(run, document, actions) {
    this.#run = run;
    this.#actions = actions;
    this.#document = document;
    for (const { id } of document.querySelectorAll("[id]")) this.#parts[id] = document.getElementById(id);
    setInterval(() => run.startedAt !== null && run.endedAt === null && this.changed(), 500);
  }

  // Shows the state of the connection, together with the updates before it.
  connection(state, detail = "") {
    this.#connection = { state, text: detail || CONNECTIONS[state] };
    this.changed();
  }

  announce(text) {
    setText(this.#parts.announcer, text);
  }

  // Requests a frame. A hidden page gets no frames, and is drawn when it becomes visible.
  changed() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #draw() {
    const run = this.#run;
    if (run.newestAt !== null) this.#lag = Math.max(this.#lag, run.newestAt - Date.now());
    const now = run.endedAt ?? Date.now() + (Number.isFinite(this.#lag) ? this.#lag : 0);
    const page = this.#document.scrollingElement;
    const stuck = page.scrollHeight - page.scrollTop - page.clientHeight < 48;
    if (this.#first !== run.rows[0]) this.#clear();
    this.#drawHead(now);
    this.#drawRows(run.rows, this.#parts.nodes, 0, now);
    this.#dropGone();
    this.#drawPrompts(now);
    this.#actions.onDraw();
    if (stuck && run.endedAt === null) page.scrollTop = page.scrollHeight;
  }

  #clear() {
    this.#rows.clear();
    this.#prompts.clear();
    this.#cards.clear();
    this.#parts.nodes.replaceChildren(this.#parts.empty);
    this.#first = this.#run.rows[0];
  }

  #drawHead(now) {
    const run = this.#run;
    const { "run-state": pill, empty } = this.#parts;
    this.#parts.connection.dataset.state = this.#connection.state;
    setText(this.#parts.connection, this.#connection.text);
    const state = stateText(run);
    if (pill.textContent !== state) {
      pill.dataset.state = run.state;
      setText(pill, state);
      this.#document.title = `${this.#document.body.dataset.execution} · ${state}`;
      if (run.state !== "waiting") this.announce(`Run ${state}`);
    }
    setText(this.#parts.updates, run.updates.toLocaleString("en"));
    setText(this.#parts.tokens, run.tokens.toLocaleString("en"));
    if (run.firstTokenAt !== null) setText(this.#parts["first-token"], seconds((run.firstTokenAt - run.startedAt) / 1000));
    if (run.startedAt !== null) setText(this.#parts.duration, seconds(Math.max(0, now - run.startedAt) / 1000));
    showText(this.#parts["run-error"], run.error);
    empty.hidden = run.rows.length > 0;
    this.#drawOverall(run.overall, now);
  }

  #drawOverall(overall, now) {
    this.#parts.overall.hidden = overall === null;
    if (overall === null) return;
    this.#parts["overall-bar"].value = overall.progress;
    const parts = [`${Math.floor(overall.progress)} %`, `${overall.completed_nodes} of ${overall.total_nodes} nodes`];
    if (this.#run.state === "running" && overall.progress < 100) parts.push(...timeLeft(overall, now));
    setText(this.#parts["overall-text"], parts.join(" · "));
  }

  // Draws the prompts, and links to the open ones in the head.
  #drawPrompts(now) {
    for (const card of this.#prompts.values()) card.draw(now);
    const open = this.#run.openPrompts;
    const { questions } = this.#parts;
    questions.hidden = open.length === 0;
    const links = [...questions.children];
    if (links.length === open.length && links.every((link, index) => link.prompt === open[index])) return;
    questions.replaceChildren(...open.map((prompt) => {
      const link = make("a", "", `Waits for you: ${gist(prompt.text)}`);
      link.href = `#${this.#prompts.get(prompt).element.id}`;
      return Object.assign(link, { prompt });
    }));
  }

  #drawRows(rows, into, depth, now) {
    for (const row of rows) {
      const element = this.#row(row, into);
      for (const node of row.nodes ?? []) {
        const card = this.#card(node, element, depth);
        const news = card.draw(now);
        if (news) this.announce(news);
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
      this.#count += 1;
      const card = new PromptCard(prompt, `prompt-${this.#count}`, this.#actions.respond);
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
    this.title.append(...node.path.map((part) => make("span", "path", `${part} › `)), node.name);
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
    this.body.setAttribute("role", "region");
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
    this.bar.title = milestones.length ? `Milestones passed: ${milestones.join(", ")}` : "";
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
  constructor({ kind, message }) {
    this.element = make("div", kind);
    this.element.dataset.message = message;
    this.text = new Text();
    this.element.append(this.text);
  }

  draw({ text }) {
    if (text.length > this.text.length) this.text.appendData(text.slice(this.text.length));
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

function stateText({ state, place, openPrompts }) {
  if (state === "interrupted" && openPrompts.length > 0) return "waits for you";
  return state === "queued" && place !== null ? `queued, place ${place}` : state;
}

function timeLeft({ eta_s: eta, at }, now) {
  if (eta === undefined || eta === null) return [];
  return [`about ${seconds(Math.max(0, eta - (now - at) / 1000))} left`];
}

function toolState({ state, duration }) {
  if (state === "interrupted") return "waits for an answer";
  if (duration === null) return state;
  return `${state === "complete" ? "✓" : state} ${seconds(duration)}`;
}
