// The form that starts a run of one of the graphs that the caller may start.

import { make, showText } from "../dom.js";
import { addressOf } from "../session.js";
import { FieldError, makeField } from "./fields.js";

const PLACE = /(?:^|; )((?:input|context)[^\s:;]*): ([^;]+)/; // a field in the message of a refusal
const ID = { type: "string", maxLength: 256, pattern: "id" };

export class StartDialog {
  #client;
  #graphs = [];
  #dialog = make("dialog", "start");
  #form = make("form");
  #choice = make("select");
  #fields = make("div", "start-fields");
  #error = make("p", "error");
  #submit = button("button primary", "Start", "submit");
  #options;
  #ids = {};
  #parts = {};

  constructor(client) {
    this.#client = client;
    const heading = make("h2", "", "New run");
    heading.id = "start-title";
    this.#dialog.setAttribute("aria-labelledby", heading.id);
    this.#error.setAttribute("role", "alert");
    this.#error.dir = "auto";
    this.#error.hidden = true;
    this.#form.noValidate = true;
    const label = make("label", "start-field");
    this.#choice.name = "graph";
    label.append(make("span", "field-name", "Graph"), this.#choice);
    this.#choice.addEventListener("change", () => this.#draw());
    this.#form.addEventListener("submit", (event) => (event.preventDefault(), this.#start()));
    const close = button("button", "Close");
    close.addEventListener("click", () => this.#dialog.close());
    const buttons = make("p", "answers");
    buttons.append(this.#submit, close);
    this.#options = make("details", "start-options");
    this.#form.append(heading, this.#error, label, this.#fields, this.#options, buttons);
    this.#dialog.append(this.#form);
    document.body.append(this.#dialog);
  }

  // Reads the graphs; resolves to them.
  async load() {
    this.#graphs = await this.#client.graphs().catch(() => []);
    return this.#graphs;
  }

  open() {
    if (this.#choice.options.length !== this.#graphs.length) {
      this.#choice.replaceChildren(...this.#graphs.map(({ name }) => Object.assign(make("option", "", name), { value: name })));
      this.#draw();
    }
    this.#dialog.showModal();
    const first = this.#graphs.length > 1 ? this.#choice : this.#fields.querySelector("input, textarea, select");
    first?.focus();
  }

  #draw() {
    const graph = this.#graphs.find(({ name }) => name === this.#choice.value);
    const schemas = { input: graph.input_schema ?? {}, context: graph.context_schema };
    this.#parts = {};
    for (const [name, schema] of Object.entries(schemas)) {
      if (schema !== null && schema !== undefined) this.#parts[name] = makeField(name, titled(schema, name), { required: name === "input" || Boolean(schema.required?.length) });
    }
    this.#fields.replaceChildren(...Object.values(this.#parts).map(({ element }) => element));
    this.#ids = {
      executionId: makeField("Execution id", { ...ID, description: "A new one, if empty." }),
      threadId: makeField("Thread id", { ...ID, description: "The execution's id, if empty." }),
    };
    this.#options.replaceChildren(make("summary", "", "Options"), ...Object.values(this.#ids).map(({ element }) => element));
    showText(this.#error, "");
  }

  async #start() {
    showText(this.#error, "");
    const values = this.#read();
    if (values === null) return;
    const { input, ...options } = values;
    this.#submit.disabled = true;
    try {
      const { execution_id: id } = await this.#client.start(this.#choice.value, input ?? {}, options);
      location.assign(addressOf(id));
    } catch (error) {
      this.#refuse(error);
    }
    this.#submit.disabled = false;
  }

  // Returns the values of all fields; null if one does not fit, which then has the focus.
  #read() {
    try {
      const all = Object.entries({ ...this.#parts, ...this.#ids });
      return Object.fromEntries(all.map(([name, field]) => [name, field.value()]));
    } catch (error) {
      if (!(error instanceof FieldError)) throw error;
      this.#point(error.field, error.message);
      return null;
    }
  }

  // Shows a refusal of the server at the field that it names, or else on top.
  #refuse(error) {
    const [, path, reason] = PLACE.exec(error.message) ?? [];
    const part = path && this.#parts[path.split(".")[0]];
    if (part) this.#point(part.find(path), reason);
    else showText(this.#error, error.message);
  }

  #point(field, message) {
    field.explain(message);
    field.focus();
  }
}

// Input and context have no title of their own for people.
function titled(schema, name) {
  return { ...schema, title: name === "input" ? "Input" : "Context" };
}

function button(name, text, type = "button") {
  return Object.assign(make("button", name, text), { type });
}
