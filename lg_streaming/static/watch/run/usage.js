// Tokens, cost and models of a run, folded from its updates.

const LISTED_MODELS = 3;

export class Usage {
  input = 0;
  output = 0;
  total = 0;
  cost = null; // in the currency of the program; null: unknown
  models = [];
  #counted = new Set(); // messages whose call has reported its usage
  #unmatched = new Map(); // usages that the other type of update may repeat, with their number

  apply({ type, data, metadata }) {
    if (type !== "llm_complete" && type !== "usage" && type !== "llm_start") return;
    if (data?.model && !this.models.includes(data.model)) this.models.push(data.model);
    if (Number.isFinite(data?.cost)) this.cost = (this.cost ?? 0) + data.cost;
    const usage = type === "usage" ? data : data?.usage;
    const message = data?.message_id ?? metadata.message_id;
    if (type === "llm_start" || !usage || (message !== undefined && this.#counted.has(message))) return;
    if (message !== undefined) this.#counted.add(message);
    const { input_tokens: input = 0, output_tokens: output = 0, total_tokens: total = input + output } = usage;
    if ((type === "llm_complete" || message === undefined) && this.#isRepeated(type, [metadata.node_id, metadata.namespace, input, output, total])) return;
    this.input += input ?? 0;
    this.output += output ?? 0;
    this.total += total ?? 0;
  }

  // A program reports the cost of a captured call by a usage that names no message: the numbers match them.
  #isRepeated(type, place) {
    const key = JSON.stringify(place);
    const other = `${type === "usage" ? "llm_complete" : "usage"} ${key}`;
    const waiting = this.#unmatched.get(other) ?? 0;
    if (waiting > 0) this.#unmatched.set(other, waiting - 1);
    else this.#unmatched.set(`${type} ${key}`, (this.#unmatched.get(`${type} ${key}`) ?? 0) + 1);
    return waiting > 0;
  }

  get modelText() {
    const more = this.models.length - LISTED_MODELS;
    return [...this.models.slice(0, LISTED_MODELS), ...(more > 0 ? [`${more} more`] : [])].join(", ");
  }
}
