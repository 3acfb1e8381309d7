// Reads lists of updates from stdin as JSON, and prints the texts of the messages that each of them makes.
import { readFileSync } from "node:fs";

import { TextAssembly } from "../../lg_streaming/static/lg-streaming.js";

const lists = JSON.parse(readFileSync(0, "utf8"));
const made = lists.map((updates) => {
  const assembly = new TextAssembly();
  updates.forEach((update) => assembly.add(update));
  return Object.fromEntries(assembly.messages.map(({ id, text, thinking }) => [id, [text, thinking]]));
});
console.log(JSON.stringify(made));
