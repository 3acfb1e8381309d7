// The types of updates, of the other messages of the server, and of its answers. Made by tools/update-types from the
// schemas of the wire: a change belongs there.

import type { TypedUpdate, Update } from "../lg-streaming.js";

/** Data of `agent:…`: the guide to agents lists the fields that each step adds. */
export interface AgentData {
  agent_id: string;
  status?: "idle" | "busy" | "paused" | "stopped" | "error" | null;
  agent_type?: string | null;
  name?: string | null;
  task_id?: string | null;
  content?: string | null;
  level?: "debug" | "info" | "warn" | "error" | "fatal" | null;
  message?: string | null;
  logger?: string | null;
  context?: Record<string, unknown> | null;
  exception?: unknown;
  metrics?: Record<string, number> | null;
  healthy?: boolean | null;
  score?: number | null;
  issues?: string[] | null;
  last_check?: string | null;
  metadata?: Record<string, unknown> | null;
  error?: unknown;
  reason?: string | null;
  uptime_s?: number | null;
  [field: string]: unknown;
}

/** `auth_expiring`: send `authenticate` with a fresh token. */
export interface AuthExpiring {
  in_s: number;
}

/** `connection_status`: once, right after connecting. */
export interface ConnectionStatus {
  /** `authentication_required`: send `authenticate` within `login_timeout_s`. */
  status?: "connected" | "authentication_required";
  connection_id: string;
  server_time: string;
  heartbeat_interval_s: number | null;
  login_timeout_s?: number | null;
  protocol?: number;
  /** Reasons why clients may miss executions; absent: none. `several_processes`: the processes share no log. */
  warnings?: "several_processes"[] | null;
}

/** Data of `custom`: an event that a program defines. */
export interface CustomData {
  name: string;
  data?: unknown;
  [field: string]: unknown;
}

/** `message`: something for this connection alone, in no execution and without a position. */
export interface DirectMessage {
  type: string;
  data: unknown;
  timestamp: string;
}

/** An error, wherever it appears: in an answer, as an `error` message, as an HTTP body. */
export interface ErrorBody {
  code: number;
  name: string;
  message: string;
  retryable: boolean;
  retry_after_ms?: number | null;
  execution_id?: string | null;
  /** Facts for programs, such as the limit that was reached. */
  details?: Record<string, unknown> | null;
}

/** Data of `error`. */
export interface ErrorData {
  message: string;
  type?: string | null;
  code?: number | string | null;
  /** Decorator option whose function failed. */
  option?: string | null;
  node_id?: string | null;
  [field: string]: unknown;
}

/** Nodes and edges of the graph of an execution's last run. */
export interface ExecutionGraphInfo {
  name: string;
  nodes: GraphNode[];
  edges: GraphEdge[];
  /** True for an `@entrypoint`, whose tasks are known only when they begin. */
  functional: boolean;
}

/** The state of an execution. */
export interface ExecutionInfo {
  execution_id: string;
  state: "running" | "interrupted" | "completed" | "failed" | "cancelled" | "abandoned";
  /** The first question of the last run, or the title that the program gave it. */
  title: string | null;
  /** The name of the graph of the last run. */
  graph: string | null;
  owner: string | null;
  /** The position of its last update. */
  position: string;
  /** The first sequence number that is still kept. */
  oldest: number;
  /** The start of the last run. */
  started_at: string;
  updated_at: string;
  /** The end of the last run; null while it is open. */
  ended_at: string | null;
  /** Progress of the last run, 0 to 100, if it reports any. */
  progress: number | null;
  /** The usage of models in the last run so far; null if none is known. */
  usage: UsageInfo | null;
  /** Metadata of the last run; often empty. */
  metadata: Record<string, unknown>;
}

/** A page of executions, in the order of their ids or the newest start first. */
export interface Executions {
  executions: ExecutionInfo[];
  /** Start of the next page; null on the last one. A page before it may be short, or empty. */
  next_cursor: string | null;
}

/** Execution and checkpoint from which a run goes on in a new execution. */
export interface ForkedFrom {
  execution_id: string;
  checkpoint_id: string;
  [field: string]: unknown;
}

/** Data of `gap`: updates that the log no longer keeps. */
export interface GapData {
  from?: number | null;
  to?: number | null;
  reason: "evicted" | "epoch_changed" | "future_position";
  [field: string]: unknown;
}

