// Parts of a node: texts, reasoning, media, calls of tools, notes.

import { questionsOf } from "./questions.js";

const TOOL_STATES = {
  __proto__: null,
  tool_complete: "complete",
  tool_error: "failed",
  tool_interrupted: "interrupted",
};
const UNSHOWN = new Set(["values", "updates", "messages", "state", "llm_start", "usage", "metadata", "used_tools", "input_injected"]);
const MOST_NOTES = 500; // the oldest are dropped beyond

export function blank(at) {
  return {
    state: "running", startedAt: at, endedAt: null, duration: null, error: null, failure: null, willRetry: false, status: null,
    progress: null, milestones: [], parts: [], notes: [], sources: [], artifacts: [], result: undefined, usage: { input: 0, output: 0 },
  };
}

// Begins a new attempt: retracts the text. Inner nodes stay, with their calls.
export function beginAgain(node, attempt, at, hasNodes) {
  const parts = node.parts.filter((part) => part.kind === "tool" && hasNodes(part));
  const resumes = node.resumes + (node.state === "interrupted" ? 1 : 0);
  const earlier = node.failure === null ? node.earlier : [...node.earlier, { attempt: node.attempt - node.resumes, failure: node.failure }];
  return Object.assign(node, blank(at), { attempt, parts, resumes, earlier });
}

export function end(node, state, at, duration) {
  node.state = state;
  node.endedAt = at;
  node.duration = duration ?? (at - node.startedAt) / 1000;
}

// Ends the calls of tools that the end of the run leaves open; returns whether there were any.
export function giveUp(node, state) {
  const open = node.parts.filter((part) => part.kind === "tool" && ["asked", "running", "interrupted"].includes(part.state));
  for (const part of open) part.state = part.state === "asked" ? "not called" : state === "complete" ? "complete" : "cancelled";
  return open.length > 0;
}

// Drops the parts of a message; returns whether there were any. A tool that was called stays.
export function takeBack(node, message) {
  const kept = node.parts.filter((part) => part.message !== message || (part.kind === "tool" && part.state !== "asked"));
  const isChanged = kept.length < node.parts.length;
  if (isChanged) node.parts = kept;
  return isChanged;
}

// Adds a piece of a message, or a whole one; returns its part, and whether that is new.
export function addText(node, type, message, data) {
  for (const block of Array.isArray(data.blocks) ? data.blocks : []) addBlock(node, message, block);
  const content = typeof data.content === "string" ? data.content : data.content === undefined ? "" : JSON.stringify(data.content);
  if (content === "") return { part: null, isNew: false };
  const kind = type === "thinking" ? type : "token";
  const known = node.parts.findLast((one) => one.kind === kind && one.message === message && (type !== "message" || message !== ""));
  if (kind === "token") endThinking(node);
  const part = known ?? { kind, message, text: "", role: null, isOver: false };
  part.role ??= data.role ?? null;
  part.text = type === "message" ? content : part.text + content;
  if (!known) node.parts.push(part);
  return { part, isNew: !known };
}

// A model that writes, or calls a tool, has ended its reasoning.
function endThinking(node) {
  const last = node.parts.at(-1);
  if (last?.kind === "thinking") last.isOver = true;
}

// A content block that is no text: citations become sources, others are shown.
function addBlock(node, message, block) {
  const cited = block?.annotations ?? block?.citations;
  if (Array.isArray(cited)) node.sources.push(...cited);
  else node.parts.push({ kind: "block", message, block });
}

export function addNote(notes, type, data, at) {
  if (UNSHOWN.has(type) || type.startsWith("node_")) return;
  const level = type === "error" ? "error" : textOr(data?.level, null);
  const message = data?.message ?? data?.text ?? data?.status ?? (type === "custom" ? data?.data : data);
  notes.push({ type, name: type === "custom" ? textOr(data?.name, type) : type, level, message: message ?? null, at });
  if (notes.length > MOST_NOTES) notes.shift();
}

function textOr(value, other) {
  return typeof value === "string" ? value : other;
}

// Takes a call out of the node whose model asked for it. Returns whether it was there.
export function announcedIn(node, part) {
  const isThere = node.parts.includes(part);
  node.parts = node.parts.filter((one) => one !== part);
  if (isThere) node.parts.push({ kind: "called", name: part.name, message: part.message });
  return isThere;
}

export function addTool(type, data, metadata, node, at) {
  const part = findTool(type, data, metadata, node) ?? newTool(data, metadata, node, at);
  if (data.tool) part.name = data.tool;
  if (type === "tool_args") {
    addArguments(part, data);
    return part;
  }
  if (data.input !== undefined) part.input = data.input;
  if (data.output !== undefined) part.output = data.output;
  if (type === "tool_start") Object.assign(part, { state: "running", startedAt: at, question: null });
  else if (type in TOOL_STATES) {
    const questions = questionsOf(data);
    const state = isCancel(data) ? "cancelled" : TOOL_STATES[type];
    Object.assign(part, {
      state, question: questions.length > 1 ? questions : (questions[0] ?? null),
      duration: data.duration_s ?? (at - part.startedAt) / 1000, error: state === "failed" ? messageOf(data) : null,
    });
  }
  return part;
}

// Its id identifies a call. Later pieces of its arguments have no id: message and index
// identify them.
function findTool(type, data, metadata, node) {
  const id = data.tool_call_id ?? metadata.tool_call_id;
  const fits = id ? (part) => part.id === id
    : type === "tool_args" ? (part) => part.message === metadata.message_id && part.index === data.index
    : (part) => part.name === data.tool && (part.state === "asked" || part.state === "running");
  return node.parts.find((part) => part.kind === "tool" && fits(part));
}

function newTool(data, metadata, node, at) {
  endThinking(node);
  const part = {
    kind: "tool", id: data.tool_call_id ?? metadata.tool_call_id ?? null, name: data.tool ?? "", state: "asked",
    message: metadata.message_id, index: data.index, input: null, args: "", output: null, error: null, question: null, rows: [],
    startedAt: at, duration: null,
  };
  node.parts.push(part);
  return part;
}

function addArguments(part, { args }) {
  if (typeof args === "string") part.args += args;
  else if (args !== undefined) part.input = args;
}

export function messageOf(data) {
  const error = data?.error ?? data?.message ?? "failed";
  const message = error?.message ?? error;
  return typeof message === "string" ? message : JSON.stringify(message);
}

// Returns whether a node or a tool was stopped by a cancel of its run.
export function isCancel(data) {
  return data?.error?.code === "cancelled" && data.error.type === undefined;
}

// The error of an update: {message, type?, code?, causes?, errors?, stack?}.
export function failureOf(data) {
  const error = data?.error;
  if (error === null || typeof error !== "object") return { message: messageOf(data) };
  const [causes, errors] = [error.causes, error.errors].map((some) => (Array.isArray(some) ? some.filter((one) => one instanceof Object) : []));
  return { ...error, causes, errors, message: messageOf(data) };
}

// Whether a node reports progress, and not only its beginning and end.
export function isTold(known, { progress, total, text }) {
  return known?.isTold === true || (progress > 0 && progress < 100) || Number.isFinite(total) || Boolean(text);
}
