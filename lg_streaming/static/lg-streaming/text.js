// Assembles the text of each message from updates, and arranges messages as a tree of agents and nodes.

const ENDS_OF_MESSAGES = new Set(["llm_complete", "llm_error"]);
const ENDS_OF_NODES = new Set(["node_complete", "node_error", "node_interrupted"]);
const ENDS_OF_RUNS = new Set(["workflow_complete", "workflow_error", "workflow_cancelled", "workflow_abandoned"]);

// Pieces of one text by their sequence numbers; order and repetition do not matter.
class Pieces {
  #pieces = [];
  text = "";

  // Adds a piece; returns whether the text has changed. A merged piece covers all numbers from `from` to `to`.
  add(from, to, text) {
    const last = this.#pieces.at(-1);
    if (last === undefined || from > last.to) {
      this.#pieces.push({ from, to, text });
      this.text += text;
      return true;
    }
    if (this.#pieces.some((piece) => piece.from <= from && to <= piece.to)) return false;
    const others = this.#pieces.filter((piece) => piece.to < from || to < piece.from);
    this.#pieces = [...others, { from, to, text }].sort((one, other) => one.from - other.from);
    this.text = this.#pieces.map((piece) => piece.text).join("");
    return true;
  }

  // Replaces all pieces up to `to` by `text`.
  replace(to, text) {
    this.#pieces = [{ from: 0, to, text }];
    this.text = text;
  }

  // Retracts pieces up to `number`.
  forget(number) {
    this.#pieces = this.#pieces.filter((piece) => piece.from > number);
    this.text = this.#pieces.map((piece) => piece.text).join("");
  }

  get upTo() {
    return this.#pieces.at(-1)?.to ?? 0;
  }
}

export class TextAssembly {
  #entries = new Map(); // place, visit and message id -> {message, run, space, place, visit, text, thinking}
  #places = new Map(); // place -> {visits: [{from, attempt}], startedAt, isInterrupted}
  #cleared = new Map(); // place -> the number of the start that retracted everything inside
  #voids = new Map(); // run, namespace and message id -> the number of the error that retracted it
  #epoch;
  #list = null;
  #changed = new Map(); // entry -> its message; removed messages are empty

  // All messages, oldest first. List and objects stay the same until something changes.
  get messages() {
    this.#list ??= Object.freeze([...this.#entries.values()].map(({ message }) => message));
    return this.#list;
  }

