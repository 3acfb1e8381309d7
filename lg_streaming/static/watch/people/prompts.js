// A question to a human, with its answer.

import { make, readable, seconds, showText } from "../dom.js";

const VERDICTS = { approval: ["Approve", "Reject"], confirmation: ["Yes", "No"] };

export class PromptCard {
  #prompt;
  #respond;
  #isMine = false;

  // respond(promptId, answer) sends an answer.
  constructor(prompt, id, respond) {
    this.#prompt = prompt;
    this.#respond = respond;
    this.element = make("section", "prompt");
    this.element.id = id;
    this.element.tabIndex = -1;
    this.element.setAttribute("aria-labelledby", `${id}-text`);
    this.text = make("h2", "", readable(prompt.text));
    this.text.id = `${id}-text`;
    const value = make("pre", "", typeof prompt.value === "object" ? readable(prompt.value) : "");
    value.hidden = value.textContent === "";
    this.form = make("form", "answers");
    this.form.addEventListener("submit", (event) => event.preventDefault());
    this.form.append(...this.#fields(id));
    this.hint = make("p", "hint");
    this.outcome = make("p", "outcome");
    this.error = make("p", "error");
    this.error.setAttribute("role", "alert");
    const head = make("p", "eyebrow");
    head.append(make("bdi", "", prompt.node ?? "The run"), " asks");
    this.element.append(head, this.text, value, this.form, this.hint, this.error, this.outcome);
    this.#fail(prompt.error);
  }

  draw(now) {
    const { state, expiresAt, fallback } = this.#prompt;
    if (this.element.dataset.state !== state) this.#enter(state);
    if (state !== "open" || expiresAt === null) return;
    const left = seconds(Math.max(0, expiresAt - now) / 1000);
    const then = fallback === undefined ? "closes" : `answers itself with “${readable(fallback) || "nothing"}”`;
    showText(this.hint, `The question ${then} in ${left}`);
  }

  #enter(state) {
    const hadFocus = this.form.contains(document.activeElement);
    this.element.dataset.state = state;
    this.form.hidden = state !== "open";
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
    return verdict ?? (readable(answer) || "No answer");
  }

  #fields(id) {
    const { type, choices, required } = this.#prompt;
    const verdicts = VERDICTS[type]?.map((label, index) => this.#button(label, () => index === 0));
    const fields = choices ? choices.map((choice) => this.#button(readable(choice), () => choice)) : (verdicts ?? this.#input(id));
    return required ? fields : [...fields, this.#button("Skip", () => null)];
  }

  #button(label, answer) {
    const button = make("button", "button", label);
    button.type = "button";
    button.addEventListener("click", () => this.#send(answer));
    return button;
  }

  #input(id) {
    const { schema } = this.#prompt;
    const isJson = schema !== null && schema.type !== "string";
    const label = make("label", "", isJson ? "Answer, as JSON" : "Answer");
    const input = make("textarea");
    input.id = label.htmlFor = `${id}-answer`;
    input.rows = 2;
    return [label, input, this.#button("Send", () => (isJson ? JSON.parse(input.value) : input.value))];
  }

  async #send(answer) {
    this.#isMine = true;
    this.#fail("");
    this.#enable(false);
    try {
      await this.#respond(this.#prompt.id, answer());
    } catch (error) {
      this.#isMine = false;
      if (this.#prompt.state === "open") this.#fail(error.message);
      else showText(this.outcome, this.#outcome()); // another reader was first
      this.#enable(true);
    }
  }

  #fail(message) {
    showText(this.error, message);
  }

  #enable(isEnabled) {
    for (const button of this.form.querySelectorAll("button")) button.disabled = !isEnabled;
  }
}
