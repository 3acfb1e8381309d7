// A JSON value as a tree that folds. A branch is made when it is opened first.

import { make } from "../dom.js";

const MOST_ITEMS = 200;
const MOST_TEXT = 4_000;

// `open` is the number of levels that are open at first.
export function valueTree(value, name = "", open = 1) {
  if (value === null || typeof value !== "object") return leaf(value, name);
  const entries = Array.isArray(value) ? value.map((each, index) => [index, each]) : Object.entries(value);
  const branch = make("details", "tree-branch");
  const summary = make("summary");
  const size = Array.isArray(value) ? `[${entries.length}]` : `{${entries.length}}`;
  summary.append(...(name === "" ? [] : [make("span", "tree-name", String(name)), " "]), make("span", "tree-size", size));
  branch.append(summary);
  const fill = () => {
    if (branch.childElementCount > 1) return;
    const inside = make("div", "tree-inside");
    inside.append(...entries.slice(0, MOST_ITEMS).map(([key, each]) => valueTree(each, key, open - 1)));
    if (entries.length > MOST_ITEMS) inside.append(make("p", "tree-more", `and ${entries.length - MOST_ITEMS} more`));
    branch.append(inside);
  };
  branch.addEventListener("toggle", () => branch.open && fill());
  if (open > 0) {
    branch.open = true;
    fill();
  }
  return branch;
}

function leaf(value, name) {
  const line = make("div", "tree-leaf");
  if (name !== "") line.append(make("span", "tree-name", String(name)), " ");
  line.append(shortValue(value));
  return line;
}

// A value in one place: the text of a leaf, the JSON of a branch.
export function shortValue(value) {
  const kind = value === null ? "null" : typeof value;
  const text = kind === "string" ? JSON.stringify(value) : kind === "object" ? JSON.stringify(value, null, 2) : String(value);
  const shown = make("span", `tree-value ${kind}`, text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)} …` : text);
  shown.dir = "auto";
  return shown;
}
