// Elements and texts of the page. Text is inserted as text, never as markup, and without hidden codes.

// Control codes, separators of lines, and codes that reorder bidirectional text: with them a text can look like another.
const HIDDEN = /[\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u206f\ufff9-\ufffb]/g;

// Returns a text, or another value as JSON, with each hidden code as its escape, such as \x1b or \u202e. Carriage returns are dropped.
export function plain(text) {
  const value = typeof text === "object" ? readable(text) : String(text ?? "");
  return value.search(HIDDEN) < 0 ? value : value.replaceAll("\r", "").replace(HIDDEN, escaped);
}

function escaped(code) {
  const number = code.charCodeAt(0);
  return number < 0x100 ? `\\x${number.toString(16).padStart(2, "0")}` : `\\u${number.toString(16).padStart(4, "0")}`;
}

export function make(tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = plain(text);
  return element;
}

export function setText(element, text) {
  const shown = plain(text);
  if (element.textContent !== shown) element.textContent = shown;
}

// Shows several texts in one line. Each is isolated: the direction of one does not reorder the others.
export function setParts(element, parts, between = " · ") {
  if (element.dataset.parts === JSON.stringify(parts)) return;
  element.dataset.parts = JSON.stringify(parts);
  element.replaceChildren(...parts.flatMap((part, index) => [...(index > 0 ? [between] : []), make("bdi", "", part)]));
  element.hidden = parts.length === 0;
}

// Shows an element with a text; without one, hides it.
export function showText(element, text) {
  setText(element, text ?? "");
  element.hidden = !text;
}

export function seconds(value) {
  const whole = Math.round(value);
  if (whole >= 60) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${value >= 10 ? whole : value.toFixed(1)} s`;
}

export function readable(value) {
  if (value === null || value === undefined) return "";
  return typeof value === "string" ? value : JSON.stringify(value, null, 2);
}

// A value in one line: of an object, its values; of messages, the text of the last one.
export function gist(input) {
  if (input === null || typeof input !== "object") return String(input ?? "");
  return Object.values(input).map(inLine).join(", ");
}

function inLine(value) {
  const message = Array.isArray(value) ? value.at(-1) : null;
  const text = typeof message?.type === "string" ? message.content : value;
  return typeof text === "string" ? text : JSON.stringify(text);
}

// An amount in the currency of the program, with enough digits for small ones.
export function money(amount) {
  const digits = amount === 0 || Math.abs(amount) >= 1 ? 2 : Math.min(6, 2 - Math.floor(Math.log10(Math.abs(amount))));
  return amount.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits });
}
