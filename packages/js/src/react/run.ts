// Folds the updates of an execution into the parts of a view, without React.

import { messageTree, nodePath, TextAssembly } from "lg-streaming";
import type { Gap, Metadata, Update } from "lg-streaming";
import type { NodeView, Problem, Prompt, RunStatus, View } from "./view.js";

const ENDS: Readonly<Record<string, NodeView["state"]>> = {
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

/** A run as JSON. */
interface KeptRun {
  readonly facts: Facts;
  readonly texts: object;
  readonly updates: readonly Update[];
  readonly gap: Gap | null;
}

/** Folds updates into a view. Objects of a view are immutable: changes replace them. */
export class Run {
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

  toJSON(): KeptRun {
    return { facts: this.#facts, texts: this.#texts, updates: this.#updates, gap: this.#gap };
  }

  static from({ facts, texts, updates, gap }: KeptRun) {
    const run = new Run();
    run.#facts = facts;
    run.#texts = TextAssembly.from(texts);
    run.#updates = updates;
    run.#gap = gap;
    return run;
  }

  // The server does not check what a program publishes, so data may lack what its type promises.
  #learn(update: Update) {
    const { run_id: runId } = update.metadata;
    if (runId !== undefined && runId !== this.#facts.runId) this.#facts = { ...NOTHING, runId };
    if (this.#facts.status === "unknown") this.#now({ status: "running" });
    switch (update.type) {
      case "workflow_complete":
      case "workflow_error":
      case "workflow_cancelled":
      case "workflow_abandoned":
        return this.#end(ENDS[update.type]!, update.data);
      case "workflow_interrupted":
        return this.#now({ status: "interrupted" });
      case "workflow_progress":
        return this.#now({ progress: update.data?.progress ?? null, isOverall: true });
      case "progress":
        return this.#progress(update.metadata, update.data?.progress);
      case "human_prompt":
        return this.#open(update.data as unknown as Prompt | null);
      case "human_response":
        return this.#close((prompt) => prompt.prompt_id === update.data?.prompt_id);
      case "status": // the prompts of a graph close with its pause
        if (update.data?.status !== "resumed") return;
        return this.#close((prompt) => prompt.value !== undefined || prompt.node_id !== undefined);
      case "node_start":
      case "node_complete":
      case "node_error":
      case "node_interrupted":
      case "node_cached":
        return this.#turn(update);
    }
  }

  #now(changes: Partial<Facts>) {
    this.#facts = { ...this.#facts, ...changes };
  }

  #end(end: NodeView["state"], data: unknown) {
    const nodes = this.#facts.nodes.map((node) => (node.state === "running" ? { ...node, state: end } : node));
    this.#now({ status: end, error: end === "failed" ? problemOf(data) : null, prompts: [], nodes });
  }

  #progress(metadata: Metadata, progress: number | undefined) {
    if (progress === undefined) return;
    if (!this.#facts.isOverall) this.#now({ progress });
    if (metadata.node_id !== undefined) this.#node(metadata, { progress });
  }

  #open(prompt: Prompt | null) {
    if (prompt?.prompt_id === undefined) return;
    const others = this.#facts.prompts.filter(({ prompt_id: id }) => id !== prompt.prompt_id);
    this.#now({ prompts: [...others, prompt] });
  }

  #close(isClosed: (prompt: Prompt) => boolean) {
    this.#now({ prompts: this.#facts.prompts.filter((prompt) => !isClosed(prompt)) });
  }

  // A node starts, ends or pauses.
  #turn({ type, data, metadata }: Extract<Update, { type: `node_${string}` }>) {
    const isStart = type === "node_start";
    if (isStart && this.#facts.status === "interrupted") this.#now({ status: "running" });
    if (isStart) this.#dropInside(metadata);
    const name = data?.node_name ?? metadata.node_id ?? "";
    const error = type === "node_error" ? problemOf(data).message : null;
    this.#node(metadata, { state: NODE_STATES[type]!, name, error }, isStart);
  }

  // A node begins anew with all its inner nodes, unless it continues after an interruption.
  #dropInside({ namespace }: Metadata) {
    const { nodes } = this.#facts;
    if (namespace === undefined || nodes.some(({ key, state }) => key === namespace && state === "interrupted")) return;
    const isInside = (key: string) => key.startsWith(namespace) && /^[|/]/.test(key.slice(namespace.length));
    this.#now({ nodes: nodes.filter(({ key }) => !isInside(key)) });
  }

  #node(metadata: Metadata, changes: Partial<NodeView>, isNew = false) {
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

function problemOf(data: unknown): Problem {
  const { error, message } = (data ?? {}) as { error?: unknown; message?: unknown };
  if (typeof error === "object" && error !== null && "message" in error) return error as Problem;
  const reason = error ?? message ?? "it failed";
  return { message: typeof reason === "string" ? reason : JSON.stringify(reason) };
}
