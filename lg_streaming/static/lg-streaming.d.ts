// The types of lg-streaming.js. All times are in milliseconds.

import type {
  ExecutionGraphInfo, ExecutionInfo, Executions, Metadata, StateInfo, States, UpdateData,
} from "./lg-streaming/updates.js";

export * from "./lg-streaming/updates.js";

/** An update of a type that `UpdateData` declares. */
export interface TypedUpdate<T extends keyof UpdateData> {
  type: T;
  data: UpdateData[T];
  metadata: Metadata;
}

/** A type of updates that `UpdateData` does not declare: a string that is equal to no declared type. */
declare enum UndeclaredType {
  name = "a name that UpdateData does not declare",
}

/** An update of another type. */
export interface OtherUpdate {
  type: UndeclaredType;
  data: any;
  metadata: Metadata;
}

/** An update of any type: without a comparison of its type, `data` is a `D`. */
export interface AnyUpdate<D = any> {
  type: string;
  data: D;
  metadata: Metadata;
}

/**
 * One update of an execution. A comparison of `type` narrows `data` to the type's shape. The types of a program's own
 * updates are declared by merging:
 *
 *     declare module "lg-streaming" {
 *       interface UpdateData {
 *         invoice: { total: number };
 *       }
 *     }
 *
 * With a type argument it is an `AnyUpdate`.
 */
export type Update<D = never> = [D] extends [never]
  ? { [T in keyof UpdateData]: TypedUpdate<T> }[keyof UpdateData] | OtherUpdate
  : AnyUpdate<D>;

/** Missing updates. */
export interface Gap {
  execution_id: string;
  from?: number | null;
  /** null: their number is unknown. */
  to?: number | null;
  /** "evicted": no longer kept; "epoch_changed", "future_position": the server has a new log. */
  reason: string;
}

/** The text of one message so far. Immutable: a new text is a new object. */
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
  /** true: the text is complete. */
  readonly complete: boolean;
  /** true: a piece of the text is lost. */
  readonly missing?: true;
}

/**
 * - `connecting`: the first attempt
 * - `connected`: live
 * - `reconnecting`: the connection is lost; the client reconnects
 * - `polling`: live, by repeated requests
 * - `ended`: the run has ended, and all its updates have arrived
 * - `failed`: a permanent error
 * - `closed`: by the page
 */
export type State = "connecting" | "connected" | "reconnecting" | "polling" | "ended" | "failed" | "closed";

export type Transport = "sse" | "websocket" | "socketio" | "polling";

export interface StateDetail {
  /** The transport in use, or of the next attempt. */
  transport?: Transport;
  /** The reason of a lost connection or a failed subscription. */
  error?: StreamingError;
  /** Time of the next attempt. */
  delay?: number;
  /** Consecutive attempts. */
  attempt?: number;
}

/** An error that the server reports or the client detects. */
export class StreamingError extends Error {
  /** The number in the server's table of errors; null for errors that the client detects. */
  readonly code: number | null;
  /** Such as "forbidden"; "unreachable", "lost", "silent", "blocked", "malformed" for errors that the client detects. */
  readonly codeName: string;
  /** true: a retry can succeed. */
  readonly retryable: boolean;
  readonly retryAfter?: number;
  readonly executionId?: string;
  /** HTTP status. */
  readonly status?: number;
  readonly isUnauthorized: boolean;
}

/** Filters; an update has to match all of them. */
export interface FilterOptions {
  /** Kinds, types and globs such as "task:*", of which one has to match. Default: all. */
  events?: string[] | undefined;
  /** Nodes: names, and globs such as "review*". */
  nodeIds?: string[] | undefined;
  /** Agents: names, and globs. */
  agentTypes?: string[] | undefined;
  /** Node paths such as "supervisor/researcher", and globs over them: "*" within a segment, "**" across. */
  namespaces?: string[] | undefined;
  categories?: string[] | undefined;
  minPriority?: "low" | "medium" | "high" | "critical" | undefined;
  /** Updates at or after this time, such as "2026-11-20T20:00:00Z". */
  since?: string | undefined;
  /** Updates at or before this time; or "interrupted": the subscription ends when the run waits for a human. */
  until?: string | undefined;
}

