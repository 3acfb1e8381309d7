// State of a run, folded from the updates of its execution into nodes.
// No DOM. The same updates always give the same state.

const FINAL_STATES = {
  workflow_complete: "complete",
  workflow_error: "failed",
  workflow_cancelled: "cancelled",
  workflow_abandoned: "abandoned",
};

const NODE_STATES = {
  node_complete: "complete",
  node_error: "failed",
  node_interrupted: "interrupted",
  node_cached: "cached",
};

const TOOL_STATES = {
  tool_complete: "complete",
  tool_error: "failed",
  tool_interrupted: "interrupted",
};

const STATUSES = { queued: "queued", paused: "paused", running: "running", resumed: "running" };
const HALTED = ["queued", "paused", "interrupted"];

const MISSED = {
  evicted: "are no longer kept by the server",
  epoch_changed: "belong to a log that the server no longer has",
  future_position: "are not known to the server",
};

export class Run {
  constructor() {
    this.reset();
  }

  reset() {
    this.state = "waiting";
    this.error = null;
    this.title = null; // the first question
    this.graph = null;
    this.updates = 0;
    this.tokens = 0;
    this.startedAt = null;
    this.newestAt = null;
    this.firstTokenAt = null;
    this.endedAt = null;
    this.overall = null;
    this.place = null; // in the queue
    this.prompts = []; // questions to a human, oldest first
    this.rows = []; // rows of the page, top to bottom: {kind: "nodes", nodes}, {kind: "prompt", prompt} or {kind: "gap", text}
    this.position = null; // {epoch, seq} of the last applied update
    this.current = new Map(); // key -> the newest node of that key
  }

  // All nodes, each before its inner nodes.
  get nodes() {
    return nodesIn(this.rows);
  }

  get openPrompts() {
    return this.prompts.filter(({ state }) => state === "open");
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
    const which = from === undefined || from === null ? "Some updates"
      : to === null || to === undefined ? `The updates from ${from} on`
      : to === from ? `Update ${from}` : `The updates ${from} to ${to}`;
    const why = MISSED[reason] ?? "could not be had";
    this.rows.push({ kind: "gap", text: `${which} ${why}. What they held is missing here.` });
  }