/** `gap`: updates the reader asked for are gone. */
export interface GapMessage {
  execution_id: string;
  from: number;
  to: number | null;
  reason: "evicted" | "epoch_changed" | "future_position";
}

/** An edge of a graph. */
export interface GraphEdge {
  source: string;
  target: string;
  /** True for one of several alternatives, which a router chooses. */
  conditional: boolean;
  /** The router's answer, where it is not the target's name. */
  label?: string | null;
}

/** A node of a graph. */
export interface GraphNode {
  /** Its name, behind those of the nodes that it is inside of: `research:search`. */
  id: string;
  name: string;
  kind: "node" | "start" | "end" | "subgraph";
  /** The node of the subgraph that it is part of; absent: none. */
  parent?: string | null;
}

/** `heartbeat`: the head of each execution this connection watches. */
export interface Heartbeat {
  timestamp: string;
  positions: Record<string, string>;
}

/** Data of `human_prompt`. */
export interface HumanPromptData {
  /** Id of LangGraph's interrupt, or one of the program's own. */
  prompt_id: string;
  prompt: string;
  type: "approval" | "input" | "choice" | "confirmation";
  choices?: unknown[] | null;
  /** Seconds after which it closes without an answer. */
  timeout_s?: number | null;
  /** Time of that, in seconds since 1970. */
  expires_at?: number | null;
  /** Answer after the timeout. */
  default?: unknown;
  /** False: `null` is an answer too. */
  required?: boolean | null;
  /** JSON Schema of the answer. */
  schema?: Record<string, unknown> | null;
  metadata?: Record<string, unknown> | null;
  /** Argument of `interrupt`. */
  value?: unknown;
  node_id?: string | null;
  namespace?: string | null;
  tool_call_id?: string | null;
  /** Reason why the node asks again. */
  error?: string | null;
  [field: string]: unknown;
}

/** Data of `human_response`. */
export interface HumanResponseData {
  prompt_id: string;
  response: unknown;
  /** The person who answered: the subject of the token. */
  responded_by?: string | null;
  /** True if there was no answer in time: the response is the default. */
  timed_out?: boolean | null;
  [field: string]: unknown;
}

/** Data of `input_injected`. */
export interface InputInjectedData {
  values: unknown;
  as_node?: string | null;
  [field: string]: unknown;
}

/** One question of a run that waits for a human. */
export interface Interruption {
  id?: string | null;
  /** Argument of `interrupt`: the question. */
  value?: unknown;
  /** LangGraph's checkpoint namespace of the node that asks. */
  namespace?: string | null;
  /** JSON Schema of the answer. */
  schema?: Record<string, unknown> | null;
  [field: string]: unknown;
}

/** Data of `source_documents`, `used_tools` and `artifacts`: a list. */
export type ListData = unknown[];

/** Data of `log`: a line for people. */
export interface LogData {
  level: string;
  message: string;
  context?: Record<string, unknown> | null;
  [field: string]: unknown;
}

/** Data of `message`: a whole message. */
export interface MessageData {
  role: string;
  content: unknown;
  created_at?: string | null;
  item?: unknown;
  [field: string]: unknown;
}

/** Data of `messages`: the messages that a node returned. */
export interface MessagesData {
  messages: unknown[];
  [field: string]: unknown;
}

/** Origin of an update. The user's keys are siblings of these. */
export interface Metadata {
  /** UTC, such as `2026-11-20T20:00:00.123Z`. */
  timestamp: string;
  /** 1, 2, 3 … without gaps. */
  sequence_number: number;
  execution_id: string;
  /** Epoch of the log that the number belongs to. */
  epoch: string;
  run_id?: string;
  node_id?: string;
  /** LangGraph's checkpoint namespace of the node. */
  namespace?: string;
  /** Number of the node's attempt. */
  attempt?: number;
  agent_type?: string;
  task_id?: string;
  request_id?: string;
  tool_call_id?: string;
  message_id?: string;
  category?: string;
  traceparent?: string;
  /** Absent: `medium`. */
  priority?: "low" | "medium" | "high" | "critical";
  /** The first sequence number of the updates that were merged into this one. */
  merged_from?: number;
  [field: string]: unknown;
}

