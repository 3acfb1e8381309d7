// Card of one node: a line with its state, and if it is open what the node wrote and called.

import { gist, make, plain, readable, seconds, setText, showText } from "../dom.js";
import { timeLeft } from "../run/times.js";
import { failureElement } from "./failure.js";
import { Notes } from "./notes.js";
import { partView } from "./parts.js";
import { sourceList } from "./sources.js";

const GIST = 240; // characters
const END = 24; // pixels from the end of a text at which it is still followed

export class NodeCard {
  byHand = null; // true, false: a person opened, or closed, it
  isOpen = false;
  isDone = true; // false: a long text is not drawn to its end
  #node;
  #parts = new Map(); // part of the node -> its view
  #drawn = {}; // what the rarely changing parts show
  #isAtEnd = true;
  #isStale = false; // wants to close while a person is at it

  // changed() requests a drawing.
  constructor(node, id, depth, changed) {
    this.#node = node;
    this.element = make("article", depth === 0 ? "card" : "card inner");
    this.element.setAttribute("aria-labelledby", `${id}-name`);
    this.element.dataset.node = node.id;
    this.element.dataset.key = node.key;
    this.#makeHead(id, depth, changed);
    this.progress = make("div", "progress");
    this.bar = make("progress");
    this.bar.max = 100;
    this.bar.setAttribute("aria-labelledby", `${id}-name`);
    this.figures = make("span", "progress-text");
    this.progress.append(this.bar, this.figures);
    this.progress.hidden = true;
    this.content = make("div", "card-content");
    this.content.id = `${id}-content`;
    this.body = make("div", "card-body");
    this.body.setAttribute("role", "group");
    this.body.setAttribute("aria-labelledby", `${id}-name`);
    this.body.addEventListener("scroll", () => {
      this.#isAtEnd = this.body.scrollHeight - this.body.scrollTop - this.body.clientHeight < END;
    }, { passive: true });
    this.status = make("p", "status");
    this.status.dir = "auto";
    this.failures = make("div", "failures");
    this.result = make("div", "result");
    this.sources = make("div", "sources");
    this.notes = new Notes("Notes");
    this.inside = make("div", "inside");
    this.content.append(this.status, this.body, this.inside, this.failures, this.result, this.sources, this.notes.element);
    this.element.append(this.head, this.progress, this.content);
    const left = () => this.#isStale && changed();
    this.element.addEventListener("pointerleave", left);
    this.element.addEventListener("focusout", () => setTimeout(left));
  }