  #nextRun() {
    const position = this.position;
    this.reset();
    this.position = position;
  }

  #dispatch(update, at) {
    const { type, data } = update;
    if (type in FINAL_STATES) return this.#finish(type, data, at);
    if (type === "workflow_start") return this.#begin(data);
    if (type === "workflow_interrupted") return this.#interrupt(data);
    if (type === "workflow_progress") {
      this.overall = { ...data, at };
      return undefined;
    }
    if (type === "human_prompt") return this.#ask(data);
    if (type === "human_response") return this.#answer(data, at);
    if (type === "status" && update.metadata.node_id === undefined) {
      if (Object.hasOwn(STATUSES, data?.status)) this.#enter(STATUSES[data.status], data.place);
      return undefined;
    }
    if (type === "node_start") return this.#start(update, at);
    const isText = type === "token" || type === "thinking";
    if (update.metadata.node_id === undefined && !isText && type !== "llm_error") return undefined;
    const known = this.#nodeAt(update.metadata);
    const { attempt = known?.attempt } = update.metadata;
    if (known && attempt < known.attempt) return undefined; // of an earlier attempt
    if (known && attempt > known.attempt) beginAgain(known, attempt, at);
    if (type === "llm_error") return this.#takeBack(known, messageIdOf(data, update.metadata));
    const node = known && type !== "node_cached" ? known : this.#add(update, at);
    return this.#inNode(update, node, at);
  }

  #begin(data) {
    this.title = data?.title ?? data?.metadata?.title ?? null;
    this.graph = data?.graph ?? data?.name ?? null;
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
    const prompt = {
      number: this.prompts.length + 1, id: data.prompt_id, text: data.prompt, type: data.type, choices: data.choices ?? null, node: data.node_id ?? null,
      schema: data.schema ?? null, required: data.required !== false, value: data.value ?? null, error: data.error ?? null,
      expiresAt: data.expires_at === undefined ? null : data.expires_at * 1000, fallback: data.default,
      pauses: false, state: "open", answer: null, by: null, timedOut: false, answeredAt: null,
    };
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
    this.error = this.state === "failed" ? messageOf(data) : null;
    for (const node of this.nodes) {
      if (node.state === "running") end(node, this.state === "complete" ? "complete" : this.state, at);
    }
  }

  #start(update, at) {
    if (HALTED.includes(this.state)) this.#enter("running");
    const { namespace, attempt = 1 } = update.metadata;
    const known = this.current.get(keyOf(update.metadata));
    if (known?.state !== "interrupted") this.#dropInside(namespace);
    if (known && attempt > known.attempt) return beginAgain(known, attempt, at);
    return this.#add(update, at);
  }

  // Drops the inner nodes of a node that begins anew.
  #dropInside(namespace) {
    if (!namespace) return;
    for (const node of this.nodes.filter(({ key }) => isBelow(key, namespace))) {
      for (const row of node.siblings) if (row.nodes) row.nodes = row.nodes.filter((one) => one !== node);
      if (this.current.get(node.key) === node) this.current.delete(node.key);
    }
  }

  // Drops the text of a failed model call, in its node, or else in any node.
  #takeBack(known, message) {
    if (message === undefined || (known && takeBack(known, message))) return;
    for (const node of this.current.values()) takeBack(node, message);
  }

  #add({ metadata, data }, at) {
    const id = metadata.node_id ?? "";
    const key = keyOf(metadata);
    const outer = this.#around(key).findLast(Boolean);
    const called = metadata.tool_call_id;
    const call = called && outer?.parts.find((part) => part.kind === "tool" && part.id === called);
    const siblings = (call || outer || this).rows;
    const path = pathOf(metadata, outer, call);
    const isSame = (one) => one.id === id && one.path.join("/") === path.join("/");
    const among = () => siblings.flatMap(({ nodes = [] }) => nodes).filter(isSame);
    const node = {
      alone: () => among().length === 1, key, id, name: data?.node_name ?? (id || "run"), path, siblings,
      agent: metadata.agent_type, number: among().length + 1, attempt: metadata.attempt ?? 1, rows: [],
      resumes: 0, // attempts that went on after an answer
      ...blank(at),
    };
    const isBeside = (one) => isSame(one) && one.state === "running";
    const beside = siblings.find(({ nodes = [] }) => nodes.some(isBeside));
    this.current.set(key, node);
    if (beside) beside.nodes.push(node);
    else siblings.push({ kind: "nodes", nodes: [node] });
    return node;
  }

  #inNode({ type, data, metadata }, node, at) {
    if (type === "token" || type === "thinking") return this.#token(type, data, metadata, node, at);
    if (type in NODE_STATES) {
      end(node, isCancel(data) ? "cancelled" : NODE_STATES[type], at, data?.duration_s);
      node.error = node.state === "failed" ? messageOf(data) : null;
    } else if (type === "progress") {
      if (data.progress !== undefined) node.progress = { ...node.progress, eta_s: null, text: null, ...data, at };
    } else if (type === "milestone") {
      node.milestones.push(data.milestone);
    } else if (type === "status") {
      node.status = data?.text ?? data?.message ?? data?.status ?? null;
    } else if (type.startsWith("tool_")) {
      tool(type, data ?? {}, metadata, node, at);
    }
    return undefined;
  }

  #token(type, data, metadata, node, at) {
    const message = messageIdOf(data, metadata) ?? "";
    let part = node.parts.find((one) => one.kind === type && one.message === message);
    if (!part) {
      part = { kind: type, message, text: "" };
      node.parts.push(part);
    }
    part.text += data.content;
    this.tokens += data.batch_size ?? 1;
    this.firstTokenAt ??= at;
  }
}

function keyOf(metadata) {
  return metadata.namespace || metadata.node_id || "";
}

function messageIdOf(data, metadata) {
  return data?.message_id ?? metadata.message_id;
}

