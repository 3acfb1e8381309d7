// A question to a human, with the control that fits its answer, and with its answer.

import { make, readable, seconds, showText } from "../dom.js";
import { wordClass } from "../text/words.js";
import { answerField } from "./fields.js";
import { decisionText, questionOf, reviewFields, reviewFrom } from "./review.js";

const VERDICTS = { __proto__: null, approval: ["Approve", "Reject"], confirmation: ["Yes", "No"] };
const MOST_BUTTONS = 6; // choices; more are a list
const WATCHES = "You may watch this run, and not answer for it.";
const FORBIDDEN = 4030;
const TOO_LATE = 4090;

export class PromptCard {
  #prompt;
  #respond;
  #review;
  #mayAnswer;
  #isMine = false;
  #isForbidden = false;

  // respond(promptId, answer) sends an answer; mayAnswer() is true if the caller has the right.
  constructor(prompt, id, respond, mayAnswer = () => true) {
    this.#mayAnswer = mayAnswer;
    this.#prompt = prompt;
    this.#respond = respond;
    this.#review = reviewFrom(prompt.value, prompt.schema);
    this.element = make("section", "prompt");
    this.element.id = id;
    this.element.tabIndex = -1;
    this.element.setAttribute("aria-labelledby", `${id}-text`);
    const question = questionOf(prompt);
    this.text = make("h2", wordClass(question), question);
    this.text.id = `${id}-text`;
    this.text.dir = "auto";
    const hasValue = this.#review === null && prompt.value !== null && typeof prompt.value === "object";
    const value = make("pre", "", hasValue ? readable(prompt.value) : "");
    value.hidden = !hasValue;
    this.actions = make("div", "asked");
    this.actions.append(...(this.#review?.actions ?? []).map(actionElement));
    this.form = make("form", "answers");
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.append(...this.#fields(id));
    this.hint = make("p", "hint");
    this.outcome = make("p", "outcome");
    this.outcome.dir = "auto";
    this.error = make("p", "error");
    this.error.setAttribute("role", "alert");
    const head = make("p", "eyebrow");
    head.append(make("bdi", "", prompt.node ?? "The run"), " asks");
    this.element.append(head, this.text, value, this.actions, this.form, this.hint, this.error, this.outcome);
    this.#fail(prompt.error);
  }

  draw(now) {
    const { state, expiresAt, fallback } = this.#prompt;
    if (this.element.dataset.state !== state) this.#enter(state);
    if (state !== "open") return;
    const isMine = this.#mayAnswer();
    this.form.hidden = !isMine;
    if (!isMine && expiresAt === null) showText(this.hint, WATCHES);
    if (expiresAt === null) return;
    const left = seconds(Math.max(0, expiresAt - now) / 1000);
    const then = fallback === undefined ? "closes" : `answers itself with “${readable(fallback) || "nothing"}”`;
    showText(this.hint, `The question ${then} in ${left}${isMine ? "" : `. ${WATCHES}`}`);
  }

  #enter(state) {
    const hadFocus = this.form.contains(document.activeElement);
    this.element.dataset.state = state;
    this.form.hidden = this.actions.hidden = state !== "open";
    if (state !== "open") [this.hint, this.error].forEach((one) => showText(one, ""));
    showText(this.outcome, state === "open" ? "" : this.#outcome());
    if (hadFocus && this.form.hidden) this.element.focus();
  }

  #outcome() {
    const { state, answer, by, timedOut, answeredAt } = this.#prompt;
    if (state === "closed") return "Not answered";
    const at = new Date(answeredAt).toLocaleTimeString("en-GB");
    const person = this.#isMine ? "you" : by;
    const how = timedOut ? "no answer in time," : person ? `answered by ${person} at` : "answered at";
    return `${this.#label(answer)} · ${how} ${at}`;
  }

  #label(answer) {
    const verdict = VERDICTS[this.#prompt.type]?.[[true, false].indexOf(answer)];
    return verdict ?? (this.#review && decisionText(answer)) ?? (readable(answer) || "No answer");
  }

  #fields(id) {
    const fields = this.#review === null ? this.#answerFields(id) : this.#reviewFields(id);
    return this.#prompt.required ? fields : [...fields, this.#button("Skip", () => null)];
  }

  #reviewFields(id) {
    const { elements, read, hasVerdict } = reviewFields(this.#review, id);
    const isOne = this.#review.actions.length === 1;
    const verdicts = hasVerdict.map((verdict) => this.#button(`${verdict ? "Approve" : "Reject"}${isOne ? "" : " all"}`, () => verdict));
    const more = make("details", "review");
    more.append(make("summary", "", isOne ? "Edit, or answer with a message" : "Decide about each"), ...elements, this.#button("Send", read));
    more.open = verdicts.length === 0;
    return [...verdicts, more];
  }

  #answerFields(id) {
    const { type, choices, schema } = this.#prompt;
    if (choices !== null && choices.length <= MOST_BUTTONS) return choices.map((choice) => this.#button(readable(choice), () => choice));
    if (choices !== null) return this.#field(answerField({ enum: choices }, id));
    if (schema === null && VERDICTS[type]) return VERDICTS[type].map((label, index) => this.#button(label, () => index === 0));
    if (schema?.type === "boolean") return (VERDICTS[type] ?? VERDICTS.confirmation).map((label, index) => this.#button(label, () => index === 0));
    return this.#field(answerField(schema, id));
  }

  #field({ element, read }) {
    return [element, this.#button("Send", read)];
  }

  #button(label, answer) {
    const button = make("button", "button", label);
    button.type = "button";
    button.addEventListener("click", () => this.#send(answer));
    return button;
  }

  async #send(answer) {
    this.#isMine = true;
    this.#fail("");
    try {
      const value = answer(); // of fields that are still enabled: only those are checked
      this.#enable(false);
      await this.#respond(this.#prompt.id, value);
    } catch (error) {
      this.#isMine = false;
      this.#isForbidden = error.code === FORBIDDEN;
      if (this.#prompt.state !== "open") showText(this.outcome, this.#outcome()); // another reader was first
      else this.#fail(this.#reason(error));
      this.#enable(!this.#isForbidden);
    }
  }

  #reason({ code, message }) {
    if (code === FORBIDDEN) return "You may not answer this question. Somebody with the right to control this run can.";
    return code === TOO_LATE ? "Somebody else was first: the question no longer waits for an answer." : message;
  }

  #fail(message) {
    showText(this.error, message);
  }

  #enable(isEnabled) {
    for (const one of this.form.querySelectorAll("button, input, textarea, select")) one.disabled = !isEnabled;
  }
}

function actionElement({ name, args, description }) {
  const element = make("div", "action");
  const isGenerated = description.startsWith("Tool execution requires approval");
  if (description !== "" && !isGenerated) element.append(make("p", "", description));
  element.append(make("p", "tool-name", name), make("pre", "", readable(args)));
  return element;
}
