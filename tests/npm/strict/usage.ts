// Uses the types of updates. It is compiled, and never run; wrong.ts has lines that must not compile.
import {
  createClient,
  subscribe,
  type AnyUpdate,
  type CustomUpdate,
  type HumanPromptData,
  type ServerMessages,
  type SubscribeOptions,
  type TokenUpdate,
  type TypedUpdate,
  type Update,
  type UpdateData,
} from "lg-streaming";

declare module "lg-streaming" {
  interface UpdateData {
    /** A type of this program. */
    invoice: { total: number };
  }
}

export function line(update: Update): string {
  switch (update.type) {
    case "token":
    case "thinking":
      return piece(update);
    case "usage":
      return `${(update.data.cost ?? 0).toFixed(2)} for ${update.data.total_tokens ?? "?"} tokens`;
    case "workflow_start":
      return update.data.parent?.execution_id ?? update.metadata.execution_id;
    case "human_prompt":
      return question(update.data);
    case "source_documents":
      return `${update.data.length} documents`;
    case "task:progress":
      return `${update.data.task_id} ${update.data.status === "running"}`;
    case "custom":
      return own(update);
    case "invoice":
      return update.data.total.toFixed(2);
    default:
      return update.type.toUpperCase();
  }
}

const piece = ({ data, metadata }: TokenUpdate | TypedUpdate<"thinking">) => `${metadata.sequence_number} ${data.content.trim()}`;
const own = ({ data }: CustomUpdate) => (typeof data.data === "string" ? data.data : data.name);
const question = ({ prompt, choices, default: fallback }: HumanPromptData) => [prompt, ...(choices ?? []), fallback].join();

// Names that no declaration has: by the type argument, or by a comparison as a string.
export function undeclared(update: Update, other: Update<{ content: string }>, any: AnyUpdate): string {
  const name: string = update.type;
  if (name === "a-name") return update.data.of.any.shape;
  return other.type === "another" ? other.data.content : any.data.whatever;
}

// `update.data` without a comparison is any value, so that code from before the types compiles.
export const options = (token: string | undefined, after: string | null): SubscribeOptions => ({
  after: after ?? undefined,
  onUpdate: ({ type, data, metadata }) => console.log(type, data.content, metadata.run_id?.length, metadata["own"]),
  onUpdates: (updates) => updates.map(({ type, data }) => type === "log" && data.message.length),
});
export const follow = (token: string | undefined) => subscribe("exec-1", { token, ...options(token, null) });

export const gap: ServerMessages["gap"]["reason"] = "evicted";
export const names: (keyof UpdateData)[] = ["token", "agent:log:warn", "invoice"];
type NodeId = Extract<Update, { type: "node_start" }>["data"]["node_id"];
export const node: NodeId = "write";

// Answers of the server.
export async function totals(): Promise<number> {
  const client = createClient();
  const { title, usage, ended_at: end } = await client.execution("exec-1");
  const { nodes, edges } = await client.graph("exec-1");
  const inside = nodes.filter(({ kind, parent }) => kind === "node" && parent !== undefined);
  return (title ?? end ?? "").length + (usage?.total_tokens ?? 0) + inside.length + edges.filter(({ conditional }) => conditional).length;
}