  #makeHead(id, depth, changed) {
    const { path, name } = this.#node;
    this.head = make("header", "card-head");
    this.title = make(`h${Math.min(3 + depth, 6)}`, "card-title");
    this.toggle = make("button", "card-toggle");
    this.toggle.type = "button";
    this.toggle.setAttribute("aria-controls", `${id}-content`);
    const label = make("span", "card-name");
    label.id = `${id}-name`;
    label.append(...path.map((part) => make("span", "path", `${part} › `)), make("bdi", "", name));
    this.toggle.append(label);
    this.title.append(this.toggle);
    this.number = make("span", "number");
    this.attempt = make("span", "attempt");
    this.gist = make("span", "gist");
    this.gist.dir = "auto";
    this.tokens = make("span", "figure");
    this.state = make("span", "state");
    this.head.append(this.title, this.number, this.attempt, this.gist, this.tokens, this.state);
    this.head.addEventListener("click", () => {
      if (String(getSelection()) !== "") return; // a person selects text
      this.byHand = !this.isOpen;
      changed();
    });
  }

  // A card that a person uses stays open.
  get isHeld() {
    this.#isStale = this.isOpen && this.content.matches(":hover, :focus-within");
    return this.#isStale;
  }

  focus() {
    this.toggle.focus({ preventScroll: true });
    this.element.scrollIntoView({ block: "center" });
  }

  // Updates the card; returns the text to announce to a screen reader, if any.
  draw(now, { isOpen, isPlain, shown }) {
    const node = this.#node;
    this.isOpen = isOpen;
    this.isDone = true;
    this.element.classList.toggle("open", isOpen);
    this.toggle.setAttribute("aria-expanded", String(isOpen));
    this.content.hidden = !isOpen;
    const news = this.#drawHead(now);
    this.#drawProgress(now);
    if (!isOpen) return news;
    for (const [part, view] of this.#parts) {
      if (node.parts.includes(part)) continue;
      view.element.remove(); // retracted
      this.#parts.delete(part);
    }
    node.parts.forEach((part, index) => {
      const view = this.#viewOf(part);
      if (this.body.children[index] !== view.element) this.body.insertBefore(view.element, this.body.children[index] ?? null);
      const isGrowing = node.state === "running";
      if (view.draw(part, { isPlain, isShownAbove: part === shown, isGrowing }) === false) this.isDone = false;
    });
    showText(this.status, typeof node.status === "string" ? node.status : null);
    this.#drawRare();
    return news;
  }

  drawTimes(now) {
    this.#drawState(now);
    if (!this.progress.hidden) this.#drawFigures(now);
  }

  // Scrolls a text that grows; after all cards are drawn, so that the page is laid out once.
  follow() {
    if (!this.isOpen) return;
    const { body } = this;
    const isScrolled = body.scrollHeight > body.clientHeight + 1;
    if (isScrolled && this.#isAtEnd && this.#node.state === "running") body.scrollTop = body.scrollHeight;
    if (isScrolled) body.tabIndex = 0; // scrollable by keyboard
    else body.removeAttribute("tabindex");
  }

  // Container of the nodes inside the node, or inside a call of a tool.
  insideOf(part) {
    return part === null ? this.inside : this.#viewOf(part).inside;
  }

  #viewOf(part) {
    if (!this.#parts.has(part)) this.#parts.set(part, partView(part));
    return this.#parts.get(part);
  }

  #drawHead(now) {
    const node = this.#node;
    setText(this.number, node.alone() ? "" : `#${node.number}`);
    const tries = node.attempt - node.resumes;
    setText(this.attempt, tries > 1 ? `attempt ${tries}` : "");
    setText(this.gist, this.isOpen ? "" : gistOf(node));
    const { input, output } = node.usage;
    setText(this.tokens, input + output > 0 ? `${(input + output).toLocaleString("en")} tokens` : "");
    this.tokens.title = input + output > 0 ? `${input.toLocaleString("en")} in, ${output.toLocaleString("en")} out` : "";
    this.#drawState(now);
    const { state, attempt } = node;
    if (this.#drawn.state === state && this.#drawn.attempt === attempt) return null;
    Object.assign(this.#drawn, { state, attempt });
    this.element.dataset.state = state;
    return `${[...node.path, node.name].join(" ")} ${node.alone() ? "" : node.number} ${state}`;
  }

  #drawState(now) {
    const { state, startedAt, duration, willRetry } = this.#node;
    const took = state === "running" ? (now - startedAt) / 1000 : duration;
    const text = state === "failed" && willRetry ? "failed, tries again" : state;
    const isTimeless = state === "cached" || state === "interrupted"; // a wait for a person is no work
    setText(this.state, isTimeless ? (state === "cached" ? "cached" : "waits for an answer") : `${text} · ${seconds(Math.max(0, took))}`);
  }

  #drawProgress(now) {
    const { progress, state, milestones } = this.#node;
    const isShown = progress?.isTold === true && (this.isOpen || state === "running");
    this.progress.hidden = !isShown;
    if (!isShown) return;
    this.bar.value = progress.progress;
    this.bar.title = milestones.length ? plain(`Milestones passed: ${milestones.join(", ")}`) : "";
    this.#drawFigures(now);
  }

  #drawFigures(now) {
    const { progress, state, milestones } = this.#node;
    const parts = [`${Math.round(progress.progress)} %`];
    const counted = Number.isFinite(progress.current) && Number.isFinite(progress.total) && progress.total !== 100;
    if (counted) parts.push(`${progress.current.toLocaleString("en")} of ${progress.total.toLocaleString("en")}`);
    if (state === "running" && progress.progress < 100) parts.push(...timeLeft(progress, now));
    if (progress.text) parts.push(progress.text);
    if (milestones.length > 0) parts.push(`passed ${milestones.at(-1)}`);
    setText(this.figures, parts.join(" · "));
  }

  // What changes seldom is made anew when it has changed.
  #drawRare() {
    const { failure, earlier, result, parts, rows, sources, artifacts, notes } = this.#node;
    this.#remake("failures", `${earlier.length}`, failure, () => [
      ...earlier.map((one) => failureElement(one.failure, `Attempt ${one.attempt} failed`)),
      ...(failure === null ? [] : [failureElement(failure)]),
    ]);
    const isQuiet = parts.length === 0 && rows.length === 0;
    this.#remake("result", isQuiet, result, () => (isQuiet && readable(result) !== "" ? [make("p", "tool-label", "Result"), make("pre", "", readable(result))] : []));
    this.#remake("sources", `${sources.length} ${artifacts.length}`, null, () => sourceList(sources, artifacts));
    this.notes.draw(notes);
  }

  #remake(name, key, value, contents) {
    const [oldKey, oldValue] = this.#drawn[name] ?? [];
    if (oldKey === key && oldValue === value) return;
    this.#drawn[name] = [key, value];
    this[name].replaceChildren(...contents());
  }
}

// The line of a closed card about its node: its error, its text, or what it called.
function gistOf({ state, error, parts, result, rows }) {
  if (error !== null) return error.slice(0, GIST);
  const text = parts.findLast((part) => part.kind === "token" && part.text.trim() !== "")?.text;
  if (text !== undefined) return (state === "running" ? text.slice(-GIST) : text.slice(0, GIST)).replace(/[#*`_>|\s]+/g, " ").trim();
  const called = parts.filter(({ kind }) => kind === "tool" || kind === "called").map(({ name }) => name);
  if (called.length > 0) return [...new Set(called)].join(", ");
  return rows.length > 0 || result === undefined ? "" : gist(result).slice(0, GIST);
}