/** Data of `milestone`. */
export interface MilestoneData {
  milestone: number | string;
  progress?: number | null;
  [field: string]: unknown;
}

/** Data of `llm_start`, `llm_complete` and `llm_error`. */
export interface ModelCallData {
  model?: string | null;
  provider?: string | null;
  response?: string | null;
  response_truncated?: boolean | null;
  error_type?: string | null;
  code?: number | string | null;
  will_retry?: boolean | null;
  retry_attempt?: number | null;
  duration_s?: number | null;
  finish_reason?: string | null;
  usage?: Record<string, unknown> | null;
  /** Number of answers of the call, if more than one; the first is published. */
  answers?: number | null;
  /** True if the call was cancelled, or its reader stopped; its text is valid. */
  cancelled?: boolean | null;
  /** Ids under which pieces of this message were published before its id was known. */
  replaces?: string[] | null;
  error?: unknown;
  [field: string]: unknown;
}

/** Data of `node_start`, `node_complete`, `node_error`, `node_interrupted` and `node_cached`. */
export interface NodeData {
  node_id: string;
  node_name?: string | null;
  result?: unknown;
  duration_s?: number | null;
  error?: unknown;
  /** Number of the try, from 1, in `node_start` and `node_error`. */
  attempt?: number | null;
  /** True if LangGraph's retry policy of the node makes another try, in `node_error`. */
  will_retry?: boolean | null;
  /** Input of the node, in `node_error` and with the setting `debug`; up to 16 KiB of it. */
  input?: unknown;
  [field: string]: unknown;
}

/** Place where a run was started: the execution, its run, and the node and the tool call in it. */
export interface Parent {
  execution_id: string;
  run_id?: string | null;
  node_id?: string | null;
  tool_call_id?: string | null;
  [field: string]: unknown;
}

/** Data of `progress`. */
export interface ProgressData {
  /** 0 to 100. */
  progress: number;
  current?: number | null;
  total?: number | null;
  eta_s?: number | null;
  rate?: number | null;
  elapsed_s?: number | null;
  status?: string | null;
  text?: string | null;
  [field: string]: unknown;
}

/** `server_restart`: the connection is about to close; come back after the delay. */
export interface ServerRestart {
  retry_ms: number;
}

/** Data of `state`. */
export interface StateData {
  /** State of the graph; absent if it is larger than `runs.state_bytes`. */
  values?: unknown;
  /** Nodes of the next step. */
  next?: string[] | null;
  checkpoint_id?: string | null;
  parent_checkpoint_id?: string | null;
  /** Origin of the checkpoint: `input` (the input waits to be applied), `loop`, `update` or `fork`. */
  source?: string | null;
  /** Number of the step; -1 for the input. */
  step?: number | null;
  [field: string]: unknown;
}

/** The state of a graph after a step, redacted. */
export interface StateInfo {
  checkpoint_id: string;
  parent_checkpoint_id: string | null;
  checkpoint: Record<string, unknown>;
  parent_checkpoint: Record<string, unknown> | null;
  created_at: string | null;
  values: unknown;
  /** The nodes of the next step; empty at the end. */
  next: string[];
  /** The nodes of the next step: `id`, `name`, `error`, `interrupts`, `result`. */
  tasks: Record<string, unknown>[];
  interrupts: Record<string, unknown>[];
  /** `source`, `step`, `parents`, `run_id`. */
  metadata: Record<string, unknown>;
  /** True if a node of the next step has failed. */
  has_errors: boolean;
  /** The bytes of the fields that were cut; absent: none. The route of one state returns it whole. */
  truncated?: Record<string, number> | null;
}

/** A page of the states of an execution's thread, newest first. */
export interface States {
  execution_id: string;
  graph: string;
  states: StateInfo[];
  /** The value of `before` for the next page; null on the last one. */
  next: string | null;
}

/** Data of `status`. */
export interface StatusData {
  status: string;
  [field: string]: unknown;
}

/** `subscription_closed`: no more updates of this execution will come. */
export interface SubscriptionClosed {
  execution_id: string;
  reason: "ended" | "gap" | "forbidden" | "closed";
}

