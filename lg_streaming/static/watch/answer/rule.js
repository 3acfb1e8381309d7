// Which text of a run is its answer.
//
// While it runs: the last message of the newest top-level node that writes. Messages that call tools are none, nor what
// a tool's own agent writes, nor what parallel branches write. A text far shorter than an earlier one is a remark about
// it, such as a verdict, and no answer. At the end the run's result decides: a text, or the last of its messages. Of a
// state without messages, the same rule applies to the texts in it that nodes wrote.

const REMARK = 0.25; // share of the longest text below which a later one is a remark

// Returns {text, node, part, isFinal}; null without an answer. The node is null if no node streamed the text.
export function answerOf(run) {
  const written = run.texts.filter((one) => isForTheUser(one, run));
  if (run.state === "complete") {
    const text = textOf(run.result);
    const texts = text === null ? valuesOf(run.result) : [text];
    const found = newestOf(written.filter(({ part }) => texts.includes(part.text.trim())));
    if (found !== null) return { ...found, text: found.part.text, isFinal: true };
    if (text !== null) return { text, node: null, part: null, isFinal: true };
  }
  const newest = newestOf(written.filter(({ node }) => rootOf(node).row.nodes.length === 1));
  return newest === null ? null : { ...newest, text: newest.part.text, isFinal: run.endedAt !== null };
}

function isForTheUser({ node, part }, { callers }) {
  if (node.isGone || !node.parts.includes(part) || callers.has(part.message) || part.text.trim() === "") return false;
  if (part.role !== null && !["ai", "assistant", "AIMessageChunk"].includes(part.role)) return false;
  for (let one = node; one !== null; one = one.outer) if (one.call !== null || one.isGone) return false;
  return true;
}

function rootOf(node) {
  return node.outer === null ? node : rootOf(node.outer);
}

function newestOf(written) {
  const enough = REMARK * written.reduce((most, { part }) => Math.max(most, part.text.length), 0);
  let newest = null;
  for (const one of written) {
    if (one.part.text.length < enough) continue;
    if (newest === null || rootOf(one.node).order >= rootOf(newest.node).order) newest = one;
  }
  return newest;
}

// The text of a result: itself, or the last message of a model in it.
function textOf(result) {
  if (typeof result === "string") return result.trim() || null;
  const messages = Array.isArray(result) ? result : result?.messages;
  if (!Array.isArray(messages)) return null;
  const last = messages.findLast((one) => ["ai", "assistant", "AIMessageChunk"].includes(one?.type ?? one?.role));
  return contentOf(last?.content).trim() || null;
}

function contentOf(content) {
  if (typeof content === "string") return content;
  if (!Array.isArray(content)) return "";
  return content.map((block) => (typeof block === "string" ? block : block?.type === "text" ? (block.text ?? "") : "")).join("");
}

function valuesOf(result) {
  if (result === null || typeof result !== "object") return [];
  return Object.values(result).filter((value) => typeof value === "string").map((value) => value.trim());
}
