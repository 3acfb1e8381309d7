// Notices above and below the rows: new runs that wait, more runs, errors, and the reason of an empty list.

import { make, setText, showText } from "../dom.js";
import { caller, page } from "../session.js";
import { kindOf, resolve } from "../start/schema.js";

export class Notices {
  above = make("div", "notices");
  below = make("div", "notices");
  graphs = []; // that the caller may start
  #list;
  #filters;
  #fresh = button("fresh");
  #more = button("");
  #error = make("div", "error");
  #message = make("span");
  #empty = make("div", "empty");
  #hint = make("p", "hint");

  constructor(list, filters, start) {
    this.#list = list;
    this.#filters = filters;
    this.#fresh.addEventListener("click", () => {
      document.activeElement?.blur();
      scrollTo(0, 0);
      list.arrange();
    });
    this.#more.addEventListener("click", () => list.more());
    const again = button("", "Try again");
    again.addEventListener("click", () => list.retry());
    this.#error.setAttribute("role", "alert");
    this.#error.append(this.#message, again);
    this.start = start;
    this.above.append(this.#error, this.#fresh);
    this.below.append(this.#hint, this.#more, this.#empty);
  }

  get count() {
    const { order, hasMore, fresh } = this.#list;
    const shown = `${order.length.toLocaleString("en")} ${order.length === 1 ? "run" : "runs"}${hasMore ? ", more can be loaded" : ""}`;
    return fresh.size > 0 ? `${shown}, ${fresh.size} new` : shown;
  }

  draw() {
    const { order, fresh, hasMore, isLoading, error, filter } = this.#list;
    this.#error.hidden = error === null;
    if (error !== null) setText(this.#message, explain(error));
    this.#fresh.hidden = fresh.size === 0;
    setText(this.#fresh, `${fresh.size} new`);
    this.#more.hidden = !hasMore;
    this.#more.disabled = isLoading;
    setText(this.#more, isLoading ? "Loading…" : "Load more");
    showText(this.#hint, hasMore && filter.sort !== "started" ? `Sorted are the ${order.length.toLocaleString("en")} loaded runs.` : "");
    const isEmpty = order.length === 0 && error === null && !isLoading && !hasMore;
    this.#empty.hidden = !isEmpty && !(isLoading && order.length === 0);
    const kind = isLoading ? "loading" : this.#filters.isActive ? "nothing" : `none ${this.graphs.length}`;
    if (this.#empty.hidden || this.#empty.dataset.kind === kind) return;
    this.#empty.dataset.kind = kind;
    this.#empty.replaceChildren(...this.#reason(kind));
  }

  #reason(kind) {
    if (kind === "loading") return [make("p", "", "Loading…")];
    if (kind === "nothing") {
      const clear = button("", "Clear the filters");
      clear.addEventListener("click", () => this.#filters.clear());
      return [make("p", "", "No run matches these filters."), clear];
    }
    const mayStart = this.graphs.length > 0;
    const how = mayStart ? "Start one here, or from a program:" : "A program starts one:";
    const code = make("pre");
    code.append(make("code", "", exampleStart(this.graphs[0], new URL(page.gateway, location.href).href, caller.login === "in")));
    const parts = [make("p", "", "There are no runs yet."), make("p", "", how), code];
    if (mayStart) {
      const start = button("primary", "New run");
      start.addEventListener("click", () => this.start());
      parts.splice(1, 0, start);
    }
    return parts;
  }
}

// Returns lines that start a run of a graph, or of one with a usual name.
function exampleStart({ name, input_schema: schema } = { name: "research" }, url, needsToken) {
  const input = JSON.stringify(exampleInput(schema ?? { properties: { question: { type: "string" } } })).replace(":", ": ");
  const token = needsToken ? ' -H "Authorization: Bearer $TOKEN"' : "";
  return `# in the program that has the graph
await streaming.runs.start(${JSON.stringify(name)}, ${input})

# in another one
curl -H 'Content-Type: application/json'${token} ${url}executions \\
  -d '{"graph": ${JSON.stringify(name)}, "input": ${input}}'`;
}

// Returns an input with a question in the first field for one; {} without such a field.
function exampleInput(schema) {
  const fields = Object.entries(schema.properties ?? {}).map(([name, each]) => [name, kindOf(resolve(each, schema), schema)]);
  const [name] = fields.find(([, kind]) => kind === "messages" || kind === "text") ?? [];
  return name === undefined ? {} : { [name]: "Why is the sky blue?" };
}

function explain(error) {
  if (error.isUnauthorized) return "Log in to see runs.";
  if (error.codeName === "unreachable") return "The server cannot be reached.";
  return error.message;
}

function button(name, text = "") {
  const element = make("button", name ? `button ${name}` : "button", text);
  element.type = "button";
  return element;
}
