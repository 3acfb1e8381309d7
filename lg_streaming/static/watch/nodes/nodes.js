// Panel of a run: its answer, then a card for each node, parallel ones side by side, inner ones inside. Draws only nodes
// that changed, at most once a frame and for a few milliseconds, and nothing inside a closed card.

import { AnswerCard } from "../answer/answer.js";
import { answerOf } from "../answer/rule.js";
import { make, setText } from "../dom.js";
import { PromptCard } from "../people/prompts.js";
import { Panel } from "../run/panel.js";
import { Run } from "../run/run.js";
import { caller, client, page } from "../session.js";
import { NodeCard } from "./card.js";
import { Notes } from "./notes.js";
import { moveBetween } from "./keys.js";

const BOTTOM = 48; // pixels from the end of the page at which it still follows the text
const BUDGET = 12; // milliseconds of one drawing; the rest waits for the next frame
const TICK = 200; // milliseconds between two drawings of the times of running nodes
const ACTS = ["wheel", "touchmove", "pointerdown", "keydown"]; // with which a person moves the page
const CROWD = 9; // parallel nodes; of more, only those that need a person are open

export class NodesPanel extends Panel {
  #rows = new Map(); // row of the run -> its element
  #prompts = new Map(); // prompt of the run -> its card
  #cards = new Map(); // node of the run -> its card
  #count = 0; // number of created cards, which names them
  #run = null;
  #first = null; // the run's first row, to detect a reset
  #changed = null; // nodes that changed since they were drawn
  #drawnRows = 0; // rows of the run that have an element
  #tickAt = 0;
  #all = null; // true, false: a person opened, or closed, all cards
  #isPlain = false;
  #shown = null; // the part that the answer shows
  #state = null; // of the run, when the answer was found
  #lastAnswer = null;
  #answer = new AnswerCard((node) => this.#reveal(node));
  #notes = new Notes("Notes of the run");
  #revealed = null; // node whose card stays in view until all cards are drawn, or a person acts
  #isAtEnd = false; // of the page, after a person scrolled there
  #onScroll = () => {
    const { scrollTop, scrollHeight, clientHeight } = document.scrollingElement;
    this.#isAtEnd = scrollTop > 0 && scrollHeight - scrollTop - clientHeight < BOTTOM;
  };
  #onAct = () => {
    this.#revealed = null;
  };
  #list = make("div", "rows");
  #tools = make("div", "tools");
  #empty = make("p", "empty");

  constructor() {
    super();
    this.#tools.append(
      this.#button("Expand all", () => this.#setAll(true)),
      this.#button("Collapse all", () => this.#setAll(false)),
      this.#plainButton(),
    );
    this.#list.addEventListener("keydown", (event) => moveBetween(event, this.#list));
  }

  connectedCallback() {
    this.replaceChildren(this.#answer.element, this.#tools, this.#empty, this.#list, this.#notes.element);
    addEventListener("scroll", this.#onScroll, { passive: true });
    for (const act of ACTS) addEventListener(act, this.#onAct, { passive: true });
    super.connectedCallback();
  }

  disconnectedCallback() {
    removeEventListener("scroll", this.#onScroll);
    for (const act of ACTS) removeEventListener(act, this.#onAct);
    super.disconnectedCallback();
  }

  draw(store, now) {
    const run = store.use(Run);
    if (this.#run !== run || this.#first !== run.rows[0]) this.#clear(run);
    this.#empty.hidden = run.rows.length > 0;
    setText(this.#empty, run.endedAt === null ? "Nothing has happened yet. Updates appear here as soon as the run starts." : "No node of this run has begun.");
    this.#tools.hidden = run.count === 0;
    this.#drawAnswer(run);
    for (; this.#drawnRows < run.rows.length; this.#drawnRows += 1) this.#rowOf(run.rows[this.#drawnRows], this.#list);
    const drawn = this.#drawChanged(now);
    if (performance.now() - this.#tickAt > TICK) this.#tick(run, now);
    for (const card of drawn) card.follow();
    for (const card of this.#prompts.values()) card.draw(now);
    this.#notes.draw(run.notes);
    if (this.#isAtEnd && store.isLive && run.endedAt === null) document.scrollingElement.scrollTop = Number.MAX_SAFE_INTEGER;
    if (this.#revealed !== null) this.#cardOf(this.#revealed).focus();
    if (this.#changed.size > 0) store.changed();
    else this.#revealed = null;
  }

  #clear(run) {
    for (const known of [this.#rows, this.#prompts, this.#cards]) known.clear();
    this.#list.replaceChildren();
    this.#notes.clear();
    this.#run = run;
    this.#first = run.rows[0];
    this.#changed = run.follow();
    this.#drawnRows = 0;
    this.#shown = this.#revealed = null;
  }

  #drawAnswer(run) {
    const answer = this.#changed.size > 0 || this.#state !== run.state ? answerOf(run) : this.#lastAnswer;
    this.#state = run.state;
    this.#lastAnswer = answer;
    const part = answer?.part ?? null;
    if (part !== this.#shown) {
      for (const { node, part: one } of run.texts) if (one === part || one === this.#shown) this.#changed.add(node);
      this.#shown = part;
    }
    this.#answer.draw(answer, { isPlain: this.#isPlain, isOpen: run.endedAt === null });
  }

  // Draws changed nodes, and returns their cards.
  #drawChanged(now) {
    const drawn = [];
    const until = performance.now() + BUDGET;
    for (const node of this.#changed) {
      this.#changed.delete(node);
      if (node.isGone) this.#remove(node);
      else if (this.#isVisible(node)) this.#drawNode(node, now, drawn);
      if (performance.now() > until) break;
    }
    return drawn;
  }

  #drawNode(node, now, drawn) {
    const card = this.#cardOf(node);
    const wasOpen = card.isOpen;
    const news = card.draw(now, { isOpen: this.#isOpen(node), isPlain: this.#isPlain, shown: this.#shown });
    if (news) setText(document.getElementById("announcer"), news);
    if (card.isOpen && !wasOpen) this.#drawInside(node);
    if (!card.isDone) this.#changed.add(node);
    drawn.push(card);
  }

  // An opened card draws its inner nodes.
  #drawInside(node) {
    const rows = [...node.parts.flatMap((part) => part.rows ?? []), ...node.rows];
    for (const row of rows) for (const one of row.nodes ?? []) this.#changed.add(one);
  }

  #isVisible(node) {
    if (node.outer === null) return true;
    return this.#cards.get(node.outer)?.isOpen === true;
  }

  #isOpen(node) {
    const { byHand, isHeld } = this.#cards.get(node) ?? {};
    if (byHand !== undefined && byHand !== null) return byHand;
    if (this.#all !== null) return this.#all;
    if (isHeld) return true;
    if (node.state === "running") return node.row.nodes.length <= CROWD;
    return node.state === "failed" || node.state === "interrupted";
  }

  #tick(run, now) {
    this.#tickAt = performance.now();
    for (const node of run.running) if (this.#isVisible(node)) this.#cards.get(node)?.drawTimes(now);
  }

  #rowOf(row, into) {
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
      const card = new PromptCard(prompt, `prompt-${prompt.number}`, respond, () => caller.may("control"));
      this.#prompts.set(prompt, card);
      return card.element;
    }
    if (kind === "nodes") return make("div", "row");
    const gap = make("p", "gap", text);
    gap.setAttribute("role", "note");
    return gap;
  }

  #cardOf(node) {
    let card = this.#cards.get(node);
    if (!card) {
      this.#count += 1;
      const depth = depthOf(node);
      card = new NodeCard(node, `node-${this.#count}`, depth, () => {
        this.#changed.add(node);
        this.store.changed();
      });
      this.#cards.set(node, card);
      const outer = node.outer === null ? this.#list : this.#cardOf(node.outer).insideOf(node.call);
      const row = this.#rowOf(node.row, outer);
      row.append(card.element);
      row.classList.toggle("crowd", node.row.nodes.length > CROWD);
    }
    return card;
  }

  #remove(node) {
    this.#cards.get(node)?.element.remove();
    this.#cards.delete(node);
  }

  // Shows the newest node with a key, for links of other panels. Returns whether there is one.
  reveal(key) {
    const node = this.store?.use(Run).current.get(key);
    if (node === undefined || this.closest("[hidden]") !== null) return false;
    this.redraw();
    this.#reveal(node);
    return true;
  }

  // Opens a node and what is around it, and shows it.
  #reveal(node) {
    for (let one = node; one !== null; one = one.outer) {
      const card = this.#cardOf(one);
      card.byHand = true;
      this.#changed.add(one);
    }
    this.#revealed = node;
    this.redraw();
  }

  #setAll(isOpen) {
    this.#all = isOpen;
    for (const [node, card] of this.#cards) {
      card.byHand = null;
      this.#changed?.add(node);
    }
    this.store.changed();
  }

  #button(label, action) {
    const button = make("button", "button", label);
    button.type = "button";
    button.addEventListener("click", action);
    return button;
  }

  #plainButton() {
    const button = this.#button("Plain text", () => {
      this.#isPlain = !this.#isPlain;
      button.setAttribute("aria-pressed", String(this.#isPlain));
      for (const node of this.#cards.keys()) this.#changed.add(node);
      this.store.changed();
    });
    button.setAttribute("aria-pressed", "false");
    return button;
  }
}

function depthOf(node) {
  return node.outer === null ? 0 : depthOf(node.outer) + 1;
}

customElements.define("lg-nodes", NodesPanel);
