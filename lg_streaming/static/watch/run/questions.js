// Questions to a human, as the updates of a run have them.

// The state of one prompt, from its data.
export function promptFrom(data, number) {
  return {
    number, id: data.prompt_id, text: data.prompt, type: data.type, choices: data.choices ?? null, node: data.node_id ?? null,
    schema: data.schema ?? null, required: data.required !== false, value: data.value ?? null, error: typeof data.error === "string" ? data.error : null,
    expiresAt: data.expires_at === undefined ? null : data.expires_at * 1000, fallback: data.default,
    pauses: false, state: "open", answer: null, by: null, timedOut: false, answeredAt: null,
  };
}

// The prompts of an interruption; of an older server, its interrupts.
export function promptsOf(data) {
  if (Array.isArray(data?.prompts) && data.prompts.length > 0) return data.prompts;
  const interrupts = Array.isArray(data?.interrupts) ? data.interrupts : [];
  return interrupts.map((one) => ({ prompt_id: one?.id, prompt: textOf(one?.value ?? one), type: "input" }));
}

export function questionsOf(data) {
  const interrupts = Array.isArray(data?.interrupts) ? data.interrupts : [];
  return interrupts.map((one) => textOf(one?.value ?? one));
}

// The text of a `human_prompt` in a node; any other question unchanged.
function textOf(question) {
  return question?.human_prompt === undefined ? question : (question.prompt ?? question);
}
