// Blocks of Markdown: headings, paragraphs, code, quotes, lists, tables, rules.

import { parseInline } from "./inline.js";
import { branch } from "./tree.js";
import { wordClass } from "./words.js";

const FENCE = /^( {0,3})(`{3,}|~{3,})([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})(?:[ \t]|$)/;
const RULE = /^ {0,3}([-*_])[ \t]*(?:\1[ \t]*){2,}$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])(?=[ \t]|$)/;
const TASK = /^\[([ xX])\][ \t]/;
const DEEPEST = 10; // quotes and lists inside each other; below, all is paragraphs
const MOST_COLUMNS = 64;

export function linesOf(text) {
  return text.split(/\r\n|\n|\r/).map((line) => (line.startsWith("\t") || /^ *\t/.test(line) ? untabbed(line) : line));
}

// Returns the blocks of some lines, each {at, block}: its first line and its tree. A block depends only on its own lines
// and the two after it.
export function parseBlocks(lines, depth = 0) {
  const blocks = [];
  for (let at = 0; at < lines.length; ) {
    if (isBlank(lines[at])) {
      at += 1;
      continue;
    }
    const [block, next] = blockAt(lines, at, depth);
    blocks.push({ at, block });
    at = next;
  }
  return blocks;
}

function blockAt(lines, at, depth) {
  const line = lines[at];
  if (FENCE.test(line)) return code(lines, at);
  if (HEADING.test(line)) return [heading(line), at + 1];
  if (RULE.test(line)) return [branch("hr", {}, []), at + 1];
  if (depth < DEEPEST && QUOTE.test(line)) return quote(lines, at, depth);
  if (depth < DEEPEST && ITEM.test(line)) return list(lines, at, depth);
  return isTable(lines, at) ? table(lines, at) : paragraph(lines, at, depth);
}

function beginsBlock(line, depth) {
  return FENCE.test(line) || HEADING.test(line) || RULE.test(line) || (depth < DEEPEST && (QUOTE.test(line) || ITEM.test(line)));
}

function paragraph(lines, at, depth) {
  let end = at + 1;
  while (end < lines.length && !isBlank(lines[end]) && !beginsBlock(lines[end], depth) && !isTable(lines, end)) end += 1;
  const text = lines.slice(at, end).join("\n");
  const name = wordClass(text);
  return [branch("p", { dir: "auto", ...(name && { class: name }) }, parseInline(text)), end];
}

function heading(line) {
  const level = HEADING.exec(line)[1].length;
  let text = line.trimStart().slice(level).trim();
  let end = text.length;
  while (text[end - 1] === "#") end -= 1;
  if (end === 0 || /[ \t]/.test(text[end - 1])) text = text.slice(0, end).trimEnd();
  return branch("p", { role: "heading", "aria-level": String(level), class: `heading-${level}`, dir: "auto" }, parseInline(text));
}

function code(lines, at) {
  const [, indent, fence, info] = FENCE.exec(lines[at]);
  let end = at + 1;
  const isEnd = (line) => {
    const found = FENCE.exec(line);
    return found !== null && found[2][0] === fence[0] && found[2].length >= fence.length && isBlank(found[3]);
  };
  while (end < lines.length && !isEnd(lines[end])) end += 1;
  const inside = lines.slice(at + 1, end).map((line) => line.slice(Math.min(indent.length, indentOf(line)))).join("\n");
  const label = info.trim();
  const head = [
    branch("span", {}, label === "" ? [] : [label]),
    branch("button", { type: "button", class: "copy", "data-copy": "" }, ["Copy"]),
  ];
  const body = branch("pre", { tabindex: "0", dir: "ltr", role: "region", "aria-label": `Code ${label}`.trim() }, [branch("code", {}, inside === "" ? [] : [inside])]);
  return [branch("div", { class: "code" }, [branch("div", { class: "code-head" }, head), body]), Math.min(end + 1, lines.length)];
}

function quote(lines, at, depth) {
  let end = at;
  while (end < lines.length && QUOTE.test(lines[end])) end += 1;
  const inside = lines.slice(at, end).map((line) => line.replace(QUOTE, ""));
  return [branch("blockquote", { dir: "auto" }, inner(inside, depth)), end];
}

function inner(lines, depth) {
  return parseBlocks(lines, depth + 1).map(({ block }) => block);
}

function list(lines, at, depth) {
  const kind = kindOf(lines[at]);
  const bodies = [];
  let isLoose = false;
  let next = at;
  while (next < lines.length && !RULE.test(lines[next]) && kindOf(lines[next]) === kind) {
    const body = item(lines, next, depth);
    bodies.push(body.lines);
    next = body.next;
    if (body.hasBlank || (isBlank(lines[next] ?? "x") && kindOf(lines[skipBlank(lines, next)] ?? "") === kind)) isLoose = true;
    if (isBlank(lines[next] ?? "x") && kindOf(lines[skipBlank(lines, next)] ?? "") === kind) next = skipBlank(lines, next);
  }
  const start = Number.parseInt(ITEM.exec(lines[at])[2], 10);
  const attributes = { dir: "auto", ...(!Number.isNaN(start) && start !== 1 && { start: String(start) }) };
  return [branch(Number.isNaN(start) ? "ul" : "ol", attributes, bodies.map((body) => bullet(body, isLoose, depth))), next];
}

// The lines of one item, without its indentation.
function item(lines, at, depth) {
  const marker = ITEM.exec(lines[at])[0].length;
  const width = marker + Math.max(1, Math.min(4, indentOf(lines[at].slice(marker))));
  const body = [lines[at].slice(width)];
  let hasBlank = false;
  let next = at + 1;
  while (next < lines.length) {
    const from = skipBlank(lines, next);
    const line = lines[from] ?? "";
    const isInside = indentOf(line) >= Math.min(width, 2) && !isBlank(line);
    if (from > next && !isInside) break;
    if (!isInside && beginsBlock(line, depth)) break;
    if (from > next) body.push("");
    hasBlank ||= from > next;
    body.push(line.slice(Math.min(width, indentOf(line))));
    next = from + 1;
  }
  return { lines: body, next, hasBlank };
}

function bullet(lines, isLoose, depth) {
  const task = TASK.exec(lines[0]);
  const rest = task === null ? lines : [lines[0].slice(task[0].length), ...lines.slice(1)];
  const children = inner(rest, depth).flatMap((block) => (!isLoose && block.tag === "p" && block.attributes.role === undefined ? block.children : [block]));
  if (task === null) return branch("li", {}, children);
  const isDone = task[1] !== " ";
  const box = branch("span", { class: "task", role: "img", "aria-label": isDone ? "done" : "to do" }, [isDone ? "☑" : "☐"]);
  return branch("li", { class: "task-item" }, [box, ...children]);
}

function kindOf(line) {
  const found = ITEM.exec(line);
  return found === null ? null : found[2].at(-1);
}

function isTable(lines, at) {
  if (at + 1 >= lines.length || !lines[at].includes("|") || !/^ {0,3}[|:-]/.test(lines[at + 1])) return false;
  const rules = cellsOf(lines[at + 1]);
  if (rules.length > MOST_COLUMNS || !rules.every((cell) => /^:?-+:?$/.test(cell))) return false;
  return cellsOf(lines[at]).length === rules.length && lines[at + 1].includes("|");
}

function table(lines, at) {
  const sides = cellsOf(lines[at + 1]).map((cell) => (!cell.endsWith(":") ? null : cell.startsWith(":") ? "center" : "end"));
  let end = at + 2;
  while (end < lines.length && !isBlank(lines[end]) && lines[end].includes("|")) end += 1;
  const row = (tag, line) => branch("tr", {}, cellsOf(line).map((cell, index) => {
    const side = sides[index] ? { class: `at-${sides[index]}` } : {};
    return branch(tag, { dir: "auto", ...side }, parseInline(cell));
  }));
  const rows = lines.slice(at + 2, end).map((line) => row("td", line));
  const parts = [branch("thead", {}, [row("th", lines[at])]), branch("tbody", {}, rows)];
  return [branch("div", { class: "table", tabindex: "0", role: "region", "aria-label": "Table" }, [branch("table", {}, parts)]), end];
}

function cellsOf(line) {
  const cells = [""];
  for (const [piece] of line.trim().matchAll(/\\\||\\|\||[^\\|]+/g)) {
    if (piece === "|") cells.push("");
    else cells[cells.length - 1] += piece === "\\|" ? "|" : piece;
  }
  if (cells[0].trim() === "" && cells.length > 1) cells.shift();
  if (cells.at(-1).trim() === "" && cells.length > 1) cells.pop();
  return cells.map((cell) => cell.trim());
}

function skipBlank(lines, at) {
  let next = at;
  while (next < lines.length && isBlank(lines[next])) next += 1;
  return next;
}

function isBlank(line) {
  return !/\S/.test(line);
}

function indentOf(line) {
  const at = line.search(/[^ ]/);
  return at < 0 ? line.length : at;
}

function untabbed(line) {
  const end = line.search(/[^ \t]/);
  const indent = end < 0 ? line : line.slice(0, end);
  let width = 0;
  for (const sign of indent) width += sign === "\t" ? 4 - (width % 4) : 1;
  return " ".repeat(width) + line.slice(indent.length);
}
