// Elements and texts of the page. Text is inserted as text, never as markup.

export function make(tag, name = "", text = "") {
  const element = document.createElement(tag);
  if (name) element.className = name;
  if (text) element.textContent = text;
  return element;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
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

// A value in one line: of an object, its values.
export function gist(input) {
  if (input === null || typeof input !== "object") return String(input ?? "");
  return Object.values(input).map((value) => (typeof value === "string" ? value : JSON.stringify(value))).join(", ");
}

// An amount in the currency of the program, with enough digits for small ones.
export function money(amount) {
  const digits = amount === 0 || amount >= 1 ? 2 : Math.min(6, 2 - Math.floor(Math.log10(Math.abs(amount))));
  return amount.toLocaleString("en", { minimumFractionDigits: 2, maximumFractionDigits: digits });
}
