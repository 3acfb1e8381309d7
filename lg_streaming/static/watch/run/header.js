// Header of a run's page: question, state, figures, progress, open questions, and what a caller may do with the run.

import { gist, make, money, seconds, setParts, setText, showText } from "../dom.js";
import { Run } from "./run.js";
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
const COPIED = 2000; // milliseconds

export class RunHeader {
  #store;
  #client;
  #caller;
  #page;
  #document;
  #parts = {};
  #facts = null; // state of the execution, as the server describes it

  constructor(store, client, page, caller, document) {
    this.#store = store;
    this.#caller = caller;
    this.#client = client;
    this.#page = page;
    this.#document = document;
    for (const { id } of document.querySelectorAll("[id]")) this.#parts[id] = document.getElementById(id);
    const { cancel, "cancel-dialog": dialog, "cancel-yes": yes, "cancel-no": no, "copy-link": copy } = this.#parts;
    cancel.addEventListener("click", () => dialog.showModal());
    no.addEventListener("click", () => dialog.close());
    yes.addEventListener("click", () => (dialog.close(), this.#cancel()));
    copy.addEventListener("click", () => this.#copy());
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
    this.#drawState(run);
    setText(this.#parts.updates, run.updates.toLocaleString("en"));
    setText(this.#parts.tokens, (usage.total || run.tokens).toLocaleString("en"));
    this.#parts.tokens.title = usage.total ? `${usage.input.toLocaleString("en")} in, ${usage.output.toLocaleString("en")} out` : "";
    this.#parts["cost-figure"].hidden = usage.cost === null;
    if (usage.cost !== null) setText(this.#parts.cost, money(usage.cost));
    if (run.firstTokenAt !== null) setText(this.#parts["first-token"], seconds((run.firstTokenAt - run.startedAt) / 1000));
    if (run.startedAt !== null) setText(this.#parts.duration, seconds(Math.max(0, now - run.startedAt) / 1000));
    showText(this.#parts["run-error"], run.error);
    this.#drawOverall(run, now);
    this.#drawQuestions(run);
    const isOpen = this.#caller.may("control") && this.#store.isLive && run.state !== "waiting" && run.endedAt === null;
    this.#parts.cancel.hidden = !isOpen;
    if (!isOpen) this.#parts["cancel-dialog"].close();
  }

  #drawTitle(run, usage) {
    const { execution } = this.#page;
    const title = run.title ?? this.#facts?.title ?? null;
    setText(this.#parts.title, title ?? execution);
    const facts = [
      title === null ? null : execution,
      run.graph ?? this.#facts?.graph ?? null,
      this.#facts?.owner ? `by ${this.#facts.owner}` : null,
      usage.modelText || null,
    ];
    setParts(this.#parts.facts, facts.filter(Boolean));
  }

  #drawState(run) {
    const { "run-state": pill, connection } = this.#parts;
    const { state, error } = this.#store.connection;
    connection.dataset.state = state;
    setText(connection, state === "failed" && error ? error.message : CONNECTIONS[state]);
    const text = stateText(run);
    if (pill.textContent === text) return;
    pill.dataset.state = run.state;
    setText(pill, text);
    this.#document.title = `${this.#parts.title.textContent} · ${text}`;
    if (run.state !== "waiting") this.announce(`Run ${text}`);
  }

  #drawOverall({ overall, state }, now) {
    this.#parts.overall.hidden = overall === null;
    if (overall === null) return;
    this.#parts["overall-bar"].value = overall.progress;
    const parts = [`${Math.floor(overall.progress)} %`, `${overall.completed_nodes} of ${overall.total_nodes} nodes`];
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
      link.append(this.#caller.may("control") ? "Waits for you: " : "Waits for an answer: ", make("bdi", "", gist(prompt.text)));
      link.href = `#prompt-${prompt.number}`;
      return Object.assign(link, { prompt });
    }));
  }

  async #cancel() {
    this.#parts.cancel.disabled = true;
    showText(this.#parts["cancel-error"], "");
    try {
      await this.#client.cancel(this.#page.execution, "cancelled on the page");
    } catch (error) {
      showText(this.#parts["cancel-error"], error.message);
    }
    this.#parts.cancel.disabled = false;
  }

  async #copy() {
    const { "copy-link": button } = this.#parts;
    try {
      await navigator.clipboard.writeText(location.href.split("#")[0]);
      setText(button, "Copied");
    } catch {
      setText(button, "Copy it from the address bar");
    }
    setTimeout(() => setText(button, "Copy link"), COPIED);
  }
}

export function stateText({ state, place, openPrompts }) {
  if (state === "interrupted" && openPrompts.length > 0) return "waits for you";
  return state === "queued" && place !== null ? `queued, place ${place}` : state;
}

export function timeLeft({ eta_s: eta, at }, now) {
  if (eta === undefined || eta === null) return [];
  return [`about ${seconds(Math.max(0, eta - (now - at) / 1000))} left`];
}