export interface SubscribeOptions extends FilterOptions {
  /** Position to begin after; or "latest": begin with new updates. Default: the start. */
  after?: string | "latest" | undefined;
  /** true: continue with the next run. */
  follow?: boolean | undefined;
  /** true: the server may merge token deltas and progress while this page lags. */
  merge?: boolean | undefined;
  /** After a gap continue at the "oldest" update that is kept (the default), at the "tail", or "fail". */
  gap?: "oldest" | "tail" | "fail" | undefined;
  /**
   * true or a name: keep messages and position in `storage` over a reload of the page. The key is the given name, or
   * is made of the execution. After a reload `onUpdate` receives only new updates, and `messages` has the whole text.
   * A state of more than a million characters is not kept, and all updates arrive again. Default: false.
   */
  resume?: boolean | string | undefined;
  /** Closes the subscription. */
  signal?: AbortSignal | undefined;
  /** Called with each update, once, in order. */
  onUpdate?(update: Update): void;
  /** Called with lists of updates that arrived together. */
  onUpdates?(updates: Update[]): void;
  /** Called with a changed message, and all messages. A removed message, of a retried node, has no text. */
  onText?(message: Message, all: readonly Message[]): void;
  onGap?(gap: Gap): void;
  /** Called with the application's initial data, at every connection; event streams only. */
  onInitial?(data: any): void;
  onState?(state: State, detail: StateDetail): void;
  /** Called with errors that do not end the connection, and with the error of a failed subscription. */
  onError?(error: StreamingError): void;
}

export interface Subscription {
  readonly executionId: string;
  readonly state: State;
  /** Position of the last update; null before the first. */
  readonly position: string | null;
  /** All messages, oldest first. The list stays the same until something changes. */
  readonly messages: readonly Message[];
  /** Resolves when the subscription has ended or is closed; rejects when it has failed. */
  readonly done: Promise<void>;
  /** Closes the subscription. Idempotent. */
  close(): void;
}

/** The part of a socket.io-client socket that this library uses. */
export interface SocketIoSocket {
  readonly connected: boolean;
  readonly active: boolean;
  connect(): unknown;
  emit(event: string, ...values: any[]): unknown;
  on(event: string, listener: (...values: any[]) => void): unknown;
  off(event: string, listener: (...values: any[]) => void): unknown;
}

export interface BackoffOptions {
  /** The first pause. Default: 1,000. */
  initial?: number | undefined;
  /** The longest pause. Default: 30,000. */
  max?: number | undefined;
  /** Factor from each pause to the next. Default: 2. */
  factor?: number | undefined;
  /** Random share by which a pause is shortened, 0 to 1. Default: 0.5. */
  jitter?: number | undefined;
  /** Returns a number from 0 to 1. */
  random?(): number;
}

export interface ClientOptions {
  /** Address of the gateway, with its prefix. Default: the root of the page's origin. */
  url?: string | URL | undefined;
  /** "auto", the default: an event stream, or else a WebSocket, or else polling. */
  transport?: "auto" | "sse" | "websocket" | "polling" | undefined;
  /** A socket of socket.io-client, in place of the other transports. The page opens, authenticates and closes it. */
  socket?: SocketIoSocket | undefined;
  /** A token, or a function that returns one, called for every connection and request. Default: cookies. */
  token?: string | (() => string | Promise<string>) | undefined;
  /** Returns a single-use ticket for an execution, for a page without a token. */
  ticket?(executionId: string): string | Promise<string>;
  /** true: send cookies to a server of another origin. */
  withCredentials?: boolean | undefined;
  /** Storage of `resume`; null: none. Default: `sessionStorage`. */
  storage?: Storage | null | undefined;
  backoff?: BackoffOptions | undefined;
  /** Limit of consecutive attempts. Default: none. */
  maxAttempts?: number | undefined;
  /** Time limit for a response, and for a function of the page that returns a token. Default: 10,000. */
  openTimeout?: number | undefined;
  /** Pause between two polls. Default: 1,000. */
  pollInterval?: number | undefined;
  /** Time of polling after which a better transport is attempted again. Default: 60,000. */
  upgradeInterval?: number | undefined;
  fetch?: typeof globalThis.fetch | undefined;
  EventSource?: typeof globalThis.EventSource | undefined;
  WebSocket?: typeof globalThis.WebSocket | undefined;
}

