// Views of what a node wrote and called. Each has an element, and `draw(part, view)`, which returns false if a long text
// is not drawn to its end.

import { gist, make, plain, readable, seconds, setText } from "../dom.js";
import { Prose } from "../text/prose.js";
import { mediaElement } from "./media.js";

export function partView(part) {
  return new VIEWS[part.kind](part);
}

class TextView {
  #prose = new Prose();
  #note = make("p", "above", "Shown above, as the answer.");
  #again = make("button", "button", "Show it here too");
  #isHere = false;
  #isAbove = false;

  constructor({ message }) {
    this.element = make("div", "token");
    this.element.dataset.message = message;
    this.#again.type = "button";
    this.#again.addEventListener("click", () => {
      this.#isHere = true;
      this.#place();
    });
    this.#note.append(" ", this.#again);
    this.element.append(this.#prose.element);
  }

  draw({ text }, { isPlain, isShownAbove, isGrowing }) {
    if (isShownAbove !== this.#isAbove) {
      this.#isAbove = isShownAbove;
      this.#isHere &&= isShownAbove;
      this.#place();
    }
    if (isShownAbove && !this.#isHere && isGrowing) return true;
    return this.#prose.show(text, { isPlain, isGrowing });
  }

  #place() {
    const isNote = this.#isAbove && !this.#isHere;
    this.element.className = isNote ? "elsewhere" : "token";
    this.element.replaceChildren(isNote ? this.#note : this.#prose.element);
  }
}

class ThinkingView {
  #byHand = false;
  #text = new Text();

  constructor({ message }) {
    this.element = make("details", "thinking");
    this.element.dataset.message = message;
    this.label = make("summary");
    this.label.addEventListener("click", () => (this.#byHand = true));
    const text = make("p");
    text.dir = "auto";
    text.append(this.#text);
    this.element.append(this.label, text);
  }

  draw({ text: given, isOver }, { isGrowing }) {
    const text = plain(given);
    if (text.length > this.#text.length) this.#text.appendData(text.slice(this.#text.length));
    const isThinking = isGrowing && !isOver;
    setText(this.label, isThinking ? "Thinking …" : `Reasoning · ${text.length.toLocaleString("en")} characters`);
    if (!this.#byHand && this.element.open !== isThinking) this.element.open = isThinking;
    return true;
  }
}

class ToolView {
  #part = null;

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
    this.details.addEventListener("toggle", () => this.#drawValues());
  }

  draw(part) {
    this.#part = part;
    this.details.dataset.state = part.state;
    setText(this.name, part.name || "a tool");
    setText(this.gist, part.error ?? gist(part.input ?? part.args));
    setText(this.state, toolState(part));
    this.#drawValues();
    return true;
  }

  #drawValues() {
    if (!this.details.open || this.#part === null) return;
    const { input, args, question, error, output } = this.#part;
    setText(this.input, readable(input ?? args));
    const isPaused = question !== null;
    setText(this.label, error ? "Error" : isPaused ? "Question" : "Result");
    setText(this.output, error ?? readable(isPaused ? question : output));
    this.label.hidden = this.output.textContent === "";
  }
}

// A call that another node ran.
class CalledView {
  constructor({ name }) {
    this.element = make("p", "called", `calls ${name}`);
  }

  draw() {
    return true;
  }
}

class BlockView {
  constructor({ block }) {
    this.element = make("div", "media");
    this.element.append(mediaElement(block));
  }

  draw() {
    return true;
  }
}

const VIEWS = { token: TextView, thinking: ThinkingView, tool: ToolView, called: CalledView, block: BlockView };

function toolState({ state, duration }) {
  if (state === "interrupted") return "waits for an answer";
  if (duration === null) return state;
  return `${state === "complete" ? "✓" : state} ${seconds(duration)}`;
}
