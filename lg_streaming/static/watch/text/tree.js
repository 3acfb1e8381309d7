// Trees of elements and texts, and their DOM. A tree is a list of texts and of {tag, attributes, children}.

import { plain } from "../dom.js";

export function branch(tag, attributes, children) {
  return { tag, attributes, children };
}

// Adds to a list of children; neighbouring texts become one.
export function join(children, child) {
  if (child === "") return;
  const last = children.length - 1;
  if (typeof child === "string" && typeof children[last] === "string") children[last] += child;
  else children.push(child);
}

export function plainText(children) {
  return children.map((child) => (typeof child === "string" ? child : plainText(child.children))).join("");
}

// Changes the children of an element, which show `before` from index `from` on, to `after`. What is the same is not touched.
export function patch(element, before, after, from = 0) {
  let same = 0;
  while (same < before.length && same < after.length && isSame(before[same], after[same])) same += 1;
  const old = [...element.childNodes].slice(from + same);
  old.slice(after.length - same).forEach((node) => node.remove());
  after.slice(same).forEach((next, index) => {
    const known = before[same + index];
    const node = old[index];
    if (known === undefined) element.append(made(next));
    else if (typeof known === "string" && typeof next === "string") node.data = plain(next);
    else if (known.tag !== undefined && known.tag === next.tag) {
      setAttributes(node, known.attributes, next.attributes);
      patch(node, known.children, next.children);
    } else node.replaceWith(made(next));
  });
}

function made(next) {
  if (typeof next === "string") return document.createTextNode(plain(next));
  const element = document.createElement(next.tag);
  setAttributes(element, {}, next.attributes);
  element.append(...next.children.map(made));
  return element;
}

function setAttributes(element, before, after) {
  for (const name of Object.keys(before)) if (!(name in after)) element.removeAttribute(name);
  for (const [name, value] of Object.entries(after)) if (before[name] !== value) element.setAttribute(name, value);
}

function isSame(one, other) {
  if (typeof one === "string" || typeof other === "string") return one === other;
  const names = Object.keys(one.attributes);
  return one.tag === other.tag && one.children.length === other.children.length
    && names.length === Object.keys(other.attributes).length
    && names.every((name) => one.attributes[name] === other.attributes[name])
    && one.children.every((child, index) => isSame(child, other.children[index]));
}
