// Uses all of lg-streaming.d.ts; it is compiled, and never run. Each line under @ts-expect-error must not compile.
import {
  Backoff, StreamingError, TextAssembly, createClient, messageTree, nodePath, subscribe,
  type Branch, type Client, type ClientOptions, type Gap, type Graph, type Message, type StartOptions, type StartedRun,
  type State, type StateDetail, type SubscribeOptions, type Subscription, type Update,
} from "lg-streaming";

const client: Client = createClient({
  url: new URL("https://example.com/live/"),
  transport: "auto",
  token: async () => "a token",
  backoff: { initial: 500, max: 10_000, factor: 2, jitter: 0.5, random: Math.random },
  maxAttempts: 10,
  storage: sessionStorage,
  fetch,
  EventSource,
  WebSocket,
});
createClient({ ticket: (executionId: string) => executionId, withCredentials: true, storage: null });

const options: SubscribeOptions = {
  events: ["token", "task:*"],
  nodeIds: ["write"],
  agentTypes: ["researcher"],
  namespaces: ["supervisor/**"],
  until: "interrupted",
  after: "latest",
  follow: true,
  merge: true,
  gap: "fail",
  resume: "my-key",
  signal: AbortSignal.timeout(1000),
  onUpdate(update: Update) {
    const number: number = update.metadata.sequence_number;
    const run: string | undefined = update.metadata.run_id;
    console.log(update.type, update.data.content, number, run);
  },
  onUpdates: (updates) => updates.map(({ type }) => type.toUpperCase()),
  onText: (message: Message, all: readonly Message[]) => console.log(message.text.length, all.length),
  onGap: ({ from, to, reason }: Gap) => console.log(from ?? 0, to ?? 0, reason.length),
  onState(state: State, { error, delay }: StateDetail) {
    if (state === "failed") console.log(error?.code, delay?.toFixed());
  },
  onError: (error) => console.log(error.codeName, error.retryable, error instanceof StreamingError),
};
const subscription: Subscription = client.subscribe("exec-1", options);
const position: string | null = subscription.position;
const done: Promise<void> = subscription.done;
subscribe("exec-1", { ...options, url: "/", pollInterval: 500, openTimeout: 1, upgradeInterval: 1 }).close();
console.log(position, done, subscription.executionId, subscription.messages.at(-1)?.complete);

const answered: Promise<{ prompt_id: string }> = client.respond("exec-1", "prompt-1", { any: ["thing"] });
const graphs: Promise<Graph[]> = client.graphs();
const startOptions: StartOptions = {
  executionId: "alice/1", threadId: "alice", config: { tags: ["a"] }, context: { any: "thing" }, metadata: { a: 1 },
  ifRunning: "enqueue", onDisconnect: "cancel", deadline: 60_000, idempotencyKey: "order-7",
};
const started: Promise<StartedRun> = client.start("research", { question: "Why?" }, startOptions);
const steered: Promise<{ execution_id: string }>[] = [
  client.pause("exec-1", "a look"), client.resume("exec-1"), client.inject("exec-1", { tone: "short" }, { asNode: "plan" }),
];
console.log(graphs, started, steered);
const shared: Promise<{ link: string; expires_at: string }> = client.link("exec-1", { expiresIn: 60_000 });
const cancelled: Promise<{ cancelled: boolean }> = client.cancel("exec-1", "enough");
console.log(answered, cancelled, shared, new Backoff({ jitter: 0 }).next(100).toFixed());

const assembly = TextAssembly.from(new TextAssembly().toJSON());
assembly.changes().concat(assembly.messages).map(({ id }) => id);
const changed: Message | undefined = assembly.add({} as Update<{ content: string }>);
console.log(changed);

const tree: Branch[] = messageTree(assembly.messages);
console.log(tree[0]?.inside[0]?.messages[0]?.path, tree[0]?.agentType, nodePath("agent:1|model:2"));

// @ts-expect-error: an option that there is not
createClient({ tokne: "t" });
// @ts-expect-error: an option that there is not
client.subscribe("exec-1", { event: ["token"] });
// @ts-expect-error: an option that there is not
client.start("research", {}, { execution_id: "alice/1" });
// @ts-expect-error: not a list
client.subscribe("exec-1", { events: "token" });
// @ts-expect-error: no such transport
createClient({ transport: "carrier pigeon" });
// @ts-expect-error: a message is never changed
subscription.messages[0].text = "";
// @ts-expect-error: the state is the subscription's own
subscription.state = "ended";
// @ts-expect-error: no such state
const state: State = "open";
console.log(state);

// The options of the types are those of the module: both lists are put in by the test.
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : never) : never;
export const sameClientOptions: Same<keyof ClientOptions, CLIENT_OPTIONS> = true;
export const sameSubscribeOptions: Same<keyof SubscribeOptions, SUBSCRIBE_OPTIONS> = true;
export const sameStartOptions: Same<keyof StartOptions, START_OPTIONS> = true;