/** Options of a start. */
export interface StartOptions {
  /** The execution. Default: a new one. */
  executionId?: string | undefined;
  /** LangGraph's thread. Default: the execution's id. */
  threadId?: string | undefined;
  /** `configurable` with keys that the graph declares, `recursion_limit`, `tags`, `metadata`. */
  config?: Record<string, unknown> | undefined;
  /** The graph's static context. */
  context?: unknown;
  /** Kept with the run, and sent with its `workflow_start`. */
  metadata?: Record<string, unknown> | undefined;
  /** Handling of an execution that has an open run. Default: "reject". */
  ifRunning?: "reject" | "enqueue" | "cancel" | "rollback" | undefined;
  /** "cancel": the run is cancelled when all its readers have left. Default: "continue". */
  onDisconnect?: "continue" | "cancel" | undefined;
  /** Time after which the run fails, with its waits. */
  deadline?: number | undefined;
  /** A repeated start with the same key returns the run of the first one. */
  idempotencyKey?: string | undefined;
}

/** A run that was started. */
export interface StartedRun {
  execution_id: string;
  run_id: string;
  thread_id: string;
  state: string;
  /** A subscription with this position as `after` begins with the run; null: with the execution. */
  position: string | null;
  /** Path of the run's event stream. */
  stream_url: string | null;
}

/** A graph that may be started, with JSON Schemas. */
export interface Graph {
  name: string;
  input_schema?: any;
  context_schema?: any;
}

export type ExecutionState = "running" | "interrupted" | "completed" | "failed" | "cancelled" | "abandoned";

/** Filters of lists of executions. */
export interface ExecutionFilters {
  state?: ExecutionState[] | undefined;
  owner?: string | undefined;
  /** Part of the id, the title, the owner or the graph's name, in upper or lower case. */
  text?: string | undefined;
  /** Aborts the request, or closes the watch. */
  signal?: AbortSignal | undefined;
}

export interface ExecutionsOptions extends ExecutionFilters {
  /** "newest": the last start of a run first. Default: "id". */
  order?: "id" | "newest" | undefined;
  /** 1 to 200. Default: 50. */
  limit?: number | undefined;
  /** `next_cursor` of the page before. */
  cursor?: string | undefined;
  /** Only these executions, up to 50; without `order`, `limit` and `cursor`. */
  ids?: string[] | undefined;
}

export interface WatchExecutionsOptions extends ExecutionFilters {
  /** Globs over execution ids: "*" within a "/" segment, "**" across. Default: all. */
  executions?: string[] | undefined;
  /** Returns the executions that are read again after a lost connection, and while the client polls. */
  shown?(): Iterable<string>;
  /** Shortest time between two requests. Default: 1,000. */
  interval?: number | undefined;
  /**
   * Called with executions that have changed or are new. `gone` has the ids of changed ones that do not match the
   * filters, or may not be read any more.
   */
  onChange?(executions: ExecutionInfo[], gone: string[]): void;
  onState?(state: State, detail: StateDetail): void;
  /** Called with errors that do not end the watch, and with the error of a failed one. */
  onError?(error: StreamingError): void;
}

/** A watch of the executions that the page may read. */
export interface ExecutionWatch {
  readonly state: State;
  /** Closes the watch. Idempotent. */
  close(): void;
}