  // Applies an update of any type; returns the message that it changed, if any.
  add(update) {
    const { type, data, metadata } = update;
    if (this.#epoch !== undefined && metadata.epoch !== this.#epoch) this.clear();
    this.#epoch = metadata.epoch;
    const place = placeOf(metadata);
    if (type === "node_start") return this.#start(place, metadata);
    const visit = this.#visitOf(place, metadata);
    if (visit === null) return undefined;
    if (type === "token" || type === "thinking") return this.#piece(place, visit, type, data, metadata);
    if (type === "message") return this.#whole(place, visit, data, metadata);
    if (ENDS_OF_MESSAGES.has(type)) {
      const id = messageIdOf(data, metadata);
      if (type === "llm_error" && id !== undefined) return this.#takeBack(place, visit, id, metadata);
      return this.#complete((entry) => entry.place === place && (id === undefined || entry.messageId === id));
    }
    if (ENDS_OF_NODES.has(type)) return this.#end(place, type, metadata);
    if (ENDS_OF_RUNS.has(type)) return this.#complete((entry) => entry.run === metadata.run_id);
    return undefined;
  }

  // Marks open messages as incomplete: pieces are lost.
  miss() {
    this.#each((entry) => !entry.message.complete, (entry) => this.#show(entry, { missing: true }));
  }

  // Marks all messages as complete.
  finish() {
    this.#complete(() => true);
  }

  clear() {
    this.#remove(() => true);
    for (const known of [this.#places, this.#cleared, this.#voids]) known.clear();
    this.#epoch = undefined;
  }

  // Returns the messages that changed since the last call, each once; removed messages have no text.
  changes() {
    const changed = [...this.#changed.values()];
    this.#changed.clear();
    return changed;
  }

  toJSON() {
    const messages = [...this.#entries].map(([key, { text, thinking, ...entry }]) => ({
      key, ...entry, upTo: [text.upTo, thinking.upTo],
    }));
    const [places, cleared, voids] = [this.#places, this.#cleared, this.#voids].map((known) => [...known]);
    return { epoch: this.#epoch, places, cleared, voids, messages };
  }

  static from({ epoch, places, cleared, voids, messages }) {
    const assembly = new TextAssembly();
    assembly.#epoch = epoch;
    assembly.#places = new Map(places);
    assembly.#cleared = new Map(cleared);
    assembly.#voids = new Map(voids);
    for (const { key, upTo, message, ...rest } of messages) {
      const entry = { ...rest, message: Object.freeze(message), text: new Pieces(), thinking: new Pieces() };
      entry.text.replace(upTo[0], message.text);
      entry.thinking.replace(upTo[1], message.thinking);
      assembly.#entries.set(key, entry);
    }
    return assembly;
  }

  #at(place, { run_id: run, namespace, node_id: node }) {
    if (!this.#places.has(place)) {
      const space = namespace || node || "";
      this.#places.set(place, { run, space, visits: [{ from: 0 }], startedAt: 0, isInterrupted: false });
    }
    return this.#places.get(place);
  }

  // Returns the visit of an update's node; null for an earlier attempt. The first update of a new attempt retracts the
  // text of the earlier ones.
  #visitOf(place, metadata) {
    const { attempt, sequence_number: number } = metadata;
    const { visits } = this.#at(place, metadata);
    const index = visits.filter(({ from }) => from <= number).length - 1;
    const visit = visits[index];
    if (attempt === undefined) return index;
    if (attempt < visit.attempt) return null;
    if (attempt > visit.attempt) {
      this.#remove((entry) => entry.place === place && entry.visit === index && entry.message.attempt < attempt);
    }
    visit.attempt = attempt;
    return index;
  }

  // A node begins: text inside it is retracted, unless the node continues after an interruption.
  #start(place, metadata) {
    const { run_id: run, namespace, sequence_number: number, attempt = 1 } = metadata;
    const known = this.#at(place, metadata);
    if (number <= known.startedAt) return undefined;
    known.startedAt = number;
    if (attempt <= known.visits.at(-1).attempt) known.visits.push({ from: number, attempt });
    else this.#visitOf(place, { ...metadata, attempt });
    if (!known.isInterrupted && namespace !== undefined) {
      const isInside = (one) => one.run === run && isBelow(one.space, namespace);
      this.#cleared.set(place, number);
      this.#forget(isInside, number);
      for (const inner of [...this.#places.values()].filter(isInside)) {
        inner.visits.push({ from: number });
        inner.isInterrupted = false;
      }
    }
    known.isInterrupted = false;
    return undefined;
  }

  #end(place, type, metadata) {
    const known = this.#at(place, metadata);
    if (metadata.sequence_number > known.startedAt) known.isInterrupted = type === "node_interrupted";
    return this.#complete((entry) => entry.place === place);
  }

  // Retracts the text of a failed model call.
  #takeBack(place, visit, id, { run_id: run, sequence_number: number }) {
    const all = [...this.#entries.values()].filter((entry) => entry.run === run && entry.messageId === id);
    const here = all.filter((entry) => entry.place === place && entry.visit === visit);
    const gone = here.length > 0 ? here : all;
    this.#voids.set(JSON.stringify([here.length > 0 ? place : run ?? null, id]), number);
    const shown = gone.at(-1);
    this.#forget((entry) => gone.includes(entry), number);
    return shown?.message;
  }

  #isTakenBack(place, id, { run_id: run, namespace = "", sequence_number: number }) {
    if (id !== undefined && this.#voids.size > 0) {
      const isVoid = (where) => this.#voids.get(JSON.stringify([where, id])) >= number;
      if (isVoid(place) || isVoid(run ?? null)) return true;
    }
    if (this.#cleared.size === 0) return false;
    const above = placesAbove(namespace);
    return above.some((space) => this.#cleared.get(JSON.stringify([run ?? null, space])) >= number);
  }

  #piece(place, visit, type, data, metadata) {
    if (typeof data?.content !== "string") return undefined;
    if (this.#isTakenBack(place, messageIdOf(data, metadata), metadata)) return undefined;
    const { sequence_number: to, merged_from: from = to } = metadata;
    const entry = this.#entry(place, visit, data, metadata);
    if (!entry[type === "token" ? "text" : "thinking"].add(from, to, data.content)) return undefined;
    return this.#show(entry, { text: entry.text.text, thinking: entry.thinking.text });
  }

  // A `message` is complete, and replaces its pieces.
  #whole(place, visit, data, metadata) {
    if (typeof data?.content !== "string") return undefined;
    if (this.#isTakenBack(place, messageIdOf(data, metadata), metadata)) return undefined;
    const { epoch, sequence_number: number } = metadata;
    const entry = this.#entry(place, visit, data, metadata, `${epoch}:${number}`);
    entry.text.replace(number, data.content);
    const role = typeof data.role === "string" ? { role: data.role } : {};
    return this.#show(entry, { ...role, text: data.content, complete: true });
  }

  #entry(place, visit, data, metadata, otherwise) {
    const messageId = messageIdOf(data, metadata) ?? otherwise;
    const { run_id, namespace, node_id, agent_type, task_id, request_id, tool_call_id } = metadata;
    const scope = [run_id, namespace ?? node_id, agent_type, task_id, request_id, tool_call_id];
    const key = JSON.stringify([place, visit, messageId ?? scope]);
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    const id = messageId ?? scope.filter(Boolean).join(" ");
    const isTaken = [...this.#entries.values()].some(({ message }) => message.id === id);
    const entry = { run: run_id, space: namespace || node_id || "", place, visit, messageId };
    Object.assign(entry, { text: new Pieces(), thinking: new Pieces() });
    entry.message = {
      id: isTaken ? key : id,
      ...(node_id !== undefined && { nodeId: node_id }),
      ...(namespace !== undefined && { namespace }),
      path: namespace === undefined ? (node_id ?? "") : nodePath(namespace),
      ...(agent_type !== undefined && { agentType: agent_type }),
      ...(typeof data.role === "string" && { role: data.role }),
      attempt: metadata.attempt ?? 1,
      text: "",
      thinking: "",
      complete: false,
    };
    this.#entries.set(key, entry);
    return entry;
  }

  #show(entry, changes) {
    entry.message = Object.freeze({ ...entry.message, ...changes });
    this.#list = null;
    this.#changed.set(entry, entry.message);
    return entry.message;
  }

  #each(fits, action) {
    let last;
    for (const entry of this.#entries.values()) if (fits(entry)) last = action(entry);
    return last;
  }

  #complete(fits) {
    const isOpen = (entry) => !entry.message.complete && fits(entry);
    return this.#each(isOpen, (entry) => this.#show(entry, { complete: true }));
  }

