// The types of lg-streaming.js. All times are in milliseconds.

/** One thing that happened in an execution. */
export interface Update<D = any> {
  type: string;
  data: D;
  metadata: Metadata;
}

export interface Metadata {
  /** UTC, such as "2026-11-20T20:00:00.123Z". */
  timestamp: string;
  execution_id: string;
  /** 1, 2, 3 … without a hole. */
  sequence_number: number;
  /** Which life of the log the number belongs to. */
  epoch: string;
  run_id?: string;
  node_id?: string;
  namespace?: string;
  /** Rises when a node is tried again. */
  attempt?: number;
  agent_type?: string;
  task_id?: string;
  request_id?: string;
  tool_call_id?: string;
  message_id?: string;
  category?: string;
  priority?: "low" | "high" | "critical";
  traceparent?: string;
  /** The first number that a merged update stands for. */
  merged_from?: number;
  [key: string]: unknown;
}

/** Updates that cannot be had. */
export interface Gap {
  execution_id: string;
  from?: number | null;
  /** null: nobody knows how many there were. */
  to?: number | null;
  /** "evicted": no longer kept; "epoch_changed", "future_position": the server began anew. */
  reason: string;
}

/** The text of one message so far. Never changed: a new text is a new object. */
export interface Message {
  readonly id: string;
  readonly nodeId?: string;
  /** LangGraph's checkpoint namespace of the node. */
  readonly namespace?: string;
  /** The names of its nodes from the outermost inwards, such as "supervisor/researcher/model". */
  readonly path: string;
  /** The agent. */
  readonly agentType?: string;
  readonly role?: string;
  readonly attempt: number;
  readonly text: string;
  readonly thinking: string;
  /** Whether nothing more comes of it. */
  readonly complete: boolean;
  /** true: a piece of it is lost. */
  readonly missing?: true;
}

/**
 * - `connecting`: the first attempt
 * - `connected`: live
 * - `reconnecting`: the connection is lost, and will be made again
 * - `polling`: live, by asking again and again
 * - `ended`: the run is over, and all its updates have come
 * - `failed`: there is no sense in trying again; the error says why
 * - `closed`: by the page
 */
export type State = "connecting" | "connected" | "reconnecting" | "polling" | "ended" | "failed" | "closed";

export type Transport = "sse" | "websocket" | "socketio" | "polling";

export interface StateDetail {
  /** What carries the updates, or will be tried next. */
  transport?: Transport;
  /** Why the connection is lost, or the subscription has failed. */
  error?: StreamingError;
  /** When it is tried again. */
  delay?: number;
  /** How many attempts there were in a row. */
  attempt?: number;
}

/** What is wrong, as the server says it, or as this side has noticed it. */
export class StreamingError extends Error {
  /** The number in the server's table of errors; null for what this side has noticed. */
  readonly code: number | null;
  /** Such as "forbidden"; "unreachable", "lost", "silent", "blocked", "malformed" for what this side has noticed. */
  readonly codeName: string;
  /** Whether the same can succeed later, unchanged. */
  readonly retryable: boolean;
  readonly retryAfter?: number;
  readonly executionId?: string;
  /** Of HTTP. */
  readonly status?: number;
  readonly isUnauthorized: boolean;
}

/** Which updates are wanted. All that are given have to match. */
export interface FilterOptions {
  /** Kinds, types and globs such as "task:*", of which one has to match. All when not given. */
  events?: string[];
  /** Nodes: names, and globs such as "review*". */
  nodeIds?: string[];
  /** Agents: names, and globs. */
  agentTypes?: string[];
  /** Node paths such as "supervisor/researcher", and globs over them: "*" within a segment, "**" across. */
  namespaces?: string[];
  categories?: string[];
  minPriority?: "low" | "medium" | "high" | "critical";
  /** Updates at or after this time, such as "2026-11-20T20:00:00Z". */
  since?: string;
  /** Updates at or before this time; or "interrupted": the subscription ends when the run waits for a human. */
  until?: string;
}

export interface SubscribeOptions extends FilterOptions {
  /** A position, to have what follows it; or "latest", to have what comes from now on. From the start when not given. */
  after?: string | "latest";
  /** Whether to stay for the next run. */
  follow?: boolean;
  /** Whether pieces of a text, and progress, may be merged while this page lags. */
  merge?: boolean;
  /** What to do when updates after `after` are gone: go on at the "oldest" there is (the default), at the "tail", or "fail". */
  gap?: "oldest" | "tail" | "fail";
  /**
   * Whether the messages and the position are kept over a reload of the page, in `storage`, under a name made of the
   * execution or under this one. Then `onUpdate` gets only what is new, and `messages` has the whole text. What is
   * larger than a million characters is not kept: everything comes again. Off when not given.
   */
  resume?: boolean | string;
  /** Closes the subscription. */
  signal?: AbortSignal;
  /** Each update, once, in order. */
  onUpdate?(update: Update): void;
  /** The same updates, as many at a time as came together. */
  onUpdates?(updates: Update[]): void;
  /** A message that has changed, and all there are. One that is not among them any more, as its node is tried again, comes without text. */
  onText?(message: Message, all: readonly Message[]): void;
  onGap?(gap: Gap): void;
  /** What the application shows first; comes over event streams only, at every connection. */
  onInitial?(data: any): void;
  onState?(state: State, detail: StateDetail): void;
  /** What is wrong and does not end the connection, and why the subscription has failed. */
  onError?(error: StreamingError): void;
}

