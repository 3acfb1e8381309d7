// Inline Markdown: emphasis, code, links, images. Takes linear time.

import { image, link } from "./links.js";
import { branch, join, plainText } from "./tree.js";

const SPECIAL = /[\\*_~[\]<]|`+|!\[|\bhttps?:\/\//g;
const SPECIAL_WITHOUT_BRACKETS = /[\\*_~<]|`+|\bhttps?:\/\//g;
const ESCAPED = /[!-/:-@[-`{-~]/;
const BRACKETED = /<((?:https?:\/\/|mailto:)[^\s<>]+|[\w.+-]{1,64}@[\w.-]{1,255})>/y;
const BARE = /https?:\/\/[^\s<>"`*[\]|\\]+/y;
const TARGET = /\(\s{0,9}(?:<([^<>\n]*)>|((?:[^\s()<>[\]\\]|\([^\s()<>[\]\\]*\))*))(?:\s{1,9}(?:"([^"\n]*)"|'([^'\n]*)'))?\s{0,9}\)/y;
const SPACE = /^\s?$/;
const PUNCTUATION = /[\p{P}\p{S}]/u;
const LONGEST_RUN = 3; // more marks in a row are text
const DEEPEST = 16; // marks that wait for their end
const TAGS = { "*": [null, "em", "strong"], _: [null, "em", "strong"], "~": [null, null, "del"] };

export function parseInline(text) {
  return new Inline(text).parse();
}

class Inline {
  #text;
  #items = []; // texts, branches, and {mark} or {bracket} that may begin or end one
  #brackets = []; // indexes of the open ones in the items
  #dead = 0; // number of open brackets around a link, which can be no links
  #begun = new Set(); // marks that may have begun an emphasis
  #lastTarget; // place of the last "](": no later bracket begins a link
  #ticks = null; // length of a run of backticks -> its places, and the next to look at

  constructor(text) {
    this.#text = text;
    this.#lastTarget = text.lastIndexOf("](");
  }

  parse() {
    let at = 0;
    for (;;) {
      const special = new RegExp(at > this.#lastTarget ? SPECIAL_WITHOUT_BRACKETS : SPECIAL);
      special.lastIndex = at;
      const found = special.exec(this.#text);
      if (found === null) break;
      this.#add(this.#text.slice(at, found.index));
      at = this.#read(found[0], found.index);
    }
    this.#add(this.#text.slice(at));
    return emphasized(this.#items);
  }

  #add(item) {
    join(this.#items, item);
  }

  // Reads what begins at a place; returns its end.
  #read(mark, at) {
    if (mark[0] === "`") return this.#code(mark, at);
    if (mark === "\\") return this.#escape(at);
    if (mark === "[" || mark === "![") {
      this.#brackets.push(this.#items.length);
      this.#items.push({ bracket: mark });
      return at + mark.length;
    }
    if (mark === "]") return this.#close(at + 1);
    if (mark === "<") return this.#address(BRACKETED, at) ?? this.#plain(mark, at);
    if (mark.startsWith("http")) return this.#address(BARE, at) ?? this.#plain(mark, at);
    return this.#emphasis(mark, at);
  }

  #plain(text, at) {
    this.#add(text);
    return at + text.length;
  }

  #escape(at) {
    const next = this.#text[at + 1] ?? "";
    return ESCAPED.test(next) ? this.#plain(next, at + 1) : this.#plain("\\", at);
  }

  #code(run, at) {
    const from = at + run.length;
    const end = this.#tickAfter(run.length, from);
    if (end === undefined) return this.#plain(run, at);
    const inside = this.#text.slice(from, end).replaceAll("\n", " ");
    const isPadded = inside.startsWith(" ") && inside.endsWith(" ") && inside.trim() !== "";
    this.#items.push(branch("code", { dir: "ltr" }, [isPadded ? inside.slice(1, -1) : inside]));
    return end + run.length;
  }

  #tickAfter(length, from) {
    if (this.#ticks === null) {
      this.#ticks = new Map();
      for (const { 0: run, index } of this.#text.matchAll(/`+/g)) {
        if (!this.#ticks.has(run.length)) this.#ticks.set(run.length, { places: [], next: 0 });
        this.#ticks.get(run.length).places.push(index);
      }
    }
    const known = this.#ticks.get(length);
    if (known === undefined) return undefined; // an escaped tick began the run
    while (known.places[known.next] < from) known.next += 1;
    return known.places[known.next];
  }

  #address(pattern, at) {
    const found = new RegExp(pattern);
    found.lastIndex = at;
    const match = found.exec(this.#text);
    if (match === null) return null;
    const text = match[1] ?? trimmed(match[0]);
    const made = link(/^\w+:/.test(text) ? text : `mailto:${text}`, [text], text);
    if (made === null) return null;
    this.#items.push(made);
    return at + (match[1] === undefined ? text.length : match[0].length);
  }

  #close(at) {
    const open = this.#brackets.pop();
    const isDead = this.#brackets.length < this.#dead;
    this.#dead = Math.min(this.#dead, this.#brackets.length);
    const found = new RegExp(TARGET);
    found.lastIndex = at;
    const match = open === undefined || isDead ? null : found.exec(this.#text);
    const made = match === null ? null : this.#linkFrom(open, match);
    if (made === null) return this.#plain("]", at - 1);
    this.#items.length = open;
    this.#items.push(made);
    if (made.tag === "a") this.#dead = this.#brackets.length;
    return at + match[0].length;
  }

  #linkFrom(open, [, bracketed, bare, double, single]) {
    const target = bracketed ?? bare;
    const title = double ?? single;
    const children = withoutLinks(emphasized(this.#items.slice(open + 1)));
    const text = plainText(children);
    return this.#items[open].bracket === "![" ? image(target, text, title) : link(target, children.length > 0 ? children : [target], text, title);
  }

  #emphasis(mark, at) {
    let end = at + 1;
    while (this.#text[end] === mark) end += 1;
    const count = end - at;
    const [opens, closes] = sides(mark, this.#text[at - 1] ?? "", this.#text.slice(end, end + 2));
    if (count > LONGEST_RUN || (mark === "~" && count !== 2) || !(opens || (closes && this.#begun.has(mark)))) return this.#plain(this.#text.slice(at, end), at);
    if (opens) this.#begun.add(mark);
    this.#items.push({ mark, count, left: count, opens, closes, begins: null, ends: null });
    return end;
  }
}

// Whether a run of marks may begin, and may end, an emphasis.
function sides(mark, before, after) {
  const next = String.fromCodePoint(after.codePointAt(0) ?? 32);
  const [isSpaceBefore, isSpaceAfter] = [SPACE.test(before), SPACE.test(next)];
  const [isSignBefore, isSignAfter] = [PUNCTUATION.test(before), PUNCTUATION.test(next)];
  const left = !isSpaceAfter && (!isSignAfter || isSpaceBefore || isSignBefore);
  const right = !isSpaceBefore && (!isSignBefore || isSpaceAfter || isSignAfter);
  return mark === "_" ? [left && (!right || isSignBefore), right && (!left || isSignAfter)] : [left, right];
}

// An address in a text, without the signs that end the sentence.
function trimmed(address) {
  let end = address.length;
  let open = address.split("(").length - address.split(")").length;
  while (/[.,;:!?'_~)]/.test(address[end - 1])) {
    if (address[end - 1] === ")" && open >= 0) break;
    if (address[end - 1] === ")") open += 1;
    end -= 1;
  }
  return address.slice(0, end);
}

function withoutLinks(children) {
  return children.flatMap((child) => {
    if (typeof child === "string") return [child];
    const inner = withoutLinks(child.children);
    return child.tag === "a" ? inner : [{ ...child, children: inner }];
  });
}

// Pairs the marks of emphasis, and builds the tree.
function emphasized(items) {
  const waiting = [];
  const bottom = {}; // kind of a mark that ends -> the place below which none waits for it
  for (const item of items) if (item.mark !== undefined) pair(item, waiting, bottom);
  const levels = [{ children: [] }];
  for (const item of items) {
    const into = () => levels.at(-1).children;
    if (item.bracket !== undefined) join(into(), item.bracket);
    else if (item.mark === undefined) join(into(), item);
    else {
      for (const _ of item.ends ?? []) {
        const { tag, children } = levels.pop();
        join(into(), branch(tag, {}, children));
      }
      join(into(), item.mark.repeat(item.left));
      for (const count of item.begins ?? []) levels.push({ tag: TAGS[item.mark][count], children: [] });
    }
  }
  return levels[0].children;
}

function pair(item, waiting, bottom) {
  const kind = `${item.mark}${item.opens}${item.count % 3}`;
  while (item.closes && item.left > 0) {
    const lowest = bottom[kind] ?? 0;
    let index = waiting.length - 1;
    while (index >= lowest && !fits(waiting[index], item)) index -= 1;
    if (index < lowest) {
      bottom[kind] = waiting.length;
      break;
    }
    const opener = waiting[index];
    const count = opener.left >= 2 && item.left >= 2 ? 2 : 1;
    opener.left -= count;
    item.left -= count;
    (opener.begins ??= []).unshift(count);
    (item.ends ??= []).push(count);
    waiting.length = opener.left > 0 ? index + 1 : index;
    for (const each of Object.keys(bottom)) bottom[each] = Math.min(bottom[each], waiting.length);
  }
  if (item.opens && item.left > 0 && waiting.length < DEEPEST) waiting.push(item);
}

// Whether two runs of marks may be a pair: CommonMark's rule of three keeps `**a*b**` together.
function fits(opener, item) {
  if (opener.mark !== item.mark) return false;
  const isEither = opener.closes || item.opens;
  return !isEither || (opener.count + item.count) % 3 !== 0 || (opener.count % 3 === 0 && item.count % 3 === 0);
}
