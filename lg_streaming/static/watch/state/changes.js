// Differences between two JSON values, as a list of changed places. No DOM.

const MOST = 200;

// Returns {path, kind: "added" | "changed" | "removed", before, after}, at most 200; `path` is a list of names and numbers.
export function changesBetween(before, after) {
  const found = [];
  compare(before, after, [], found);
  return found.slice(0, MOST);
}

function compare(before, after, path, found) {
  if (found.length > MOST || same(before, after)) return;
  const isBoth = isBranch(before) && isBranch(after) && Array.isArray(before) === Array.isArray(after);
  if (!isBoth) {
    const kind = before === undefined ? "added" : after === undefined ? "removed" : "changed";
    found.push({ path, kind, before, after });
    return;
  }
  const names = Array.isArray(after)
    ? Array.from({ length: Math.max(before.length, after.length) }, (_, index) => index)
    : [...new Set([...Object.keys(before), ...Object.keys(after)])];
  for (const name of names) compare(before[name], after[name], [...path, name], found);
}

function isBranch(value) {
  return value !== null && typeof value === "object";
}

function same(one, other) {
  if (one === other) return true;
  if (!isBranch(one) || !isBranch(other)) return false;
  return JSON.stringify(one) === JSON.stringify(other);
}

// Text of a path: `messages[2].content`.
export function pathText(path) {
  return path.map((part, index) => (typeof part === "number" ? `[${part}]` : index === 0 ? part : `.${part}`)).join("") || "the state";
}
