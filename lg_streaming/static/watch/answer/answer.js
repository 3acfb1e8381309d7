// Card of the run's answer, on top of the page.

import { make, setText } from "../dom.js";
import { copyText } from "../text/copy.js";
import { Prose } from "../text/prose.js";

export class AnswerCard {
  #prose = new Prose();
  #node = null;
  #text = "";

  // reveal(node) shows the card of a node.
  constructor(reveal) {
    this.element = make("section", "answer");
    this.element.setAttribute("aria-labelledby", "answer-title");
    this.title = make("h2", "", "Answer");
    this.title.id = "answer-title";
    this.from = make("button", "from");
    this.from.type = "button";
    this.from.addEventListener("click", () => reveal(this.#node));
    this.copy = make("button", "button", "Copy");
    this.copy.type = "button";
    this.copy.addEventListener("click", () => copyText(this.copy, this.#text));
    this.text = make("div", "answer-text token");
    this.text.append(this.#prose.element);
    const head = make("header", "answer-head");
    head.append(this.title, this.from, this.copy);
    this.element.append(head, this.text);
    this.element.hidden = true;
  }

  draw(answer, { isPlain, isOpen }) {
    this.element.hidden = answer === null;
    if (answer === null) return;
    const { node, part, text, isFinal } = answer;
    this.#node = node;
    this.#text = text;
    setText(this.title, isFinal ? "Answer" : "Answer so far");
    setText(this.from, node === null ? "" : `from ${node.alone() ? node.name : `${node.name} #${node.number}`}`);
    this.from.hidden = node === null;
    const isGrowing = isOpen && node?.state === "running";
    this.text.classList.toggle("growing", isGrowing);
    this.text.dataset.key = node?.key ?? "";
    this.text.dataset.message = part?.message ?? "";
    this.#prose.show(text, { isPlain, isGrowing });
  }
}
