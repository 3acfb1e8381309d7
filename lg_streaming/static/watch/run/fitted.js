// Updates as folds read them: known fields of the data have the types of the wire.
//
// The server passes on all that a program publishes. A field of another type is left out here, like one that is missing,
// so that folds and views need not check each of them. The Events tab shows the updates as they came.

const TYPES = /^(workflow|node|tool|llm|human)_|^(token|thinking|message|progress|milestone|status|usage)$/;
const CHECKS = {
  text: (value) => typeof value === "string",
  label: (value) => typeof value === "string" || Number.isFinite(value),
  number: Number.isFinite,
  list: Array.isArray,
  object: isObject,
  objects: (value) => Array.isArray(value) && value.every(isObject),
};
const FIELDS = {
  text: `prompt_id message_id tool_call_id node_id namespace node_name agent_type current_node current_node_name tool model
    prompt type title graph name reason role status text message responded_by`,
  label: "milestone",
  number: `progress total current eta_s rate elapsed_s duration_s total_nodes completed_nodes batch_size place expires_at timeout_s
    input_tokens output_tokens total_tokens cost`,
  list: "choices blocks interrupts replaces still_running",
  object: "metadata schema usage",
  objects: "prompts",
};
const KINDS = new Map(
  Object.entries(FIELDS).flatMap(([kind, names]) => names.split(/\s+/).map((name) => [name, CHECKS[kind]])),
);

// Returns the update itself if its data fits.
export function fitted(update) {
  const { type, data } = update;
  if (!TYPES.test(type)) return update;
  if (!isObject(data)) return { ...update, data: {} };
  const names = Object.keys(data);
  if (names.every((name) => fits(name, data[name]))) return update;
  const kept = names.filter((name) => fits(name, data[name])).map((name) => [name, data[name]]);
  return { ...update, data: Object.fromEntries(kept) };
}

// A number that can be an amount, by the server's rule; null for another value.
export function amountOf(value) {
  return Number.isFinite(value) && value >= 0 && value <= Number.MAX_SAFE_INTEGER ? value : null;
}

function fits(name, value) {
  return KINDS.get(name)?.(value) ?? true;
}

function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}
