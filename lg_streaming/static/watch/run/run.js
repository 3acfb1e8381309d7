// State of a run, folded from the updates of its execution into nodes.
// No DOM. The same updates always give the same state.

import { amountOf } from "./fitted.js";
import { gapText } from "./gaps.js";
import { addNote, addText, addTool, announcedIn, beginAgain, blank, end, failureOf, giveUp, isCancel, isTold, messageOf, takeBack } from "./parts.js";
import { isBelow, keyOf, messageIdOf, nodesIn, pathOf } from "./places.js";
import { promptFrom, promptsOf } from "./questions.js";

const FINAL_STATES = {
  __proto__: null, // a program may name a type `constructor`
  workflow_complete: "complete",
  workflow_error: "failed",
  workflow_cancelled: "cancelled",
  workflow_abandoned: "abandoned",
};

const NODE_STATES = {
  __proto__: null,
  node_complete: "complete",
  node_error: "failed",
  node_interrupted: "interrupted",
  node_cached: "cached",
};

const TEXTS = ["token", "thinking", "message"];
const STATUSES = { queued: "queued", paused: "paused", running: "running", resumed: "running" };
const HALTED = ["queued", "paused", "interrupted"];

export class Run {
  #followers = []; // sets of changed nodes
  #visits = new WeakMap(); // rows -> name of a node in them -> its visits

  constructor() {
    this.reset();
  }

  reset() {
    this.state = "waiting";
    this.error = null;
    this.failure = null; // {message, type?, code?, causes?, errors?, stack?}
    this.title = null; // the first question
    this.graph = null;
    this.result = undefined;
    this.updates = 0;
    this.tokens = 0;
    this.startedAt = null;
    this.newestAt = null;
    this.firstTokenAt = null;
    this.endedAt = null;
    this.overall = null;
    this.place = null; // in the queue
    this.reason = null; // of a cancellation or abandonment
    this.stillRunning = []; // ids of nodes that could not be stopped
    this.prompts = []; // questions to a human, oldest first
    this.notes = []; // logs, errors and events of no node
    this.rows = []; // rows of the page, top to bottom: {kind: "nodes", nodes}, {kind: "prompt", prompt} or {kind: "gap", text}
    this.texts = []; // {node, part} of all texts, oldest first
    this.callers = new Set(); // ids of messages that call tools
    this.position = null; // {epoch, seq} of the last applied update
    this.current = new Map(); // key -> the newest node of that key
    this.running = new Set(); // nodes at work
    this.count = 0; // of nodes, ever
    this.calls = new Map(); // id of a tool's call -> {node, part}
  }

  // All nodes, each before its inner nodes.
  get nodes() {
    return nodesIn(this.rows);
  }

  get openPrompts() {
    return this.prompts.filter(({ state }) => state === "open");
  }

  // Returns a set that gets each node that changes, from now on; at first it has all. Its reader clears it.
  follow() {
    const changed = new Set(this.nodes);
    this.#followers.push(changed);
    return changed;
  }

  // Applies one update. Returns false for a duplicate.
  apply(update) {
    const { metadata } = update;
    const { epoch, sequence_number: seq } = metadata;
    if (this.position && this.position.epoch === epoch && seq <= this.position.seq) return false;
    this.position = { epoch, seq };
    const at = Date.parse(metadata.timestamp);
    if (update.type === "workflow_start" && this.endedAt !== null) this.#nextRun();
    this.updates += 1;
    this.startedAt ??= at;
    this.newestAt = at;
    if (this.state === "waiting") this.state = "running";
    this.#dispatch(update, at);
    return true;
  }

  // Notes missing updates. A new log resets the state.
  miss({ from, to, reason }) {
    if (reason !== "evicted") this.reset();
    this.rows.push({ kind: "gap", text: gapText({ from, to, reason }) });
  }