export interface Client {
  /** Starts a run of a graph that the server has registered. Rejects with a StreamingError. */
  start(graph: string, input: unknown, options?: StartOptions): Promise<StartedRun>;
  /** Returns the state of an execution. Rejects with a StreamingError. */
  execution(executionId: string): Promise<ExecutionInfo>;
  /** Returns the nodes and edges of the graph of an execution's last run. Rejects with a StreamingError. */
  graph(executionId: string): Promise<ExecutionGraphInfo>;
  /** Returns a page of the states of an execution's graph, newest first. Rejects with a StreamingError. */
  states(executionId: string, options?: { limit?: number; before?: string }): Promise<States>;
  /** Returns the whole state of a checkpoint. Rejects with a StreamingError. */
  state(executionId: string, checkpointId: string): Promise<StateInfo>;
  /**
   * Starts a new execution that goes on from a checkpoint. `values` is an update of its state, as if `asNode` had
   * returned it; `executionId` is the id of the new one. Rejects with a StreamingError.
   */
  fork(
    executionId: string, checkpointId: string, options?: { values?: unknown; asNode?: string; executionId?: string },
  ): Promise<StartedRun>;
  /** Returns the graphs that the page may start. Rejects with a StreamingError. */
  graphs(): Promise<Graph[]>;
  /** Returns a page of the executions that the page may read. Rejects with a StreamingError. */
  executions(options?: ExecutionsOptions): Promise<Executions>;
  /**
   * Watches the executions that the page may read, over a WebSocket or else by polling. Throws a TypeError for an
   * unknown option.
   */
  watchExecutions(options?: WatchExecutionsOptions): ExecutionWatch;
  /** Subscribes to an execution. Throws a TypeError for an unknown option. */
  subscribe(executionId: string, options?: SubscribeOptions): Subscription;
  /** Answers a prompt. Rejects with a StreamingError. */
  respond(executionId: string, promptId: string, response: unknown): Promise<{ execution_id: string; prompt_id: string }>;
  /** Cancels the open run. Rejects with a StreamingError. */
  cancel(executionId: string, reason?: string): Promise<{ execution_id: string; cancelled: boolean }>;
  /** Pauses the open run after the nodes that are at work. Rejects with a StreamingError. */
  pause(executionId: string, reason?: string): Promise<{ execution_id: string; paused: boolean }>;
  /** Continues a paused run. Rejects with a StreamingError. */
  resume(executionId: string): Promise<{ execution_id: string; resumed: boolean }>;
  /** Updates the state of the open run before its next step, as if `asNode` had returned it. Rejects with a
      StreamingError. */
  inject(
    executionId: string, input: unknown, options?: { asNode?: string | undefined },
  ): Promise<{ execution_id: string; injected: boolean }>;
  /** Makes a read-only credential for one execution, which its holders pass as `token`. `expiresIn`: milliseconds; an
      hour when not given. Rejects with a StreamingError. */
  link(executionId: string, options?: { expiresIn?: number | undefined }): Promise<{ link: string; expires_in_s: number; expires_at: string }>;
  /** Closes all subscriptions. */
  close(): void;
}

/** Creates a client. Throws a TypeError for an unknown option. */
export function createClient(options?: ClientOptions): Client;

/** Subscribes to one execution, without an explicit client. */
export function subscribe(executionId: string, options?: SubscribeOptions & ClientOptions): Subscription;

/** A node of the graph with its messages, and its inner nodes. */
export interface Branch {
  /** Identifies a branch: the namespace, or the node's id. */
  readonly key: string;
  /** The node's name, such as "model". */
  readonly name: string;
  /** With the enclosing nodes: "supervisor/researcher/model". */
  readonly path: string;
  readonly agentType?: string;
  /** Oldest first; empty if only inner nodes have messages. */
  readonly messages: readonly Message[];
  readonly inside: readonly Branch[];
}

/** Returns messages as a tree of agents and their nodes, in the order of their first updates. */
export function messageTree(messages: readonly Message[]): Branch[];

/** A checkpoint namespace as the names of its nodes: "agent:<task id>|model:<task id>" is "agent/model". */
export function nodePath(namespace: string): string;

/** Assembles the text of each message from updates; order and repetition do not matter. */
export class TextAssembly {
  /** All messages, oldest first. The list stays the same until something changes. */
  readonly messages: readonly Message[];
  /** Applies an update of any type; returns the message that it changed, if any. */
  add(update: AnyUpdate): Message | undefined;
  /** Returns the messages that changed since the last call, each once; removed messages have no text. */
  changes(): Message[];
  /** Marks open messages as incomplete: pieces are lost. */
  miss(): void;
  /** Marks all messages as complete. */
  finish(): void;
  clear(): void;
  /** State for `TextAssembly.from`. */
  toJSON(): object;
  static from(json: object): TextAssembly;
}

/** Pauses between attempts. */
export class Backoff {
  constructor(options?: BackoffOptions);
  /** Number of pauses since the last success. */
  readonly attempt: number;
  /** Returns the next pause. `hint` is the pause that the server asks for: the first attempt takes it, up to an hour;
      later attempts take the longer of it and the backoff. */
  next(hint?: number): number;
  reset(): void;
}