/** Data of `task:…`: the guide to tasks lists the fields that each step adds. */
export interface TaskData {
  task_id: string;
  status: "pending" | "queued" | "assigned" | "running" | "completed" | "failed" | "cancelled";
  name?: string | null;
  description?: string | null;
  priority?: "low" | "medium" | "high" | "critical" | null;
  agent_id?: string | null;
  dependencies?: string[] | null;
  progress?: number | null;
  current_step?: string | null;
  current_step_number?: number | null;
  total_steps?: number | null;
  eta_s?: number | null;
  data?: unknown;
  /** Type of the task, or in `task:intermediate` one of `partial`, `checkpoint`, `artifact`. */
  type?: string | null;
  sequence?: number | null;
  is_final?: boolean | null;
  metrics?: Record<string, number> | null;
  metadata?: Record<string, unknown> | null;
  result?: unknown;
  error?: unknown;
  reason?: string | null;
  waited_s?: number | null;
  duration_s?: number | null;
  [field: string]: unknown;
}

/** Data of `token` and `thinking`: joined in order, the contents of one message are the model's text. */
export interface TokenData {
  content: string;
  index?: number | null;
  role?: string | null;
  total_tokens?: number | null;
  message_id?: string | null;
  /** Number of this part, from 1, of a piece that is too large for one update. */
  part?: number | null;
  /** Number of parts of that piece. */
  parts?: number | null;
  [field: string]: unknown;
}

/** Data of `tool_start`, `tool_complete`, `tool_error`, `tool_interrupted` and `tool_args`. */
export interface ToolData {
  tool?: string | null;
  tool_call_id?: string | null;
  input?: unknown;
  output?: unknown;
  duration_s?: number | null;
  error?: unknown;
  /** Questions for a human, in `tool_interrupted`. */
  interrupts?: Interruption[] | null;
  [field: string]: unknown;
}

/** `updates`: several, to a subscription with `batch`. */
export interface Updates {
  execution_id: string;
  updates: Update[];
}

/** Data of `updates_lost`: updates that a producer dropped before they reached the log. */
export interface UpdatesLostData {
  count: number;
  reason: string;
  [field: string]: unknown;
}

/** Data of `usage`. */
export interface UsageData {
  model?: string | null;
  input_tokens?: number | null;
  output_tokens?: number | null;
  total_tokens?: number | null;
  /** Cost, in a currency that the program chooses. */
  cost?: number | null;
  [field: string]: unknown;
}

/** The usage of models: tokens, and a cost in the currency of the program. */
export interface UsageInfo {
  input_tokens: number;
  output_tokens: number;
  total_tokens: number;
  /** The sum of the known costs; null if none is known. */
  cost: number | null;
}

/** Data of `workflow_start` and of the types that end or interrupt a run. */
export interface WorkflowData {
  /** Id of the run, at its start. */
  run_id?: string | null;
  name?: string | null;
  /** Name of the graph, at the start of a run. */
  graph?: string | null;
  /** First question of the run in one line, or the title in its metadata; at its start. */
  title?: string | null;
  metadata?: Record<string, unknown> | null;
  /** Result, in `workflow_complete`. */
  result?: unknown;
  error?: unknown;
  /** Reason of a cancellation or an abandonment. */
  reason?: string | null;
  /** Ids of the nodes that were still at work at a `workflow_cancelled`, because they could not be stopped. */
  still_running?: string[] | null;
  /** Interrupts of the graph, in `workflow_interrupted`. */
  interrupts?: Interruption[] | null;
  /** Open prompts, in `workflow_interrupted`. */
  prompts?: HumanPromptData[] | null;
  /** Place of the start, if it is inside another execution. */
  parent?: Parent | null;
  /** LangGraph's thread, at the start, where it is not the execution's id. */
  thread_id?: string | null;
  /** Origin of a run that goes on from a checkpoint of another execution, at its start. */
  forked_from?: ForkedFrom | null;
  [field: string]: unknown;
}

/** Data of `workflow_progress`. */
export interface WorkflowProgressData {
  total_nodes: number;
  completed_nodes: number;
  current_node?: string | null;
  current_node_name?: string | null;
  progress: number;
  eta_s?: number | null;
  [field: string]: unknown;
}

