// A text that grows, as Markdown or plain. Of a text that grew only its last block is parsed again.

import { plain } from "../dom.js";
import { copyText } from "./copy.js";
import { linesOf, parseBlocks } from "./blocks.js";
import { patch } from "./tree.js";
import { wordClass } from "./words.js";

const SHORT = 20_000; // characters of a block that is drawn in every frame; a longer one waits
const PACE = 100; // characters of a longer block for which it waits one millisecond

export class Prose {
  #text = "";
  #isPlain = null;
  #settled = { characters: 0, blocks: 0 }; // what later text cannot change
  #open = []; // the blocks after these
  #waitsUntil = 0;

  constructor(name = "") {
    this.element = document.createElement("div");
    this.element.className = `prose ${name}`.trim();
    this.element.addEventListener("click", (event) => {
      const button = event.target.closest("[data-copy]");
      if (button) copyText(button, button.closest(".code").querySelector("code").textContent);
    });
  }

  // Shows a text. Returns whether it is all shown: a very long block that grows is drawn now and then.
  show(text, { isPlain = false, isGrowing = false } = {}) {
    if (text === this.#text && isPlain === this.#isPlain) return true;
    const isLonger = isPlain === this.#isPlain && text.startsWith(this.#text);
    const open = text.length - this.#settled.characters;
    const time = performance.now();
    if (isGrowing && isLonger && open > SHORT && time < this.#waitsUntil) return false;
    this.#waitsUntil = time + open / PACE;
    if (!isLonger) this.#clear(isPlain);
    this.#text = text;
    if (isPlain) this.#showPlain(text);
    else this.#showBlocks(text);
    return true;
  }

  #clear(isPlain) {
    this.#isPlain = isPlain;
    this.#settled = { characters: 0, blocks: 0 };
    this.#open = [];
    this.element.classList.toggle("plain", isPlain);
    this.element.classList.remove("long-word");
    this.element.replaceChildren();
  }

  #showPlain(text) {
    const node = this.element.firstChild ?? this.element.appendChild(new Text());
    node.appendData(plain(text.slice(this.#settled.characters)));
    this.#settled.characters = text.length;
    this.element.classList.toggle("long-word", wordClass(text) !== "");
  }

  #showBlocks(text) {
    const lines = linesOf(text.slice(this.#settled.characters));
    const blocks = parseBlocks(lines);
    patch(this.element, this.#open, blocks.map(({ block }) => block), this.#settled.blocks);
    // The last line has no end yet, and a block depends on two lines after it.
    const count = Math.max(0, blocks.findLastIndex(({ at }) => at + 2 < lines.length));
    this.#settle(text, count, blocks[count]?.at ?? 0);
    this.#open = blocks.slice(count).map(({ block }) => block);
  }

  #settle(text, count, line) {
    if (count === 0) return;
    const end = /\r\n|\n|\r/g;
    end.lastIndex = this.#settled.characters;
    for (let passed = 0; passed < line; passed += 1) end.exec(text);
    this.#settled = { characters: end.lastIndex, blocks: this.#settled.blocks + count };
  }
}
