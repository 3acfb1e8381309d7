// Options and their valid values.

const anyOf = (...values) => [values.map((value) => `"${value}"`).join(", "), (value) => values.includes(value)];
const kind = (...names) => [names.join(" or "), (value) => names.includes(typeof value)];
const FUNCTION = kind("function");
const BOOLEAN = kind("boolean");
const LIST = ["a list of texts", (value) => Array.isArray(value) && value.every((one) => typeof one === "string")];
const COUNT = ["a number, 0 or more", (value) => typeof value === "number" && value >= 0];
const OBJECT = ["an object", (value) => typeof value === "object" && value !== null];
const ANY = ["any value", () => true];
// A browser treats a longer time as 0.
const DURATION = ["a number, 0 to 2147483647", (value) => COUNT[1](value) && value < 2 ** 31];

export const CLIENT_OPTIONS = {
  url: ["an address", (value) => typeof value === "string" || value instanceof URL],
  transport: anyOf("auto", "sse", "websocket", "polling"),
  socket: ["a socket of socket.io-client", (value) => typeof value?.emit === "function"],
  token: kind("string", "function"),
  ticket: FUNCTION,
  withCredentials: BOOLEAN,
  storage: ["a Storage or null", (value) => value === null || typeof value?.getItem === "function"],
  backoff: ["an object", (value) => typeof value === "object"],
  maxAttempts: COUNT,
  openTimeout: DURATION,
  pollInterval: DURATION,
  upgradeInterval: DURATION,
  fetch: FUNCTION,
  EventSource: FUNCTION,
  WebSocket: FUNCTION,
};

export const BACKOFF_OPTIONS = {
  initial: DURATION,
  max: DURATION,
  factor: COUNT,
  jitter: COUNT,
  random: FUNCTION,
};

// Filters: the name on the wire, and the valid values.
export const FILTERS = {
  events: ["events", LIST],
  nodeIds: ["node_ids", LIST],
  agentTypes: ["agent_types", LIST],
  namespaces: ["namespaces", LIST],
  categories: ["categories", LIST],
  minPriority: ["min_priority", anyOf("low", "medium", "high", "critical")],
  since: ["since", kind("string")],
  until: ["until", kind("string")],
};

export const SUBSCRIBE_OPTIONS = {
  ...Object.fromEntries(Object.entries(FILTERS).map(([name, [, fits]]) => [name, fits])),
  after: ['a position or "latest"', (value) => typeof value === "string"],
  follow: BOOLEAN,
  merge: BOOLEAN,
  gap: anyOf("oldest", "tail", "fail"),
  resume: kind("boolean", "string"),
  signal: ["an AbortSignal", (value) => typeof value?.addEventListener === "function"],
  onUpdate: FUNCTION,
  onUpdates: FUNCTION,
  onText: FUNCTION,
  onGap: FUNCTION,
  onInitial: FUNCTION,
  onState: FUNCTION,
  onError: FUNCTION,
};

// Filters of a list, also of a watch of executions.
const LISTED = {
  state: LIST,
  owner: kind("string"),
  text: kind("string"),
  signal: ["an AbortSignal", (value) => typeof value?.addEventListener === "function"],
};

export const LIST_OPTIONS = {
  ...LISTED,
  order: anyOf("id", "newest"),
  limit: COUNT,
  cursor: kind("string"),
  ids: LIST,
};

export const WATCH_OPTIONS = {
  ...LISTED,
  executions: LIST,
  shown: FUNCTION,
  interval: DURATION,
  onChange: FUNCTION,
  onState: FUNCTION,
  onError: FUNCTION,
};

// Returns the options of a list as the pairs of its query. An empty owner or text does not filter.
export function listQuery(options) {
  const { state = [], ids = [], signal: _, ...others } = checked(options, LIST_OPTIONS, "executions");
  const plain = Object.entries(others).filter(([, value]) => value !== "");
  return [...plain, ...(state.length ? [["state", state.join(",")]] : []), ...ids.map((id) => ["id", checkedId(id)])];
}

// Options of a start: the name on the wire, and the valid values.
const STARTS = {
  executionId: ["execution_id", kind("string")],
  threadId: ["thread_id", kind("string")],
  config: ["config", OBJECT],
  context: ["context", ANY],
  metadata: ["metadata", OBJECT],
  ifRunning: ["if_running", anyOf("reject", "enqueue", "cancel", "rollback")],
  onDisconnect: ["on_disconnect", anyOf("continue", "cancel")],
  deadline: ["deadline", COUNT],
  idempotencyKey: ["idempotency_key", kind("string")],
};

export const START_OPTIONS = Object.fromEntries(Object.entries(STARTS).map(([name, [, fits]]) => [name, fits]));

// Returns the options of a start as fields of its message.
export function startFields(options) {
  const given = Object.entries(checked(options, START_OPTIONS, "start"));
  const fields = Object.fromEntries(given.map(([name, value]) => [STARTS[name][0], value]));
  if (fields.deadline !== undefined) fields.deadline /= 1000; // the wire has seconds
  return fields;
}

// Returns validated options; an unknown name throws.
export function checked(given, known, what) {
  const options = {};
  for (const [name, value] of Object.entries(given)) {
    if (!Object.hasOwn(known, name)) {
      throw new TypeError(`${what} has no option "${name}": use ${Object.keys(known).join(", ")}`);
    }
    if (value === undefined) continue;
    const [expected, fits] = known[name];
    if (!fits(value)) throw new TypeError(`the option ${name} of ${what} is ${expected}`);
    options[name] = value;
  }
  return options;
}

export function checkedId(executionId) {
  if (typeof executionId === "string" && /^(?!\.{1,2}$)[!-\ud7ff\ue000-\u{10ffff}]{1,256}$/u.test(executionId)) return executionId;
  throw new TypeError("an execution id is a text of 1 to 256 printable characters without spaces, and not . or ..");
}

