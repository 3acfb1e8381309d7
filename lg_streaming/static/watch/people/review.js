// Review of tool calls: what LangChain's human-in-the-loop middleware asks for, and the decisions that it takes.

import { make, readable } from "../dom.js";
import { argumentFields } from "./fields.js";

const ALL = ["approve", "edit", "reject", "respond"];
const OLD = { allow_accept: "approve", allow_edit: "edit", allow_ignore: "reject", allow_respond: "respond" };
const OLD_TYPES = { approve: "accept", reject: "ignore", respond: "response" };
const LABELS = { approve: "Approve", edit: "Edit", reject: "Reject", respond: "Answer in its place" };
const MESSAGES = { reject: "Reason for the model (optional)", respond: "Answer that the model gets" };

// Returns {form, actions} of a prompt's value; null if it is no review.
export function reviewFrom(value, schema) {
  if (Array.isArray(value)) {
    const isReview = value.length > 0 && value.every((one) => one?.action_request !== null && typeof one?.action_request === "object");
    return isReview ? { form: "list", actions: value.map(oldAction) } : null;
  }
  if (value?.type === "tool_approval" && typeof value.name === "string") {
    const types = (schema?.oneOf ?? schema?.anyOf ?? []).map((one) => one.properties?.type?.const).filter((one) => ALL.includes(one));
    return { form: "single", actions: [action(value, types.length > 0 ? types : ALL, null)] };
  }
  if (!Array.isArray(value?.action_requests) || value.action_requests.length === 0) return null;
  const configs = new Map((value.review_configs ?? []).map((one) => [one.action_name, one]));
  const actions = value.action_requests.map((request) => {
    const { allowed_decisions: allowed = ALL, args_schema: argsSchema = null } = configs.get(request.name ?? request.action) ?? {};
    return action(request, ALL.filter((one) => allowed.includes(one)), argsSchema);
  });
  return { form: "batched", actions };
}

// What a prompt asks, in a line; of a review, not the arguments.
export function questionOf({ text, value, schema }) {
  const review = reviewFrom(value, schema);
  if (review === null) return readable(text);
  const { actions } = review;
  return actions.length === 1 ? `Run the tool ${actions[0].name}?` : `Run these ${actions.length} tools?`;
}

function action(request, allowed, schema) {
  return {
    name: request.name ?? request.action ?? "", args: request.args ?? request.arguments ?? {}, description: request.description ?? "",
    allowed, schema,
  };
}

function oldAction({ action_request: request, config = {}, description }) {
  const allowed = Object.entries(OLD).filter(([key]) => config?.[key]).map(([, type]) => type);
  return action({ ...request, name: request.action ?? request.name, description }, allowed, null);
}

// Returns the fields of all decisions, how to read them, and which verdicts hold for all: true, false.
export function reviewFields({ form, actions }, id) {
  const decisions = actions.map((one, index) => decisionField(one, `${id}-decision-${index}`));
  const read = () => {
    const made = decisions.map((one) => one.read()).map((one) => (form === "list" ? oldDecision(one) : one));
    return form === "batched" ? { decisions: made } : form === "list" ? made : made[0];
  };
  const isForAll = (type) => actions.every(({ allowed }) => allowed.includes(type));
  const hasVerdict = [...(isForAll("approve") ? [true] : []), ...(isForAll("reject") ? [false] : [])];
  return { elements: decisions.map(({ element }) => element), read, hasVerdict };
}

function decisionField({ name, args, allowed, schema }, id) {
  const element = make("fieldset", "decision");
  element.append(make("legend", "", name));
  const edit = argumentFields(args, schema, `${id}-args`);
  const message = make("textarea");
  const about = make("label", "");
  message.rows = 2;
  message.id = about.htmlFor = `${id}-message`;
  const types = make("div", "types");
  const inputs = allowed.map((type) => {
    const input = make("input");
    Object.assign(input, { type: "radio", name: id, value: type, id: `${id}-${type}` });
    const label = make("label");
    label.append(input, LABELS[type]);
    types.append(label);
    input.addEventListener("change", () => show(type));
    return input;
  });
  const show = (type) => {
    edit.element.hidden = type !== "edit";
    about.hidden = message.hidden = !(type in MESSAGES);
    about.textContent = MESSAGES[type] ?? "";
  };
  show(null);
  element.append(types, edit.element, about, message);
  const read = () => {
    const type = inputs.find(({ checked }) => checked)?.value;
    if (type === undefined) throw new Error(`Decide about ${name}`);
    if (type === "edit") return { type, edited_action: { name, args: edit.read() } };
    return { type, ...(type in MESSAGES && (message.value !== "" || type === "respond") && { message: message.value }) };
  };
  return { element, read };
}

function oldDecision({ type, edited_action: edited, message }) {
  if (type === "edit") return { type, args: { action: edited.name, args: edited.args } };
  return { type: OLD_TYPES[type], args: message ?? null };
}

// The text of an answer with decisions; null for another answer.
export function decisionText(answer) {
  const decisions = answer?.decisions ?? (Array.isArray(answer) ? answer : [answer]);
  if (!decisions.every((one) => typeof one?.type === "string")) return null;
  const texts = { __proto__: null, approve: "approved", accept: "approved", reject: "rejected", ignore: "rejected", edit: "edited", respond: "answered", response: "answered" };
  return decisions.map(({ type, message, edited_action: edited }) => {
    const what = edited ? `: ${JSON.stringify(edited.args)}` : message ? `: ${message}` : "";
    return `${texts[type] ?? type}${what}`;
  }).join(", ");
}