  // Retracts pieces up to `number`, and removes messages without text.
  #forget(fits, number) {
    for (const entry of [...this.#entries.values()].filter(fits)) {
      entry.text.forget(number);
      entry.thinking.forget(number);
      this.#show(entry, { text: entry.text.text, thinking: entry.thinking.text });
    }
    this.#remove((entry) => fits(entry) && entry.text.upTo === 0 && entry.thinking.upTo === 0);
  }

  #remove(fits) {
    for (const [key, entry] of this.#entries) {
      if (!fits(entry)) continue;
      this.#entries.delete(key);
      this.#show(entry, { text: "", thinking: "" });
    }
  }
}

// Returns messages as a tree of their nodes: a list of {key, name, path, agentType, messages, inside}.
export function messageTree(messages) {
  const roots = [];
  const known = new Map();
  for (const message of messages) {
    let inside = roots;
    let branch;
    for (const [key, path] of branchesOf(message)) {
      branch = known.get(key);
      if (branch === undefined) {
        branch = { key, name: path.split("/").at(-1), path, messages: [], inside: [] };
        known.set(key, branch);
        inside.push(branch);
      }
      inside = branch.inside;
    }
    if (message.agentType !== undefined) branch.agentType ??= message.agentType;
    branch.messages.push(message);
  }
  return roots;
}

// Returns the enclosing nodes of a message, outermost first, each with namespace and path.
function branchesOf({ namespace, nodeId, path }) {
  if (namespace === undefined) return [[nodeId ?? "", path]];
  const spaces = [...placesAbove(namespace), namespace];
  const named = spaces.map((space) => [space, nodePath(space)]);
  return named.filter(([, one], index) => one !== "" && one !== named[index - 1]?.[1]);
}

// Returns a checkpoint namespace as the names of its nodes: "agent:<task id>|model:<task id>" is "agent/model".
export function nodePath(namespace) {
  const names = namespace.split(/[|/]/).filter((part) => !/^\d+$/.test(part)).map((part) => part.split(":", 1)[0]);
  return names.filter((name) => name !== "").join("/");
}

function placeOf({ run_id: run, namespace, node_id: node }) {
  return JSON.stringify([run ?? null, namespace || node || ""]);
}

// Returns the enclosing namespaces, outermost first.
function placesAbove(namespace) {
  return [...namespace.matchAll(/[|/]/g)].map(({ index }) => namespace.slice(0, index));
}

function isBelow(space, other) {
  return space.length > other.length && space.startsWith(other) && /[|/]/.test(space[other.length]);
}

function messageIdOf(data, metadata) {
  return data?.message_id ?? metadata.message_id;
}
