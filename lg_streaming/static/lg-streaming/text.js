// The text of each message, put together from updates.

const ENDS_OF_MESSAGES = new Set(["llm_complete", "llm_error"]);
const ENDS_OF_NODES = new Set(["node_complete", "node_error", "node_interrupted"]);
const ENDS_OF_RUNS = new Set(["workflow_complete", "workflow_error", "workflow_cancelled", "workflow_abandoned"]);

// Pieces of one text by their numbers: in any order, and each as often as you like.
class Pieces {
  #pieces = [];
  text = "";

  // Whether the text is another one now. A merged piece stands for all numbers from `from` to `to`.
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

  // The text is `text`, whatever came up to `to`.
  replace(to, text) {
    this.#pieces = [{ from: 0, to, text }];
    this.text = text;
  }

  get upTo() {
    return this.#pieces.at(-1)?.to ?? 0;
  }
}

export class TextAssembly {
  #entries = new Map(); // place and message id -> {message, run, place, text, thinking}
  #attempts = new Map(); // place -> the newest attempt
  #epoch;
  #list = null;
  #changed = new Map(); // entry -> its message, the removed ones emptied

  // The messages there are, oldest first. The same list, and the same objects, as long as nothing changes.
  get messages() {
    this.#list ??= Object.freeze([...this.#entries.values()].map(({ message }) => message));
    return this.#list;
  }

  // Takes any update; returns the message it belongs to, where it changed one.
  add(update) {
    const { type, data, metadata } = update;
    if (this.#epoch !== undefined && metadata.epoch !== this.#epoch) this.clear();
    this.#epoch = metadata.epoch;
    const place = placeOf(metadata);
    if (!this.#isCurrent(place, metadata)) return undefined;
    if (type === "token" || type === "thinking") return this.#piece(place, type, data, metadata);
    if (type === "message") return this.#whole(place, data, metadata);
    if (ENDS_OF_MESSAGES.has(type)) {
      const id = messageIdOf(data, metadata);
      return this.#complete((entry) => entry.place === place && (id === undefined || entry.messageId === id));
    }
    if (ENDS_OF_NODES.has(type)) return this.#complete((entry) => entry.place === place);
    if (ENDS_OF_RUNS.has(type)) return this.#complete((entry) => entry.run === metadata.run_id);
    return undefined;
  }

  // Pieces of what is being written are lost.
  miss() {
    this.#each((entry) => !entry.message.complete, (entry) => this.#show(entry, { missing: true }));
  }

  // Nothing more comes.
  finish() {
    this.#complete(() => true);
  }

  clear() {
    this.#remove(() => true);
    this.#attempts.clear();
    this.#epoch = undefined;
  }

  // What has changed since this was last asked, each message once; those that are gone come without text.
  changes() {
    const changed = [...this.#changed.values()];
    this.#changed.clear();
    return changed;
  }

  toJSON() {
    const messages = [...this.#entries].map(([key, { message, run, place, messageId, text, thinking }]) => ({
      key, message, run, place, messageId, upTo: [text.upTo, thinking.upTo],
    }));
    return { epoch: this.#epoch, attempts: [...this.#attempts], messages };
  }

  static from({ epoch, attempts, messages }) {
    const assembly = new TextAssembly();
    assembly.#epoch = epoch;
    assembly.#attempts = new Map(attempts);
    for (const { key, message, run, place, messageId, upTo } of messages) {
      const entry = { run, place, messageId, message: Object.freeze(message) };
      Object.assign(entry, { text: new Pieces(), thinking: new Pieces() });
      entry.text.replace(upTo[0], message.text);
      entry.thinking.replace(upTo[1], message.thinking);
      assembly.#entries.set(key, entry);
    }
    return assembly;
  }

  // A node that is tried again begins its text afresh, and so does all that ran inside it.
  #isCurrent(place, { attempt, run_id: run, namespace }) {
    if (attempt === undefined) return true;
    const known = this.#attempts.get(place);
    if (known !== undefined && attempt < known) return false;
    this.#attempts.set(place, attempt);
    if (known === undefined || attempt === known) return true;
    const inside = namespace === undefined ? undefined : JSON.stringify([run ?? null, `${namespace}|`]).slice(0, -2);
    const goes = (one) => one === place || (inside !== undefined && one.startsWith(inside));
    this.#remove((entry) => goes(entry.place));
    for (const one of this.#attempts.keys()) if (one !== place && goes(one)) this.#attempts.delete(one);
    return true;
  }

  #piece(place, type, data, metadata) {
    if (typeof data?.content !== "string") return undefined;
    const { sequence_number: to, merged_from: from = to } = metadata;
    const entry = this.#entry(place, data, metadata);
    if (!entry[type === "token" ? "text" : "thinking"].add(from, to, data.content)) return undefined;
    return this.#show(entry, { text: entry.text.text, thinking: entry.thinking.text });
  }

  // A `message` is whole; where its pieces came before, it stands in their place.
  #whole(place, data, metadata) {
    if (typeof data?.content !== "string") return undefined;
    const { epoch, sequence_number: number } = metadata;
    const entry = this.#entry(place, data, metadata, `${epoch}:${number}`);
    entry.text.replace(number, data.content);
    const role = typeof data.role === "string" ? { role: data.role } : {};
    return this.#show(entry, { ...role, text: data.content, complete: true });
  }

  #entry(place, data, metadata, otherwise) {
    const messageId = messageIdOf(data, metadata) ?? otherwise;
    const { run_id, namespace, node_id, agent_type, task_id, request_id, tool_call_id } = metadata;
    const scope = [run_id, namespace ?? node_id, agent_type, task_id, request_id, tool_call_id];
    const key = JSON.stringify([place, messageId ?? scope]);
    const known = this.#entries.get(key);
    if (known !== undefined) return known;
    const id = messageId ?? scope.filter(Boolean).join(" ");
    const isTaken = [...this.#entries.values()].some(({ message }) => message.id === id);
    const entry = { run: run_id, place, messageId, text: new Pieces(), thinking: new Pieces() };
    entry.message = {
      id: isTaken ? key : id,
      ...(node_id !== undefined && { nodeId: node_id }),
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

  #each(fits, does) {
    let last;
    for (const entry of this.#entries.values()) if (fits(entry)) last = does(entry);
    return last;
  }

  #complete(fits) {
    const isOpen = (entry) => !entry.message.complete && fits(entry);
    return this.#each(isOpen, (entry) => this.#show(entry, { complete: true }));
  }

  #remove(fits) {
    for (const [key, entry] of this.#entries) {
      if (!fits(entry)) continue;
      this.#entries.delete(key);
      this.#show(entry, { text: "", thinking: "" });
    }
  }
}

// As text, so that what lies inside a node begins like it: the namespaces of its parts begin with its own and a "|".
function placeOf({ run_id: run, namespace, node_id: node }) {
  return JSON.stringify([run ?? null, namespace ?? "", node ?? ""]);
}

function messageIdOf(data, metadata) {
  return data?.message_id ?? metadata.message_id;
}