// Copied from lg-streaming.js, which this file does not import.
function nodePath(namespace) {
  const names = namespace.split(/[|/]/).filter((part) => !/^\d+$/.test(part)).map((part) => part.split(":", 1)[0]);
  return names.filter((name) => name !== "").join("/");
}

function isBelow(key, namespace) {
  return key.startsWith(namespace) && /^[|/]/.test(key.slice(namespace.length));
}

function nodesIn(rows) {
  return rows.flatMap(({ nodes = [] }) => nodes.flatMap((node) => {
    const calls = node.parts.flatMap((part) => part.rows ?? []);
    return [node, ...nodesIn(calls), ...nodesIn(node.rows)];
  }));
}

// Returns the hidden enclosing nodes of a node, and its agent unless an enclosing label shows it.
function pathOf({ namespace, node_id: id, agent_type: agent }, outer, call) {
  const names = namespace ? nodePath(namespace).split("/").slice(0, -1) : [];
  const around = outer ? names.slice(nodePath(outer.key).split("/").length) : names;
  return !agent || [...around, id, outer?.agent, outer?.name, outer?.id, call?.name].includes(agent) ? around : [...around, agent];
}

// Begins a new attempt: retracts the text. Inner nodes stay, with their calls.
function beginAgain(node, attempt, at) {
  const parts = node.parts.filter((part) => part.kind === "tool" && nodesIn(part.rows).length > 0);
  const resumes = node.resumes + (node.state === "interrupted" ? 1 : 0);
  return Object.assign(node, blank(at), { attempt, parts, resumes });
}

// Drops the parts of a message; returns whether there were any. A tool that was called stays.
function takeBack(node, message) {
  const kept = node.parts.filter((part) => part.message !== message || (part.kind === "tool" && part.state !== "asked"));
  const isChanged = kept.length < node.parts.length;
  if (isChanged) node.parts = kept;
  return isChanged;
}

// The prompts of an interruption; of an older server, its interrupts.
function promptsOf(data) {
  if (Array.isArray(data?.prompts) && data.prompts.length > 0) return data.prompts;
  const interrupts = Array.isArray(data?.interrupts) ? data.interrupts : [];
  return interrupts.map((one) => ({ prompt_id: one?.id, prompt: textOf(one?.value ?? one), type: "input" }));
}

function questionsOf(data) {
  const interrupts = Array.isArray(data?.interrupts) ? data.interrupts : [];
  return interrupts.map((one) => textOf(one?.value ?? one));
}

// The text of a `human_prompt` in a node; any other question unchanged.
function textOf(question) {
  return question?.human_prompt === undefined ? question : (question.prompt ?? question);
}

function blank(at) {
  return {
    state: "running", startedAt: at, endedAt: null, duration: null, error: null, status: null,
    progress: null, milestones: [], parts: [],
  };
}

function end(node, state, at, duration) {
  node.state = state;
  node.endedAt = at;
  node.duration = duration ?? (at - node.startedAt) / 1000;
}

function tool(type, data, metadata, node, at) {
  const part = findTool(type, data, metadata, node) ?? addTool(data, metadata, node, at);
  if (data.tool) part.name = data.tool;
  if (type === "tool_args") return addArguments(part, data);
  if (data.input !== undefined) part.input = data.input;
  if (data.output !== undefined) part.output = data.output;
  if (type === "tool_start") {
    part.state = "running";
    part.startedAt = at;
    part.question = null;
  } else if (type in TOOL_STATES) {
    part.state = isCancel(data) ? "cancelled" : TOOL_STATES[type];
    const questions = questionsOf(data);
    part.question = questions.length > 1 ? questions : (questions[0] ?? null);
    part.duration = data.duration_s ?? (at - part.startedAt) / 1000;
    part.error = part.state === "failed" ? messageOf(data) : null;
  }
  return undefined;
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

function addTool(data, metadata, node, at) {
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

// Returns whether a node or a tool ended with a cancel. An error of the program has a type.
function isCancel(data) {
  return data?.error?.code === "cancelled" && data.error.type === undefined;
}

function messageOf(data) {
  const error = data?.error ?? data?.message ?? "failed";
  return typeof error === "string" ? error : error.message ?? JSON.stringify(error);
}
