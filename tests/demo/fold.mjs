// Folds the updates (and gaps) that stdin holds as a JSON list, and prints what the page knows then.
import { readFileSync } from "node:fs";

const { Run } = await import(process.argv[2]);
const run = new Run();
for (const item of JSON.parse(readFileSync(0, "utf8"))) {
  if (item.reason) run.miss(item);
  else run.apply(item);
}

const part = (one) =>
  one.kind === "tool" ? ["tool", one.name, one.state, one.input ?? one.args, one.output, one.error] : [one.kind, one.text];

const card = (node) => ({
  name: node.name,
  number: node.number,
  alone: node.alone(),
  attempt: node.attempt,
  tries: node.attempt - node.resumes,
  state: node.state,
  error: node.error,
  duration: node.duration ?? 0,
  percent: node.progress ? node.progress.progress : null,
  parts: node.parts.map(part),
  ...(node.path.length > 0 && { path: node.path }),
  ...(rows(node.rows).length > 0 && { inside: rows(node.rows) }),
});

function rows(all) {
  return all.filter(({ kind, nodes }) => kind === "nodes" && nodes.length > 0).map(({ nodes }) => nodes.map(card));
}

console.log(JSON.stringify({
  state: run.state,
  error: run.error,
  updates: run.updates,
  tokens: run.tokens,
  rows: rows(run.rows),
  place: run.place,
  prompts: run.prompts.map(({ id, text, choices, state, answer, by, timedOut }) =>
    [id, text, choices ?? [], state, answer, by, timedOut]),
  gaps: run.rows.filter((row) => row.kind === "gap").map((row) => row.text),
}));
