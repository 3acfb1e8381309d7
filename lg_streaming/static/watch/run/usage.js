// Tokens, cost and models of a run, folded from its updates.

import { amountOf } from "./fitted.js";

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
    if (amountOf(data?.cost) !== null) this.cost = (this.cost ?? 0) + data.cost;
    const usage = type === "usage" ? data : data?.usage;
    const message = data?.message_id ?? metadata.message_id;
    if (type === "llm_start" || !usage || (message !== undefined && this.#counted.has(message))) return;
    if (message !== undefined) this.#counted.add(message);
    const [input, output] = [amountOf(usage.input_tokens) ?? 0, amountOf(usage.output_tokens) ?? 0];
    const total = amountOf(usage.total_tokens) ?? input + output;
    const place = [metadata.node_id, metadata.namespace, input, output, total];
    if ((type === "llm_complete" || message === undefined) && this.#isRepeated(type, place)) return;
    this.input += input;
    this.output += output;
    this.total += total;
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
