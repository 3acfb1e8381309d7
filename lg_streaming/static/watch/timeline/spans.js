// Spans of a run, folded from its updates: nodes, model calls, tools, and waiting, as a tree. No DOM. The same updates
// always give the same spans.
//
// A span is open while `endedAt` is null. Its segments are the times at work: a node that is retried, or goes on after an
// answer, has several. When the run ends, all spans end. A child lies within its parent, unless it is detached: its node
// had ended before.

import { nodePath } from "../../lg-streaming.js";

const FINAL_STATES = {
  __proto__: null,
  workflow_complete: "complete",
  workflow_error: "failed",
  workflow_cancelled: "cancelled",
  workflow_abandoned: "abandoned",
};
const NODE_ENDS = { __proto__: null, node_complete: "complete", node_error: "failed", node_interrupted: "interrupted" };
const MODEL_TYPES = ["llm_start", "llm_complete", "llm_error"];
const TOOL_ENDS = { __proto__: null, tool_complete: "complete", tool_error: "failed", tool_interrupted: "interrupted" };
const WAITS = { __proto__: null, queued: "In the queue", paused: "Paused" };
const PIECES = ["token", "thinking", "tool_args"];

export class Spans {
  constructor() {
    this.#reset();
  }

  #reset() {
    this.root = null; // span of the run
    this.nodes = []; // spans of nodes, in the order of their start
    this.byPath = new Map(); // node path -> spans of that node
    this.count = 0;
    this.idle = []; // {from, to}: times in which the run only waits
    this.newestAt = null;
    this.#spent = { model: 0, tool: 0, node: 0, wait: 0, none: 0 };
    this.#active = { model: 0, tool: 0, node: 0, wait: 0 };
    this.#current = new Map();
    this.#calls = new Map();
    this.#waits = new Map();
    this.#levels = new Map();
    this.#open = new Set();
  }

  #spent; // milliseconds of each kind
  #active; // number of open segments of each kind
  #current; // key -> the newest span of that node
  #calls; // "node key, id of the message or tool call" -> the newest span
  #waits; // id of a prompt, or the kind of a wait -> the open span
  #levels; // key of the enclosing node -> {step, open}: LangGraph's step there, and its spans

  #open; // all open spans

  // Number of steps of the graph itself.
  get steps() {
    return this.#levels.get("")?.step ?? 0;
  }

  // Milliseconds since the start, by what was at work: models, else tools, else nodes; else the run waited, or no node
  // ran. What runs in parallel counts once, so that the sum is the duration.
  totals(now) {
    const totals = { ...this.#spent };
    if (this.root !== null && this.root.endedAt === null) totals[this.#kind()] += Math.max(0, now - this.newestAt);
    return totals;
  }

  // The times of waiting, also the present one.
  idleUntil(now) {
    if (this.root === null || this.root.endedAt !== null || !["wait", "none"].includes(this.#kind())) return this.idle;
    const last = this.idle.at(-1);
    if (last?.to === this.newestAt) return [...this.idle.slice(0, -1), { from: last.from, to: Math.max(last.to, now) }];
    return [...this.idle, { from: this.newestAt, to: Math.max(this.newestAt, now) }];
  }

  apply(update, at = Date.parse(update.metadata.timestamp)) {
    const { type, data } = update;
    const isOver = this.root !== null && this.root.endedAt !== null;
    if (isOver && type !== "workflow_start") return;
    if (isOver) this.#reset();
    this.#advance(Math.max(at, this.newestAt ?? at));
    this.root ??= this.#begin({ kind: "run", name: "Run", parent: null });
    if (type in FINAL_STATES) this.#finishRun(FINAL_STATES[type]);
    else if (type === "workflow_interrupted") this.#interrupt(data ?? {});
    else if (type === "human_prompt") this.#ask(data ?? {}, update.metadata);
    else if (type === "human_response") this.#endWait(data?.prompt_id, "answered", data?.responded_by);
    else if (update.metadata.node_id !== undefined || update.metadata.namespace !== undefined) this.#inNode(update);
    else if (type === "status") this.#status(data?.status);
  }

  // Ends what is open, also what runs detached.
  #finishRun(state) {
    this.#end(this.root, state);
    for (const span of this.#open) this.#end(span, restOf(span, state));
  }

  #advance(at) {
    if (this.newestAt !== null && at > this.newestAt) {
      const kind = this.#kind();
      this.#spent[kind] += at - this.newestAt;
      if (kind === "wait" || kind === "none") {
        const last = this.idle.at(-1);
        if (last?.to === this.newestAt) last.to = at;
        else this.idle.push({ from: this.newestAt, to: at });
      }
    }
    this.newestAt = at;
  }

  #kind() {
    return ["model", "tool", "node", "wait"].find((kind) => this.#active[kind] > 0) ?? "none";
  }

  #begin(fields) {
    const { parent } = fields;
    this.count += 1;
    const span = {
      id: this.count, depth: parent ? parent.depth + 1 : 0, state: "running", startedAt: this.newestAt, endedAt: null,
      segments: [], children: [], attempt: 1, firstTokenAt: null, usage: null, error: null,
      isDetached: parent !== null && parent.endedAt !== null, ...fields,
    };
    parent?.children.push(span);
    this.#enter(span);
    return span;
  }

  // Begins a segment.
  #enter(span) {
    span.state = "running";
    span.endedAt = null;
    this.#open.add(span);
    span.segments.push({ startedAt: this.newestAt, endedAt: null, state: "running" });
    if (span.kind in this.#active) this.#active[span.kind] += 1;
    if (span.parent && span.parent.endedAt !== null) span.isDetached = true;
  }

  // Ends the segment: the span itself goes on.
  #leave(span, state) {
    const segment = span.segments.at(-1);
    span.state = state;
    if (segment.endedAt !== null) return;
    segment.endedAt = this.newestAt;
    segment.state = state;
    if (span.kind in this.#active) this.#active[span.kind] -= 1;
  }

  #end(span, state) {
    for (const child of span.children) if (child.endedAt === null) this.#end(child, restOf(child, state));
    if (span.endedAt !== null) return;
    this.#leave(span, state);
    span.endedAt = this.newestAt;
    this.#open.delete(span);
    if (span.kind === "wait") this.#waits.delete(span.waitId);
  }

  // Notes an interruption of a span and of those inside it, which go on after the answer.
  #halt(span) {
    for (const child of span.children) if (child.endedAt === null && child.kind !== "wait") this.#halt(child);
    this.#leave(span, "interrupted");
  }

  #status(status) {
    if (status in WAITS) this.#wait(status, { name: WAITS[status] });
    else if (status === "running" || status === "resumed") this.#continue();
  }

  // A run that goes on waits for nothing.
  #continue() {
    for (const span of [...this.#waits.values()]) if (span.pauses) this.#end(span, "closed");
  }

  #interrupt(data) {
    for (const prompt of data.prompts ?? []) this.#ask(prompt, prompt).pauses = true;
    if (data.paused) this.#wait("paused", { name: WAITS.paused });
    else if (this.#waits.size === 0) this.#wait("interrupted", { name: "Interrupted" });
  }

  #wait(id, fields) {
    const known = this.#waits.get(id);
    if (known) return known;
    const span = this.#begin({ kind: "wait", parent: this.root, pauses: true, waitId: id, ...fields });
    this.#waits.set(id, span);
    return span;
  }

  #ask({ prompt_id: id, namespace, node_id: node, tool_call_id: call, prompt }, metadata) {
    const around = this.#around({ namespace: namespace ?? metadata.namespace, node_id: node ?? metadata.node_id }, call);
    return this.#wait(id ?? "prompt", { name: "Waits for a person", question: prompt, parent: around, pauses: false });
  }

  #endWait(id, state, by) {
    const span = this.#waits.get(id ?? "prompt");
    if (!span) return;
    if (by) span.by = by;
    this.#end(span, state);
  }

  // The span in which something with this metadata happens: a call of a tool, a node, or the run.
  #around(metadata, call = metadata.tool_call_id) {
    const node = this.#nodeAt(metadata) ?? this.root;
    return (call && this.#calls.get(`${node.key}\n${call}`)) || node;
  }

  // Nodes of a nested graph that is not captured count as part of their caller.
  #nodeAt(metadata) {
    const key = keyOf(metadata);
    return this.#current.get(key) ?? enclosing(key).map((outer) => this.#current.get(outer)).find((span) => span && span.nodeId === metadata.node_id);
  }

  #inNode({ type, data, metadata }) {
    if (type === "node_start") return this.#startNode(data ?? {}, metadata);
    let node = this.#nodeAt(metadata);
    if (type === "node_cached" || !node) node = this.#addNode(data ?? {}, metadata);
    else if (metadata.attempt < node.attempt) return undefined; // of an earlier attempt
    if (type === "node_cached") return this.#end(node, "cached");
    if (type in NODE_ENDS) return this.#endNode(node, type, data ?? {});
    if (MODEL_TYPES.includes(type)) return this.#model(node, type, data ?? {}, metadata);
    if (PIECES.includes(type)) return this.#piece(node, data ?? {}, metadata);
    if (type === "tool_start" || type in TOOL_ENDS) return this.#tool(node, type, data ?? {}, metadata);
    return undefined;
  }

  #startNode(data, metadata) {
    for (const id of ["queued", "paused", "interrupted"]) this.#endWait(id, "closed");
    const known = this.#current.get(keyOf(metadata));
    const { attempt = 1 } = metadata;
    if (!known || known.endedAt !== null || attempt <= known.attempt) {
      if (known) this.#end(known, "complete");
      return this.#addNode(data, metadata);
    }
    if (known.state === "running") this.#leave(known, "failed");
    known.attempt = attempt;
    return this.#enter(known);
  }

  #addNode(data, metadata) {
    const key = keyOf(metadata);
    const { node_id: id = "", attempt = 1, agent_type: agent, tool_call_id: call } = metadata;
    const outer = enclosing(key).map((one) => this.#current.get(one)).find(Boolean) ?? null;
    const parent = (outer && call && this.#calls.get(`${outer.key}\n${call}`)) || outer || this.root;
    const names = metadata.namespace ? nodePath(metadata.namespace).split("/") : [id];
    const path = names.join("/");
    if (!this.byPath.has(path)) this.byPath.set(path, []);
    const same = this.byPath.get(path);
    const node = this.#begin({
      kind: "node", name: data.node_name ?? (id || "run"), nodeId: id, key, names, path, agent, attempt, parent, number: same.length + 1,
    });
    node.level = outer?.key ?? "";
    node.step = this.#stepOf(node);
    same.push(node);
    this.nodes.push(node);
    this.#current.set(key, node);
    return node;
  }

  // All nodes of a step begin before its last one has ended, so a node that begins later is of the next step.
  #stepOf(node) {
    const level = this.#levels.get(node.level) ?? { step: 0, spans: [] };
    this.#levels.set(node.level, level);
    if (level.spans.every(({ endedAt }) => endedAt !== null)) {
      level.step += 1;
      level.spans = [];
    }
    level.spans.push(node);
    return level.step;
  }

  #endNode(node, type, data) {
    const state = NODE_ENDS[type];
    if (state === "failed") node.error = messageOf(data);
    if (state === "interrupted") return this.#halt(node);
    if (!data.will_retry) return this.#finish(node, state);
    for (const child of node.children) if (child.endedAt === null) this.#end(child, "failed");
    return this.#leave(node, state);
  }

  // A span that its parent has ended may report its own end later: it ran detached from it.
  #finish(span, state) {
    if (span.endedAt === null) return this.#end(span, state);
    if (span.parent.endedAt === null) return undefined;
    span.isDetached = true;
    span.state = span.segments.at(-1).state = state;
    span.endedAt = span.segments.at(-1).endedAt = this.newestAt;
    return undefined;
  }

  #model(node, type, data, metadata) {
    const message = data.message_id ?? metadata.message_id ?? "";
    const around = this.#around(metadata);
    if (type === "llm_start") {
      const span = this.#begin({ kind: "model", name: data.model ?? "model", parent: around === this.root ? node : around });
      this.#calls.set(`${node.key}\n${message}`, span);
      node.model = span;
      return undefined;
    }
    const ids = [message, ...(data.replaces ?? [])];
    const span = ids.map((id) => this.#calls.get(`${node.key}\n${id}`)).find((one) => one?.kind === "model") ?? node.model;
    if (!span || span.endedAt !== null) return undefined;
    span.usage = data.usage ?? null;
    if (type === "llm_error") span.error = messageOf(data);
    return this.#finish(span, data.cancelled ? "cancelled" : type === "llm_error" ? "failed" : "complete");
  }

  // The first piece of a model's answer.
  #piece(node, data, metadata) {
    const span = this.#calls.get(`${node.key}\n${data.message_id ?? metadata.message_id ?? ""}`);
    const writer = span?.kind === "model" ? span : node.model?.endedAt === null ? node.model : node;
    writer.firstTokenAt ??= this.newestAt;
  }

  #tool(node, type, data, metadata) {
    const id = data.tool_call_id ?? metadata.tool_call_id;
    const key = `${node.key}\n${id ?? `tool ${data.tool}`}`;
    const known = this.#calls.get(key);
    if (type === "tool_start" && known?.kind === "tool" && known.state === "interrupted" && known.endedAt === null) return this.#enter(known);
    if (type === "tool_start") {
      this.#calls.set(key, this.#begin({ kind: "tool", name: data.tool ?? "tool", parent: node }));
      return undefined;
    }
    if (known?.kind !== "tool") return undefined;
    if (type === "tool_error") known.error = messageOf(data);
    return type === "tool_interrupted" ? this.#halt(known) : this.#finish(known, TOOL_ENDS[type]);
  }
}

// Returns the milliseconds that a span was at work.
export function workOf(span, now) {
  return span.segments.reduce((sum, { startedAt, endedAt }) => sum + Math.max(0, (endedAt ?? now) - startedAt), 0);
}

// The state of a span that ends because the one around it does.
function restOf({ kind }, state) {
  return kind === "wait" ? "closed" : state;
}

function keyOf(metadata) {
  return metadata.namespace || metadata.node_id || "";
}

// Keys of the nodes around, the innermost first.
function enclosing(key) {
  return [...key.matchAll(/[|/]/g)].map(({ index }) => key.slice(0, index)).reverse();
}

function messageOf(data) {
  const error = data?.error ?? data?.message ?? "failed";
  const message = error?.message ?? error;
  return typeof message === "string" ? message : JSON.stringify(message);
}
