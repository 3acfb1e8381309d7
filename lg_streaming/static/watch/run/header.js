// Header of a run's page: question, state, figures, progress, open questions, and what a caller may do with the run.

import { make, money, plain, seconds, setParts, setText, showText } from "../dom.js";
import { failureElement } from "../nodes/failure.js";
import { questionOf } from "../people/review.js";
import { copyText } from "../text/copy.js";
import { Run } from "./run.js";
import { timeLeft } from "./times.js";
import { Usage } from "./usage.js";

const CONNECTIONS = {
  connecting: "connecting",
  connected: "live",
  polling: "live, by polling",
  reconnecting: "connection lost, trying again",
  ended: "all updates received",
  failed: "not connected",
  closed: "closed",
};
const REFUSED = [4030, 4096]; // the caller may not, or the run cannot: the button goes
const CREDENTIALS = [4010, 4011];
const ADVICE = {
  4010: "Log in to watch this run, or open the link that its owner sent you.",
  4011: "Your login has ended. Log in again to watch this run.",
  4030: "There is no run with this id, or you may not read it. Ask its owner for a link, or choose another run.",
};

export class RunHeader {
  #store;
  #client;
  #caller;
  #page;
  #document;
  #parts = {};
  #facts = null; // state of the execution, as the server describes it
  #failure = null; // that is shown
  #refused = new Set(); // commands that the server refused