export interface Subscription {
  readonly executionId: string;
  readonly state: State;
  /** Of the last update; null before there is one. */
  readonly position: string | null;
  /** Oldest first. The same list as long as nothing changes. */
  readonly messages: readonly Message[];
  /** Resolves when it has ended or is closed, rejects when it has failed. */
  readonly done: Promise<void>;
  /** Harmless when repeated. */
  close(): void;
}

/** What is used of a socket of socket.io-client. */
export interface SocketIoSocket {
  readonly connected: boolean;
  readonly active: boolean;
  connect(): unknown;
  emit(event: string, ...values: any[]): unknown;
  on(event: string, listener: (...values: any[]) => void): unknown;
  off(event: string, listener: (...values: any[]) => void): unknown;
}

export interface BackoffOptions {
  /** The first wait. 1,000 when not given. */
  initial?: number;
  /** The longest wait. 30,000 when not given. */
  max?: number;
  /** How much longer each wait is than the one before. 2 when not given. */
  factor?: number;
  /** Which part of a wait is left to chance, 0 to 1. 0.5 when not given. */
  jitter?: number;
  /** A number from 0 to 1. */
  random?(): number;
}

export interface ClientOptions {
  /** Where the gateway is, with its prefix. The root of the page's own origin when not given. */
  url?: string | URL;
  /** "auto", the default: an event stream, or else a WebSocket, or else polling. */
  transport?: "auto" | "sse" | "websocket" | "polling";
  /** A socket of socket.io-client, in place of all others. The page makes it, says with it who it is, and closes it. */
  socket?: SocketIoSocket;
  /** A token, or what gives a fresh one; it is called for every connection and request. Without it, the cookie counts. */
  token?: string | (() => string | Promise<string>);
  /** Gives a single-use ticket for an execution, where the page itself has no token. */
  ticket?(executionId: string): string | Promise<string>;
  /** Whether cookies go to a server of another origin. */
  withCredentials?: boolean;
  /** Where `resume` keeps things; null: nowhere. `sessionStorage` when not given. */
  storage?: Storage | null;
  backoff?: BackoffOptions;
  /** How many attempts in a row to come back. No end when not given. */
  maxAttempts?: number;
  /** How long the server may take to answer, and a function of the page to give a token. 10,000 when not given. */
  openTimeout?: number;
  /** How long to wait between two polls. 1,000 when not given. */
  pollInterval?: number;
  /** How long to poll before something better is tried again. 60,000 when not given. */
  upgradeInterval?: number;
  fetch?: typeof globalThis.fetch;
  EventSource?: typeof globalThis.EventSource;
  WebSocket?: typeof globalThis.WebSocket;
}

export interface Client {
  /** Watches an execution. Throws a TypeError for an option that there is not. */
  subscribe(executionId: string, options?: SubscribeOptions): Subscription;
  /** Answers a prompt. Rejects with a StreamingError. */
  respond(executionId: string, promptId: string, response: unknown): Promise<{ execution_id: string; prompt_id: string }>;
  /** Asks the open run to end. Rejects with a StreamingError. */
  cancel(executionId: string, reason?: string): Promise<{ execution_id: string; cancelled: boolean }>;
  /** Closes all subscriptions. */
  close(): void;
}

/** Throws a TypeError for an option that there is not. */
export function createClient(options?: ClientOptions): Client;

/** Watches one execution, without a client of one's own. */
export function subscribe(executionId: string, options?: SubscribeOptions & ClientOptions): Subscription;

/** A node of the graph with what it said, and the nodes inside it. */
export interface Branch {
  /** Tells branches apart: the namespace, or the node's id. */
  readonly key: string;
  /** The node's name, such as "model". */
  readonly name: string;
  /** With the nodes around it: "supervisor/researcher/model". */
  readonly path: string;
  readonly agentType?: string;
  /** Oldest first; empty where only nodes inside it said something. */
  readonly messages: readonly Message[];
  readonly inside: readonly Branch[];
}

/** Messages as a tree of agents and their nodes, in the order in which they began. */
export function messageTree(messages: readonly Message[]): Branch[];

/** A checkpoint namespace as the names of its nodes: "agent:<task id>|model:<task id>" is "agent/model". */
export function nodePath(namespace: string): string;

/** Puts the text of each message together. Takes updates in any order, and each as often as you like. */
export class TextAssembly {
  /** Oldest first. The same list as long as nothing changes. */
  readonly messages: readonly Message[];
  /** Takes any update; returns the message it has changed. */
  add(update: Update): Message | undefined;
  /** What has changed since this was last asked, each message once; those that are gone come without text. */
  changes(): Message[];
  /** Pieces of what is being written are lost. */
  miss(): void;
  /** Nothing more comes: all messages are complete. */
  finish(): void;
  clear(): void;
  /** For `TextAssembly.from`. */
  toJSON(): object;
  static from(json: object): TextAssembly;
}

/** How long to wait before each further attempt. */
export class Backoff {
  constructor(options?: BackoffOptions);
  /** How many waits there were since the last success. */
  readonly attempt: number;
  /** The next wait. `hint` is what the server has asked for: it counts as it is the first time, up to an hour, and
      after that where it is the longer one. */
  next(hint?: number): number;
  reset(): void;
}
