// Reads lists of updates from stdin as JSON, and prints what the module's TextAssembly and the page's Run make of each:
// lists of [node path, message id, text] and [node path, message id, thinking].
import { readFileSync } from "node:fs";

import { TextAssembly, nodePath } from "../../lg_streaming/static/lg-streaming.js";
import { Run } from "../../lg_streaming/static/watch/run/run.js";

const pathOf = (key) => nodePath(key);

function byModule(updates) {
  const assembly = new TextAssembly();
  updates.forEach((update) => assembly.add(update));
  return listed(assembly.messages.map(({ path, id, text, thinking }) => [path, id, text, thinking]));
}

function byPage(updates) {
  const run = new Run();
  updates.forEach((update) => run.apply(update));
  const parts = run.nodes.flatMap(({ key, parts: all }) => all.map((part) => [pathOf(key), part]));
  const texts = parts.filter(([, { kind }]) => kind !== "tool");
  return listed(texts.map(([path, { kind, message, text }]) =>
    kind === "token" ? [path, message, text, ""] : [path, message, "", text]));
}

function listed(messages) {
  const pick = (index) => messages.filter((one) => one[index] !== "").map((one) => [one[0], one[1], one[index]]);
  return { messages: pick(2), thinking: pick(3) };
}

const lists = JSON.parse(readFileSync(0, "utf8"));
console.log(JSON.stringify(lists.map((updates) => ({ module: byModule(updates), page: byPage(updates) }))));