  // retry() connects at once.
  constructor(store, client, page, caller, document, retry = () => location.reload()) {
    this.#store = store;
    this.#caller = caller;
    this.#client = client;
    this.#page = page;
    this.#document = document;
    for (const { id } of document.querySelectorAll("[id]")) this.#parts[id] = document.getElementById(id);
    const { cancel, pause, resume, retry: again, "cancel-dialog": dialog, "cancel-yes": yes, "cancel-no": no } = this.#parts;
    cancel.addEventListener("click", () => dialog.showModal());
    no.addEventListener("click", () => dialog.close());
    yes.addEventListener("click", () => (dialog.close(), this.#command(cancel, () => client.cancel(page.execution, "cancelled on the page"))));
    pause.addEventListener("click", () => this.#command(pause, () => client.pause(page.execution, "paused on the page")));
    resume.addEventListener("click", () => this.#command(resume, () => client.resume(page.execution)));
    again.addEventListener("click", retry);
    this.#parts["copy-link"].addEventListener("click", ({ currentTarget }) => copyText(currentTarget, location.href.split("#")[0]));
    this.#parts["copy-id"].addEventListener("click", ({ currentTarget }) => copyText(currentTarget, page.execution));
    this.#parts.questions.addEventListener("click", () => document.getElementById("tab-run")?.click());
  }

  // Begins to draw.
  start() {
    this.#store.addEventListener("draw", () => this.#draw());
    this.#store.addEventListener("state", () => this.#describe());
    setInterval(() => this.#draw(), 500);
    this.#draw();
  }

  announce(text) {
    setText(this.#parts.announcer, text);
  }

  // Asks the server for title and owner, which the log may no longer have.
  async #describe() {
    if (this.#facts !== null || !["connected", "polling", "ended"].includes(this.#store.connection.state)) return;
    this.#facts = await this.#client.execution(this.#page.execution).catch(() => null);
    this.#store.changed();
  }

  #draw() {
    const run = this.#store.use(Run);
    const usage = this.#store.use(Usage);
    const now = this.#store.now;
    this.#drawTitle(run, usage);
    this.#drawConnection();
    this.#drawState(run);
    setText(this.#parts.updates, run.updates.toLocaleString("en"));
    setText(this.#parts.tokens, usage.total ? `${usage.input.toLocaleString("en")} in, ${usage.output.toLocaleString("en")} out` : run.tokens.toLocaleString("en"));
    this.#parts["cost-figure"].hidden = usage.cost === null;
    if (usage.cost !== null) setText(this.#parts.cost, money(usage.cost));
    if (run.firstTokenAt !== null) setText(this.#parts["first-token"], seconds((run.firstTokenAt - run.startedAt) / 1000));
    if (run.startedAt !== null) setText(this.#parts.duration, seconds(Math.max(0, now - run.startedAt) / 1000));
    this.#drawFailure(run);
    this.#drawOverall(run, now);
    this.#drawQuestions(run);
    this.#drawActions(run);
  }

  #drawTitle(run, usage) {
    const { execution } = this.#page;
    const title = run.title ?? this.#facts?.title ?? null;
    setText(this.#parts.title, title ?? execution);
    this.#parts.title.title = plain(title ?? execution);
    const facts = [
      title === null ? null : execution,
      run.graph ?? this.#facts?.graph ?? null,
      this.#facts?.owner ? `by ${this.#facts.owner}` : null,
      usage.modelText || null,
    ];
    setParts(this.#parts.facts, facts.filter(Boolean));
  }

  #drawConnection() {
    const { connection, offline, "offline-text": text, retry } = this.#parts;
    const { state, error } = this.#store.connection;
    connection.dataset.state = state;
    setText(connection, state === "failed" && error ? error.message : CONNECTIONS[state]);
    const isTold = this.#caller.by === "link" && CREDENTIALS.includes(error?.code); // by the notice on top
    offline.hidden = (state !== "reconnecting" && state !== "failed") || isTold;
    this.#document.documentElement.toggleAttribute("data-refused", state === "failed" && error?.code in ADVICE && this.#store.use(Run).updates === 0);
    retry.hidden = state === "failed" && error?.code in ADVICE;
    const lost = "The connection is lost. What you see may be out of date; the page goes on where it was.";
    setText(text, state === "failed" ? (ADVICE[error?.code] ?? `The page is not connected: ${error?.message ?? "the server refused it"}.`) : lost);
  }

  #drawState(run) {
    const { "run-state": pill } = this.#parts;
    const text = stateText(run);
    const count = run.openPrompts.length;
    const title = `${count > 0 ? `(${count}) ` : ""}${this.#parts.title.textContent} · ${text}`;
    if (this.#document.title !== title) this.#document.title = title;
    if (pill.textContent === text) return;
    pill.dataset.state = run.state;
    setText(pill, text);
    if (run.state !== "waiting") this.announce(`Run ${text}`);
  }

  #drawFailure({ failure, reason, stillRunning }) {
    const { "run-error": error, "run-reason": note } = this.#parts;
    error.hidden = failure === null;
    if (failure !== this.#failure) {
      this.#failure = failure;
      error.replaceChildren(...(failure === null ? [] : failureElement(failure).childNodes));
    }
    const working = stillRunning.length > 0 ? `Still at work, because they cannot be stopped: ${stillRunning.join(", ")}` : null;
    showText(note, [reason, working].filter(Boolean).join(" · "));
  }

  #drawOverall({ overall, state }, now) {
    this.#parts.overall.hidden = overall === null;
    if (overall === null) return;
    this.#parts["overall-bar"].value = overall.progress;
    const { completed_nodes: completed, total_nodes: total } = overall;
    const parts = [`${Math.floor(overall.progress)} %`, ...(completed >= 0 && total >= 0 ? [`${completed} of ${total} nodes`] : [])];
    if (state === "running" && overall.progress < 100) parts.push(...timeLeft(overall, now));
    setText(this.#parts["overall-text"], parts.join(" · "));
  }

  // Links to the open prompts.
  #drawQuestions({ openPrompts: open }) {
    const { questions } = this.#parts;
    questions.hidden = open.length === 0;
    const links = [...questions.children];
    if (links.length === open.length && links.every((link, index) => link.prompt === open[index])) return;
    questions.replaceChildren(...open.map((prompt) => {
      const link = this.#document.createElement("a");
      link.append(this.#caller.may("control") ? "Waits for you: " : "Waits for an answer: ", make("bdi", "", questionOf(prompt)));
      link.href = `#prompt-${prompt.number}`;
      return Object.assign(link, { prompt });
    }));
  }

  #drawActions(run) {
    const { cancel, pause, resume, "cancel-dialog": dialog } = this.#parts;
    const mayControl = this.#caller.may("control");
    const isOpen = mayControl && this.#store.isLive && run.state !== "waiting" && run.endedAt === null;
    cancel.hidden = !isOpen || this.#refused.has(cancel);
    pause.hidden = !isOpen || run.state !== "running" || this.#refused.has(pause);
    resume.hidden = !isOpen || run.state !== "paused" || this.#refused.has(resume);
    if (!isOpen) dialog.close();
  }

  async #command(button, action) {
    const { "command-error": error } = this.#parts;
    button.disabled = true;
    showText(error, "");
    try {
      await action();
    } catch (refusal) {
      showText(error, refusal.message);
      if (REFUSED.includes(refusal.code)) this.#refused.add(button);
    }
    button.disabled = false;
    this.#store.changed();
  }
}

export function stateText({ state, place, openPrompts }) {
  if (state === "interrupted" && openPrompts.length > 0) return "waits for you";
  return state === "queued" && place !== null ? `queued, place ${place}` : state;
}