/** Data of updates, by type. A program adds its types by merging of declarations. */
export interface UpdateData {
  token: TokenData;
  thinking: TokenData;
  progress: ProgressData;
  milestone: MilestoneData;
  workflow_progress: WorkflowProgressData;
  status: StatusData;
  workflow_start: WorkflowData;
  workflow_complete: WorkflowData;
  workflow_error: WorkflowData;
  workflow_cancelled: WorkflowData;
  workflow_interrupted: WorkflowData;
  workflow_abandoned: WorkflowData;
  /** State with which a node was called. */
  values: unknown;
  /** Update of the state that a node returned: `{node_id: update}`. */
  updates: unknown;
  /** Event of LangChain that a program publishes. */
  events: unknown;
  messages: MessagesData;
  /** Whole message: `{role, content}`. */
  message: MessageData;
  /** Log line for people: `{level, message}`. */
  log: LogData;
  /** Facts for the search for errors, with the lowest priority. */
  debug: unknown;
  custom: CustomData;
  error: ErrorData;
  /** Further facts about the run. */
  metadata: unknown;
  node_start: NodeData;
  node_complete: NodeData;
  node_error: NodeData;
  node_interrupted: NodeData;
  /** Node that LangGraph answered from its cache: the node did not run. */
  node_cached: NodeData;
  tool_start: ToolData;
  tool_complete: ToolData;
  tool_error: ToolData;
  /** Tool that paused for a human; it starts again when the run resumes. */
  tool_interrupted: ToolData;
  tool_args: ToolData;
  llm_start: ModelCallData;
  llm_complete: ModelCallData;
  llm_error: ModelCallData;
  usage: UsageData;
  human_prompt: HumanPromptData;
  human_response: HumanResponseData;
  /** Update of a run's state that came from outside: `{values, as_node?}`. */
  input_injected: InputInjectedData;
  /** State of a run's graph after a step: `{values?, next?, checkpoint_id?, …}`. */
  state: StateData;
  source_documents: ListData;
  used_tools: ListData;
  artifacts: ListData;
  /** Updates that a producer dropped before they reached the log; `data` is `{count, reason}`. */
  updates_lost: UpdatesLostData;
  /** Missing updates of a reader's range; made for one reader, never in the log. `data`: `{from, to, reason}`. */
  gap: GapData;
  "task:created": TaskData;
  "task:queued": TaskData;
  "task:assigned": TaskData;
  "task:started": TaskData;
  "task:progress": TaskData;
  "task:intermediate": TaskData;
  "task:metrics": TaskData;
  "task:completed": TaskData;
  "task:failed": TaskData;
  "task:cancelled": TaskData;
  "agent:spawned": AgentData;
  "agent:started": AgentData;
  "agent:paused": AgentData;
  "agent:error": AgentData;
  "agent:stopped": AgentData;
  "agent:output:stdout": AgentData;
  "agent:output:stderr": AgentData;
  "agent:log:debug": AgentData;
  "agent:log:info": AgentData;
  "agent:log:warn": AgentData;
  "agent:log:error": AgentData;
  "agent:log:fatal": AgentData;
  "agent:metrics": AgentData;
  "agent:health": AgentData;
}

/** Messages of the server over Socket.IO and WebSocket, by name. */
export interface ServerMessages {
  connection_status: ConnectionStatus;
  token: Update;
  progress: Update;
  status: Update;
  event: Update;
  updates: Updates;
  gap: GapMessage;
  heartbeat: Heartbeat;
  subscription_closed: SubscriptionClosed;
  auth_expiring: AuthExpiring;
  server_restart: ServerRestart;
  error: ErrorBody;
  message: DirectMessage;
}

