// The view of a run that a component renders.

import type { Branch, Gap, Message, State, StreamingError, Update } from "lg-streaming";

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

export const IDLE: View = {
  state: "idle", status: "unknown", text: "", messages: [], tree: [], progress: null, nodes: [], prompts: [], updates: [],
  gap: null, error: null,
};

export const CONNECTING: View = { ...IDLE, state: "connecting" };
