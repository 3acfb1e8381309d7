// Words for spans and times of a timeline. No DOM.

import { seconds } from "../dom.js";
import { workOf } from "./spans.js";

const KINDS = { node: "node", model: "model", tool: "tool", wait: "waiting" };
const PARTS = [
  ["model", "Models"],
  ["tool", "Tools"],
  ["wait", "Waiting"],
  ["node", "Own code"],
  ["none", "Between nodes"],
];

export function duration(milliseconds) {
  if (milliseconds < 1_000) return `${Math.round(milliseconds)} ms`;
  if (milliseconds < 3_600_000) return seconds(milliseconds / 1_000);
  const minutes = Math.round(milliseconds / 60_000);
  return `${Math.floor(minutes / 60)} h${minutes % 60 === 0 ? "" : ` ${minutes % 60} min`}`;
}

export function stateOf(span) {
  if (span.state === "interrupted") return "waits for a person";
  if (span.state === "failed" && span.endedAt === null) return "failed, tries again";
  if (span.kind === "wait" && span.endedAt === null) return "open";
  return span.state;
}

// All facts of a span.
export function describe(span, root, now) {
  const end = span.endedAt ?? now;
  const parts = span.kind === "run"
    ? [span.name, stateOf(span)]
    : [span.name, `${KINDS[span.kind]}, ${stateOf(span)}`, `starts at ${duration(span.startedAt - root.startedAt)}`];
  const work = workOf(span, now);
  parts.push(`takes ${duration(end - span.startedAt)}${span.segments.length > 1 ? `, of these ${duration(work)} at work` : ""}`);
  if (span.firstTokenAt !== null) parts.push(`first token after ${duration(span.firstTokenAt - span.startedAt)}`);
  if (span.usage) parts.push(`${count(span.usage.input_tokens)} tokens in, ${count(span.usage.output_tokens)} out`);
  if (span.segments.length > 1) parts.push(`${span.segments.length} times at work`);
  if (span.agent) parts.push(`agent ${span.agent}`);
  if (span.by) parts.push(`answered by ${span.by}`);
  if (span.isDetached) parts.push("runs detached from its node");
  if (span.error) parts.push(span.error);
  return parts;
}

// How long what was at work: [{kind, label, time, share}], without what takes no time.
export function shares(totals) {
  const sum = Math.max(1, Object.values(totals).reduce((all, time) => all + time, 0));
  return PARTS.map(([kind, label]) => ({ kind, label, time: totals[kind], share: totals[kind] / sum })).filter(({ time }) => time > 0);
}

function count(tokens) {
  return (tokens ?? 0).toLocaleString("en");
}
