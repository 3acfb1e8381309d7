// A live run in a React component: the result of `useStreaming(executionId)` grows with the run.
//
// Copy this file into your project. It needs React and the module `lg-streaming`, which is part of the Python package
// and is served by your server. The guide "React" shows two ways to resolve it.

import { useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { createClient, messageTree, nodePath, TextAssembly } from "lg-streaming";
import type {
  Branch, Client, ClientOptions, FilterOptions, Gap, Message, State, StreamingError, SubscribeOptions, Subscription, Update,
} from "lg-streaming";

/** State of the run. `unknown`: no update has arrived yet. */
export type RunStatus = "unknown" | "running" | "interrupted" | "completed" | "failed" | "cancelled" | "abandoned";

/** One run of a node of the graph. A node that runs several times has several entries. */
export interface NodeView {
  /** Identifies a run of the node; suitable as React's `key`. */
  readonly key: string;
  readonly nodeId: string;
  readonly name: string;
  /** Path of node names, outermost first, such as "supervisor/researcher/model". */
  readonly path: string;
  /** Agent of the node. */
  readonly agentType: string | null;
  readonly state: Exclude<RunStatus, "unknown">;
  /** Number of the attempt; 2 is the first retry. */
  readonly attempt: number;
  /** 0 to 100; null if the node reports no progress. */
  readonly progress: number | null;
  /** Error of a failed node. */
  readonly error: string | null;
}

/** An open prompt of the run. Further fields are those of the program. */
export interface Prompt {
  readonly prompt_id: string;
  readonly prompt: string;
  readonly type?: "approval" | "input" | "choice" | "confirmation";
  readonly choices?: readonly string[];
  readonly [field: string]: unknown;
}

/** The server's coded error that ended the connection, or the error of the run. */
export type Problem = Partial<StreamingError> & { readonly message: string };

/** State of an execution. A new object after a change, at most one each frame. */
export interface View {
  /** State of the connection; `idle` without an execution. */
  readonly state: State | "idle";
  readonly status: RunStatus;
  /** Texts of all messages, separated by empty lines. */
  readonly text: string;
  readonly messages: readonly Message[];
  /** The messages as a tree of agents and nodes. */
  readonly tree: readonly Branch[];
  /** Progress of the run, 0 to 100, of its last `workflow_progress`, or else its last `progress`; or null. */
  readonly progress: number | null;
  readonly nodes: readonly NodeView[];
  /** Open prompts. */
  readonly prompts: readonly Prompt[];
  /** The newest updates, at most `maxUpdates`. */
  readonly updates: readonly Update[];
  /** The last gap, or null: updates are missing in the view. */
  readonly gap: Gap | null;
  readonly error: Problem | null;
}

export interface Streaming extends View {
  /** Answers a prompt; rejects with the server's coded error, such as 4090 for a prompt that is already answered. */
  respond(promptId: string, response: unknown): Promise<unknown>;
  /** Cancels the run. */
  cancel(reason?: string): Promise<unknown>;
  /** Connects again after `failed`; the view stays. */
  retry(): void;
}

type ForClient = Pick<ClientOptions, "url" | "transport" | "token" | "pollInterval" | "maxAttempts">;
type ForSubscription = FilterOptions & Pick<SubscribeOptions, "after" | "follow" | "merge">;

/**
 * The options may be new objects at each render. A changed value connects anew, from the start; a new token
 * or function is used from then on.
 */
export interface StreamingOptions extends ForClient, ForSubscription {
  /** A client that several hooks share, created outside of the component with `url`, … */
  readonly client?: Client;
  /** Keeps the view over a reload of the page, in `sessionStorage`, under this name or one made of the execution. */
  readonly resume?: boolean | string;
  /** Limit of `updates`. Default: 200. Text, nodes and prompts are kept completely. */
  readonly maxUpdates?: number;
  /** Called with each update, also if several share a render. */
  readonly onUpdate?: (update: Update) => void;
  readonly onGap?: (gap: Gap) => void;
}

/** Subscribes to an execution while the component is mounted. Without an id it waits for one. */
export function useStreaming(executionId: string | null | undefined, options: StreamingOptions = {}): Streaming {
  const id = executionId ?? null;
  const wanted = whatIsWanted(id, options);
  const [kept, keep] = useState(() => new Store(id, options, wanted));
  let store = kept;
  if (kept.wanted !== wanted || kept.client !== options.client) {
    store = new Store(id, options, wanted);
    keep(store); // React renders again at once, and discards this render
  }
  useEffect(() => store.update(options));
  const view = useSyncExternalStore(store.subscribe, store.getView, id === null ? idle : connecting);
  return useMemo(() => ({ ...view, respond: store.respond, cancel: store.cancel, retry: store.retry }), [view, store]);
}

const KEPT_CHARACTERS = 1_000_000; // largest state that is kept over a reload

const IDLE: View = {
  state: "idle", status: "unknown", text: "", messages: [], tree: [], progress: null, nodes: [], prompts: [], updates: [],
  gap: null, error: null,
};
const CONNECTING: View = { ...IDLE, state: "connecting" };
const idle = () => IDLE;
const connecting = () => CONNECTING;

/** The filters as text, which is equal for equal options. */
function whatIsWanted(id: string | null, { client, token, maxUpdates, onUpdate, onGap, ...rest }: StreamingOptions) {
  return JSON.stringify([id, token !== undefined, rest]);
}

/** One execution as React's external store, connected while it has listeners. */
class Store {
  readonly #id: string | null;
  #options: StreamingOptions;
  #run = new Run();
  #view: View;
  #state: View["state"];
  #refusal: Problem | null = null;
  #listeners = new Set<() => void>();
  #connection: { client: Client; subscription: Subscription } | null = null;
  #after: string | null = null; // position after earlier connections
  #stopWaiting: (() => void) | null = null; // cancels the wait for the next frame

  constructor(id: string | null, options: StreamingOptions, readonly wanted: string, readonly client = options.client) {
    this.#id = id;
    this.#options = options;
    this.#view = id === null ? IDLE : CONNECTING;
    this.#state = this.#view.state;
  }

  getView = () => this.#view;

  // StrictMode subscribes, unsubscribes and subscribes again. One connection opens: a client connects a moment later.
  subscribe = (listener: () => void) => {
    this.#listeners.add(listener);
    this.#settle();
    return () => {
      this.#listeners.delete(listener);
      this.#settle();
    };
  };

  /** The options of the newest render. */
  update(options: StreamingOptions) {
    const isRenewed = typeof options.token === "string" && options.token !== this.#options.token;
    this.#options = options;
    if (isRenewed && this.#state === "failed") this.retry();
  }

  respond = async (promptId: string, response: unknown) => this.#client().respond(this.#execution(), promptId, response);

  cancel = async (reason?: string) => this.#client().cancel(this.#execution(), reason);

  retry = () => {
    if (this.#state !== "failed") return;
    this.#close();
    this.#state = "connecting";
    this.#settle();
  };

  #settle() {
    const isWanted = this.#listeners.size > 0 && this.#id !== null;
    if (!isWanted) this.#close();
    else if (this.#connection === null && this.#state !== "ended" && this.#state !== "failed") this.#open();
  }

  #execution() {
    if (this.#id === null) throw new Error("there is no execution yet");
    return this.#id;
  }

  #client() {
    return this.#connection?.client ?? this.#makeClient();
  }

  #makeClient() {
    const { client, url, transport, token, pollInterval, maxAttempts } = this.#options;
    if (client !== undefined) {
      if ([url, transport, token, pollInterval, maxAttempts].every((option) => option === undefined)) return client;
      throw new TypeError("useStreaming was given a client: url, transport, token, … belong to its createClient");
    }
    const newest = async () => {
      const { token } = this.#options;
      return typeof token === "function" ? token() : (token ?? "");
    };
    return createClient({ url, transport, pollInterval, maxAttempts, ...(token !== undefined && { token: newest }) });
  }

  #open() {
    this.#refusal = null;
    if (this.#after === null && this.#restore()) return;
    try {
      this.#connection = this.#connect();
    } catch (error) {
      this.#state = "failed"; // an option is not valid
      this.#refusal = error as Error;
      this.#changed();
      return;
    }
    addEventListener("pagehide", this.#save);
    document.addEventListener("visibilitychange", this.#save);
  }

  #connect() {
    const { client: _, url, transport, token, pollInterval, maxAttempts, resume, maxUpdates, ...wanted } = this.#options;
    const client = this.#makeClient();
    const subscription = client.subscribe(this.#execution(), {
      ...wanted,
      after: this.#after ?? wanted.after,
      onUpdate: (update) => this.#options.onUpdate?.(update),
      onUpdates: (updates) => this.#take(updates),
      onGap: (gap) => this.#missed(gap),
      onState: (state, { error }) => this.#connectionIs(state, error),
    });
    return { client, subscription };
  }

  #close() {
    if (this.#connection === null) return;
    const { subscription } = this.#connection;
    this.#after = subscription.position ?? this.#after;
    this.#connection = null;
    subscription.close();
    removeEventListener("pagehide", this.#save);
    document.removeEventListener("visibilitychange", this.#save);
  }

  #take(updates: readonly Update[]) {
    this.#run.take(updates, this.#options.maxUpdates ?? 200);
    this.#changed();
  }

  #missed(gap: Gap) {
    this.#run.miss(gap);
    this.#changed();
    this.#options.onGap?.(gap);
  }

  #connectionIs(state: State, error: StreamingError | undefined) {
    if (this.#connection === null) return; // closed here: no listener is left
    this.#state = state;
    this.#refusal = state === "failed" && error !== undefined ? error : null;
    if (state === "ended") this.#run.finish();
    this.#changed();
    if (state === "ended") this.#save();
  }

  // ---------------------------------------------------------- state over a reload
  get #key() {
    const { resume } = this.#options;
    return typeof resume === "string" ? resume : `useStreaming ${this.#id}`;
  }

  #save = () => {
    const { resume, follow } = this.#options;
    if (!resume || this.#connection === null) return;
    const isOver = this.#state === "ended" && !follow;
    const position = this.#connection.subscription.position ?? this.#after;
    const kept = JSON.stringify({ wanted: this.wanted, position, isOver, run: this.#run });
    try {
      sessionStorage.removeItem(this.#key);
      if (kept.length <= KEPT_CHARACTERS) sessionStorage.setItem(this.#key, kept);
    } catch {
      // The storage is full or forbidden: after a reload all updates arrive again.
    }
  };

  /** Restores the stored state; returns whether the run had ended. */
  #restore() {
    if (!this.#options.resume) return false;
    try {
      const { wanted, position, isOver, run } = JSON.parse(sessionStorage.getItem(this.#key) ?? "null");
      if (wanted !== this.wanted || position === null) return false;
      this.#run = Run.from(run);
      this.#after = position;
      if (isOver) this.#state = "ended";
      this.#changed();
      return isOver === true;
    } catch {
      return false; // no stored state, or not of this hook
    }
  }

  // At most one render each frame. A hidden page has no frames, but its title and sounds may need the updates.
  #changed() {
    if (this.#stopWaiting !== null) return;
    const show = () => {
      this.#stopWaiting?.();
      this.#stopWaiting = null;
      this.#view = this.#run.view(this.#state, this.#refusal);
      for (const listener of this.#listeners) listener();
    };
    const frame = requestAnimationFrame(show);
    const timer = setTimeout(show, 250);
    this.#stopWaiting = () => {
      cancelAnimationFrame(frame);
      clearTimeout(timer);
    };
  }
}

const ENDS: Readonly<Record<string, RunStatus>> = {
  workflow_complete: "completed",
  workflow_error: "failed",
  workflow_cancelled: "cancelled",
  workflow_abandoned: "abandoned",
};
const NODE_STATES: Readonly<Record<string, NodeView["state"]>> = {
  node_start: "running",
  node_complete: "completed",
  node_error: "failed",
  node_interrupted: "interrupted",
  node_cached: "completed",
};

/** State of the last run. */
interface Facts {
  readonly runId: string | null;
  readonly status: RunStatus;
  readonly progress: number | null;
  readonly isOverall: boolean; // true: `progress` is that of the whole run
  readonly nodes: readonly NodeView[];
  readonly prompts: readonly Prompt[];
  readonly error: Problem | null;
}

const NOTHING: Facts = {
  runId: null, status: "unknown", progress: null, isOverall: false, nodes: [], prompts: [], error: null,
};

/** Folds updates into a view. Objects of a view are immutable: changes replace them. */
class Run {
  #facts = NOTHING;
  #texts = new TextAssembly();
  #updates: readonly Update[] = [];
  #gap: Gap | null = null;
  #joined: Pick<View, "messages" | "text" | "tree"> = { messages: [], text: "", tree: [] };

  view(state: View["state"], refusal: Problem | null): View {
    const { status, progress, nodes, prompts, error } = this.#facts;
    const { messages } = this.#texts;
    if (messages !== this.#joined.messages) {
      const texts = messages.map((message) => message.text).filter((text) => text !== "");
      this.#joined = { messages, text: texts.join("\n\n"), tree: messageTree(messages) };
    }
    const { text, tree } = this.#joined;
    const rest = { updates: this.#updates, gap: this.#gap, error: refusal ?? error };
    return { state, status, text, messages, tree, progress, nodes, prompts, ...rest };
  }

  take(updates: readonly Update[], maxUpdates: number) {
    for (const update of updates) {
      this.#texts.add(update);
      this.#learn(update);
    }
    const all = [...this.#updates, ...updates];
    this.#updates = all.slice(Math.max(0, all.length - maxUpdates));
  }

  miss(gap: Gap) {
    if (gap.reason === "evicted") this.#texts.miss();
    else {
      this.#facts = NOTHING; // the server has a new log
      this.#texts.clear();
      this.#updates = [];
    }
    this.#gap = gap;
  }

  finish() {
    this.#texts.finish();
  }

  toJSON() {
    return { facts: this.#facts, texts: this.#texts, updates: this.#updates, gap: this.#gap };
  }

  static from({ facts, texts, updates, gap }: { facts: Facts; texts: object; updates: Update[]; gap: Gap | null }) {
    const run = new Run();
    run.#facts = facts;
    run.#texts = TextAssembly.from(texts);
    run.#updates = updates;
    run.#gap = gap;
    return run;
  }

  #learn({ type, data: given, metadata }: Update) {
    const data = given ?? {};
    const { run_id: runId } = metadata;
    if (runId !== undefined && runId !== this.#facts.runId) this.#facts = { ...NOTHING, runId };
    if (this.#facts.status === "unknown") this.#now({ status: "running" });
    const { nodes, prompts, isOverall, status } = this.#facts;
    const end = ENDS[type];
    if (end !== undefined) {
      const error = end === "failed" ? problemOf(data) : null;
      this.#now({ status: end, error, prompts: [], nodes: nodes.map((node) => ended(node, end)) });
    } else if (type === "workflow_interrupted") this.#now({ status: "interrupted" });
    else if (type === "workflow_progress") this.#now({ progress: data.progress ?? null, isOverall: true });
    else if (type === "human_prompt" && data.prompt_id !== undefined) {
      this.#now({ prompts: [...prompts.filter((prompt) => prompt.prompt_id !== data.prompt_id), data] });
    } else if (type === "status" && data.status === "resumed") { // the prompts of a graph close with its pause
      this.#now({ prompts: prompts.filter((prompt) => prompt.value === undefined && prompt.node_id === undefined) });
    } else if (type === "human_response") {
      this.#now({ prompts: prompts.filter((prompt) => prompt.prompt_id !== data.prompt_id) });
    } else if (type in NODE_STATES) {
      if (status === "interrupted" && type === "node_start") this.#now({ status: "running" });
      if (type === "node_start") this.#dropInside(metadata);
      this.#node(metadata, { state: NODE_STATES[type], name: data.node_name ?? metadata.node_id, error: null }, type === "node_start");
      if (type === "node_error") this.#node(metadata, { error: problemOf(data).message });
    } else if (type === "progress" && data.progress !== undefined) {
      if (!isOverall) this.#now({ progress: data.progress });
      if (metadata.node_id !== undefined) this.#node(metadata, { progress: data.progress });
    }
  }

  #now(changes: Partial<Facts>) {
    this.#facts = { ...this.#facts, ...changes };
  }

  // A node begins anew with all its inner nodes, unless it continues after an interruption.
  #dropInside({ namespace }: Update["metadata"]) {
    const { nodes } = this.#facts;
    if (namespace === undefined || nodes.some(({ key, state }) => key === namespace && state === "interrupted")) return;
    const isInside = (key: string) => key.startsWith(namespace) && /^[|/]/.test(key.slice(namespace.length));
    this.#now({ nodes: nodes.filter(({ key }) => !isInside(key)) });
  }

  #node(metadata: Update["metadata"], changes: Partial<NodeView>, isNew = false) {
    const { nodes } = this.#facts;
    const { node_id: nodeId = "", namespace = nodeId, attempt = 1, agent_type: agentType = null } = metadata;
    const known = nodes.find(({ key }) => key === namespace);
    const path = metadata.namespace === undefined ? nodeId : nodePath(namespace);
    const place = { key: namespace, nodeId, name: nodeId, path, agentType };
    const fresh = { ...place, state: "running", attempt, progress: null, error: null } as const;
    const node: NodeView = { ...(known === undefined || isNew ? fresh : known), ...changes };
    this.#now({ nodes: known === undefined ? [...nodes, node] : nodes.map((one) => (one === known ? node : one)) });
  }
}

function ended(node: NodeView, run: RunStatus): NodeView {
  return node.state === "running" ? { ...node, state: run as NodeView["state"] } : node;
}

function problemOf(data: unknown): Problem {
  const { error, message } = data as { error?: unknown; message?: unknown };
  if (typeof error === "object" && error !== null && "message" in error) return error as Problem;
  return { message: String(error ?? message ?? "it failed") };
}