  #nextRun() {
    const position = this.position;
    this.reset();
    this.position = position;
  }

  #touch(node) {
    for (const changed of this.#followers) changed.add(node);
  }

  #dispatch(update, at) {
    const { type, data, metadata } = update;
    if (type in FINAL_STATES) return this.#finish(type, data, at);
    if (type === "workflow_start") return this.#begin(data);
    if (type === "workflow_interrupted") return this.#interrupt(data);
    if (type === "workflow_progress") {
      if (data.progress !== undefined) this.overall = { ...data, at };
      return undefined;
    }
    if (type === "human_prompt") return this.#ask(data);
    if (type === "human_response") return this.#answer(data, at);
    if (type === "node_start") return this.#start(update, at);
    if (metadata.node_id === undefined && ![...TEXTS, "llm_error"].includes(type)) return this.#note(update, at);
    const known = this.#nodeAt(metadata);
    const { attempt = known?.attempt } = metadata;
    if (known && attempt < known.attempt) return undefined; // of an earlier attempt
    if (known && attempt > known.attempt) this.#beginAgain(known, attempt, at);
    if (type === "llm_error") return this.#takeBack(known, messageIdOf(data, metadata));
    const node = known && type !== "node_cached" ? known : this.#add(update, at);
    this.#touch(node);
    return this.#inNode(update, node, at);
  }

  #begin(data) {
    this.title = data?.title ?? data?.metadata?.title ?? null;
    this.graph = data?.graph ?? data?.name ?? null;
  }

  // What belongs to no node: the state of the run, or a note.
  #note({ type, data }, at) {
    if (type === "status" && Object.hasOwn(STATUSES, data?.status)) this.#enter(STATUSES[data.status], data.place);
    else addNote(this.notes, type, data, at);
  }

  // Returns the node of an update. Nodes of a nested graph that is not captured count as part of their caller.
  #nodeAt(metadata) {
    const key = keyOf(metadata);
    return this.current.get(key) ?? this.#around(key).findLast((node) => node && node.id === metadata.node_id);
  }

  #around(key) {
    return [...key.matchAll(/[|/]/g)].map(({ index }) => this.current.get(key.slice(0, index)));
  }

  // A run that goes on has no open prompts for which it waits.
  #enter(state, place = null) {
    if (state === "running") this.#close(({ pauses }) => pauses);
    this.state = state;
    this.place = place;
  }

  #close(fits) {
    for (const prompt of this.openPrompts) if (fits(prompt)) prompt.state = "closed";
  }

  #interrupt(data) {
    for (const prompt of promptsOf(data)) this.#ask(prompt).pauses = true;
    this.#enter(data?.paused ? "paused" : "interrupted");
  }

  // Returns the open prompt, which is added if it is new.
  #ask(data) {
    const known = this.openPrompts.find(({ id }) => id === data.prompt_id);
    if (known) return known;
    const prompt = promptFrom(data, this.prompts.length + 1);
    this.prompts.push(prompt);
    this.rows.push({ kind: "prompt", prompt });
    return prompt;
  }

  #answer(data, at) {
    const prompt = this.openPrompts.find(({ id }) => id === data.prompt_id);
    if (!prompt) return;
    const { response: answer = null, responded_by: by = null, timed_out: timedOut = false } = data;
    Object.assign(prompt, { state: "answered", answer, by, timedOut, answeredAt: at });
  }

  #finish(type, data, at) {
    this.#close(() => true);
    this.state = FINAL_STATES[type];
    this.endedAt = at;
    this.reason = data?.reason ?? null;
    this.stillRunning = data?.still_running ?? [];
    if (type === "workflow_complete" && !data?.truncated) this.result = data?.result;
    this.failure = this.state === "failed" ? failureOf(data) : null;
    this.error = this.failure === null ? null : messageOf(data);
    const nodes = this.nodes;
    // If no node reported the failure, those at work may have it.
    const stopped = this.state === "failed" && nodes.some(({ state }) => state === "failed") ? "cancelled" : this.state;
    for (const node of nodes) {
      if (node.state === "running") this.#end(node, stopped, at);
      else if (node.state === "interrupted" && this.state !== "complete") node.state = stopped;
      else if (!giveUp(node, stopped)) continue;
      giveUp(node, stopped);
      this.#touch(node);
    }
  }

  #end(node, state, at, duration) {
    this.running.delete(node);
    end(node, state, at, duration);
  }

  #start(update, at) {
    if (HALTED.includes(this.state)) this.#enter("running");
    const { namespace, attempt = 1 } = update.metadata;
    const known = this.current.get(keyOf(update.metadata));
    if (known?.state !== "interrupted") this.#dropInside(namespace);
    if (known && attempt > known.attempt) return this.#beginAgain(known, attempt, at);
    return this.#add(update, at);
  }

  #beginAgain(node, attempt, at) {
    beginAgain(node, attempt, at, (part) => nodesIn(part.rows).length > 0);
    this.running.add(node);
    this.#touch(node);
    return node;
  }

  // Drops the inner nodes of a node that begins anew.
  #dropInside(namespace) {
    if (!namespace) return;
    for (const [key, node] of this.current) {
      if (!isBelow(key, namespace)) continue;
      for (const row of node.siblings) {
        if (!row.nodes) continue;
        for (const one of row.nodes) if (isBelow(one.key, namespace)) this.#drop(one);
        row.nodes = row.nodes.filter(({ isGone }) => !isGone);
      }
      this.#drop(node);
      this.current.delete(key);
    }
  }

  #drop(node) {
    if (node.isGone) return;
    node.isGone = true;
    node.visits.count -= 1;
    this.running.delete(node);
    this.#touch(node);
  }

  // Drops the text of a failed model call, in its node, or else in any node.
  #takeBack(known, message) {
    if (message === undefined) return;
    if (known) this.#touch(known);
    if (known && takeBack(known, message)) return;
    for (const node of this.current.values()) if (takeBack(node, message)) this.#touch(node);
  }

  #add({ metadata, data }, at) {
    const id = metadata.node_id ?? "";
    const key = keyOf(metadata);
    const outer = this.#around(key).findLast(Boolean) ?? null;
    const called = metadata.tool_call_id;
    const call = (called && outer?.parts.find((part) => part.kind === "tool" && part.id === called)) || null;
    const siblings = (call ?? outer ?? this).rows;
    const path = pathOf(metadata, outer, call);
    const visits = this.#visitsOf(siblings, JSON.stringify([id, ...path]));
    visits.count += 1;
    const isSame = (one) => one.visits === visits;
    const node = {
      key, id, name: data?.node_name ?? (id || "run"), path, siblings, outer, call, visits,
      order: (this.count += 1), agent: metadata.agent_type, number: visits.count, attempt: metadata.attempt ?? 1, rows: [],
      alone: () => visits.count === 1, isGone: false, earlier: [],
      resumes: 0, // attempts that went on after an answer
      ...blank(at),
    };
    const beside = siblings.findLast(({ nodes = [] }) => nodes.some((one) => isSame(one) && one.state === "running"));
    this.current.set(key, node);
    this.running.add(node);
    node.row = beside ?? { kind: "nodes", nodes: [] };
    if (!beside) siblings.push(node.row);
    node.row.nodes.push(node);
    visits.first ??= node;
    if (visits.count === 2) this.#touch(visits.first);
    if (outer) this.#touch(outer);
    this.#touch(node);
    return node;
  }

  #visitsOf(siblings, name) {
    if (!this.#visits.has(siblings)) this.#visits.set(siblings, new Map());
    const known = this.#visits.get(siblings);
    if (!known.has(name)) known.set(name, { count: 0, first: null });
    return known.get(name);
  }

  #inNode({ type, data, metadata }, node, at) {
    if (TEXTS.includes(type)) return this.#token(type, data, metadata, node, at);
    if (type in NODE_STATES) {
      const failure = type === "node_error" ? failureOf(data) : null;
      this.#end(node, isCancel(data) ? "cancelled" : NODE_STATES[type], at, data?.duration_s);
      node.failure = node.state === "cancelled" ? null : failure;
      node.error = node.failure === null ? null : messageOf(data);
      node.willRetry = data?.will_retry === true;
      if (type === "node_complete" || type === "node_cached") node.result = data?.result;
    } else if (type === "progress") {
      if (data.progress !== undefined) node.progress = { ...node.progress, eta_s: null, text: null, ...data, at, isTold: isTold(node.progress, data) };
    } else if (type === "milestone") {
      node.milestones.push(data.milestone);
    } else if (type === "status") {
      node.status = data?.text ?? data?.message ?? data?.status ?? null;
    } else if (type === "llm_complete") {
      node.usage.input += amountOf(data.usage?.input_tokens) ?? 0;
      node.usage.output += amountOf(data.usage?.output_tokens) ?? 0;
    } else if (type.startsWith("tool_")) {
      this.#tool(type, data ?? {}, metadata, node, at);
    } else if (type === "source_documents" || type === "artifacts") {
      node[type === "artifacts" ? "artifacts" : "sources"].push(...(Array.isArray(data) ? data : [data]));
    } else {
      addNote(node.notes, type, data, at);
    }
    return undefined;
  }

  // A call that a model asked for is shown once: in the node that runs it.
  #tool(type, data, metadata, node, at) {
    const id = data.tool_call_id ?? metadata.tool_call_id;
    if (type === "tool_args" && metadata.message_id !== undefined) this.callers.add(metadata.message_id);
    const asked = id === undefined ? undefined : this.calls.get(id);
    const isElsewhere = asked !== undefined && asked.node !== node && !asked.node.isGone && asked.part.state === "asked";
    if (isElsewhere && type !== "tool_args" && announcedIn(asked.node, asked.part)) {
      this.#touch(asked.node);
      node.parts.push(asked.part);
    }
    const part = addTool(type, data, metadata, node, at);
    if (id !== undefined) this.calls.set(id, { node, part });
  }

  #token(type, data, metadata, node, at) {
    const message = messageIdOf(data, metadata) ?? "";
    const { part, isNew } = addText(node, type, message, data ?? {});
    if (isNew && part?.kind === "token") this.texts.push({ node, part });
    if (type === "message") return;
    this.tokens += data.batch_size ?? 1;
    this.firstTokenAt ??= at;
  }
}