export type TokenUpdate = TypedUpdate<"token">;
export type ThinkingUpdate = TypedUpdate<"thinking">;
export type ProgressUpdate = TypedUpdate<"progress">;
export type MilestoneUpdate = TypedUpdate<"milestone">;
export type WorkflowProgressUpdate = TypedUpdate<"workflow_progress">;
export type StatusUpdate = TypedUpdate<"status">;
export type WorkflowStartUpdate = TypedUpdate<"workflow_start">;
export type WorkflowCompleteUpdate = TypedUpdate<"workflow_complete">;
export type WorkflowErrorUpdate = TypedUpdate<"workflow_error">;
export type WorkflowCancelledUpdate = TypedUpdate<"workflow_cancelled">;
export type WorkflowInterruptedUpdate = TypedUpdate<"workflow_interrupted">;
export type WorkflowAbandonedUpdate = TypedUpdate<"workflow_abandoned">;
export type ValuesUpdate = TypedUpdate<"values">;
export type UpdatesUpdate = TypedUpdate<"updates">;
export type EventsUpdate = TypedUpdate<"events">;
export type MessagesUpdate = TypedUpdate<"messages">;
export type MessageUpdate = TypedUpdate<"message">;
export type LogUpdate = TypedUpdate<"log">;
export type DebugUpdate = TypedUpdate<"debug">;
export type CustomUpdate = TypedUpdate<"custom">;
export type ErrorUpdate = TypedUpdate<"error">;
export type MetadataUpdate = TypedUpdate<"metadata">;
export type NodeStartUpdate = TypedUpdate<"node_start">;
export type NodeCompleteUpdate = TypedUpdate<"node_complete">;
export type NodeErrorUpdate = TypedUpdate<"node_error">;
export type NodeInterruptedUpdate = TypedUpdate<"node_interrupted">;
export type NodeCachedUpdate = TypedUpdate<"node_cached">;
export type ToolStartUpdate = TypedUpdate<"tool_start">;
export type ToolCompleteUpdate = TypedUpdate<"tool_complete">;
export type ToolErrorUpdate = TypedUpdate<"tool_error">;
export type ToolInterruptedUpdate = TypedUpdate<"tool_interrupted">;
export type ToolArgsUpdate = TypedUpdate<"tool_args">;
export type LlmStartUpdate = TypedUpdate<"llm_start">;
export type LlmCompleteUpdate = TypedUpdate<"llm_complete">;
export type LlmErrorUpdate = TypedUpdate<"llm_error">;
export type UsageUpdate = TypedUpdate<"usage">;
export type HumanPromptUpdate = TypedUpdate<"human_prompt">;
export type HumanResponseUpdate = TypedUpdate<"human_response">;
export type InputInjectedUpdate = TypedUpdate<"input_injected">;
export type StateUpdate = TypedUpdate<"state">;
export type SourceDocumentsUpdate = TypedUpdate<"source_documents">;
export type UsedToolsUpdate = TypedUpdate<"used_tools">;
export type ArtifactsUpdate = TypedUpdate<"artifacts">;
export type UpdatesLostUpdate = TypedUpdate<"updates_lost">;
export type GapUpdate = TypedUpdate<"gap">;
export type TaskCreatedUpdate = TypedUpdate<"task:created">;
export type TaskQueuedUpdate = TypedUpdate<"task:queued">;
export type TaskAssignedUpdate = TypedUpdate<"task:assigned">;
export type TaskStartedUpdate = TypedUpdate<"task:started">;
export type TaskProgressUpdate = TypedUpdate<"task:progress">;
export type TaskIntermediateUpdate = TypedUpdate<"task:intermediate">;
export type TaskMetricsUpdate = TypedUpdate<"task:metrics">;
export type TaskCompletedUpdate = TypedUpdate<"task:completed">;
export type TaskFailedUpdate = TypedUpdate<"task:failed">;
export type TaskCancelledUpdate = TypedUpdate<"task:cancelled">;
export type AgentSpawnedUpdate = TypedUpdate<"agent:spawned">;
export type AgentStartedUpdate = TypedUpdate<"agent:started">;
export type AgentPausedUpdate = TypedUpdate<"agent:paused">;
export type AgentErrorUpdate = TypedUpdate<"agent:error">;
export type AgentStoppedUpdate = TypedUpdate<"agent:stopped">;
export type AgentOutputStdoutUpdate = TypedUpdate<"agent:output:stdout">;
export type AgentOutputStderrUpdate = TypedUpdate<"agent:output:stderr">;
export type AgentLogDebugUpdate = TypedUpdate<"agent:log:debug">;
export type AgentLogInfoUpdate = TypedUpdate<"agent:log:info">;
export type AgentLogWarnUpdate = TypedUpdate<"agent:log:warn">;
export type AgentLogErrorUpdate = TypedUpdate<"agent:log:error">;
export type AgentLogFatalUpdate = TypedUpdate<"agent:log:fatal">;
export type AgentMetricsUpdate = TypedUpdate<"agent:metrics">;
export type AgentHealthUpdate = TypedUpdate<"agent:health">;
