// Controls of the page: cancel the run, and start another.

import { showText } from "./dom.js";

export class Controls {
  #client;
  #execution;
  #parts = {};
  #graph;

  constructor(client, execution, document) {
    this.#client = client;
    this.#execution = execution;
    for (const { id } of document.querySelectorAll("[id]")) this.#parts[id] = document.getElementById(id);
    const { cancel, "cancel-dialog": dialog, "cancel-yes": yes, "cancel-no": no, ask } = this.#parts;
    cancel.addEventListener("click", () => dialog.showModal());
    no.addEventListener("click", () => dialog.close());
    yes.addEventListener("click", () => (dialog.close(), this.#cancel()));
    ask.addEventListener("submit", (event) => (event.preventDefault(), this.#start()));
    this.#findGraph();
  }

  // Shows the button while the run is open.
  draw(run) {
    const isOpen = run.state !== "waiting" && run.endedAt === null;
    this.#parts.cancel.hidden = !isOpen;
    if (!isOpen) this.#parts["cancel-dialog"].close();
  }

  async #cancel() {
    await this.#try("cancel", "cancel-error", () => this.#client.cancel(this.#execution, "cancelled on the page"));
  }

  async #start() {
    await this.#try("ask-start", "ask-error", async () => {
      const started = await this.#client.start(this.#graph, { question: this.#parts.question.value });
      location.assign(`${this.#client.url}/watch/${encodeURIComponent(started.execution_id)}`);
    });
  }

  // Disables a button for the time of a request, and shows its failure.
  async #try(button, place, request) {
    this.#parts[button].disabled = true;
    showText(this.#parts[place], "");
    try {
      await request();
    } catch (error) {
      showText(this.#parts[place], error.message);
    }
    this.#parts[button].disabled = false;
  }

  // A graph that takes a question can be started here.
  async #findGraph() {
    const graphs = await this.#client.graphs().catch(() => []); // the server may forbid starts
    this.#graph = graphs.find(({ input_schema: schema }) => schema?.properties?.question)?.name;
    this.#parts.ask.hidden = this.#graph === undefined;
  }
}
