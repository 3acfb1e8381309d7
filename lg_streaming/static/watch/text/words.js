// Very long words. A browser lays them out slowly, unless it may break between any two letters.

const LONG = 500; // characters

// Returns the class of an element with this text.
export function wordClass(text) {
  return text.split(/\s+/).some((word) => word.length > LONG) ? "long-word" : "";
}
