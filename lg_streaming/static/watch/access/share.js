// A read-only link to the run of the page: <lg-share>, a button with its dialog.

import { make, showText } from "../dom.js";
import { moment } from "./account.js";
import { addressWith } from "./link.js";

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const DURATIONS = [[10 * MINUTE, "10 minutes"], [HOUR, "1 hour"], [DAY, "1 day"], [7 * DAY, "7 days"], [30 * DAY, "30 days"]];
const USUAL = DAY;

export class Share extends HTMLElement {
  #client;
  #executionId;
  #longest;
  #parts;

  // `longest`: milliseconds that a link may last; null: no limit.
  setUp(client, executionId, longest) {
    this.#client = client;
    this.#executionId = executionId;
    this.#longest = longest;
  }

  connectedCallback() {
    if (this.firstElementChild !== null) return;
    const open = make("button", "button", "Share");
    open.type = "button";
    open.addEventListener("click", () => this.#open());
    this.append(open);
  }

  #open() {
    this.#parts?.dialog.remove();
    const dialog = make("dialog", "access-share");
    const title = make("h2", "", "Share this run");
    title.id = "share-title";
    dialog.setAttribute("aria-labelledby", title.id);
    const label = make("label", "", "The link works for");
    const choice = make("select");
    choice.id = label.htmlFor = "share-duration";
    choice.append(...this.#durations().map(([time, text]) => new Option(text, time, time === USUAL, time === USUAL)));
    const error = make("p", "error");
    error.setAttribute("role", "alert");
    error.hidden = true;
    const result = make("div", "access-result");
    result.setAttribute("aria-live", "polite");
    const create = make("button", "button primary", "Create a link");
    create.type = "button";
    const close = make("button", "button", "Close");
    close.type = "button";
    close.addEventListener("click", () => dialog.close());
    create.addEventListener("click", () => this.#create());
    dialog.addEventListener("close", () => dialog.remove());
    const buttons = make("p", "answers");
    buttons.append(create, close);
    const about = make("p", "hint", "Everybody who has the link can read this run, without a login, until the link ends. They cannot answer, cancel, or see another run.");
    dialog.append(title, about, label, choice, error, result, buttons);
    this.#parts = { dialog, choice, error, result, create };
    document.body.append(dialog);
    dialog.showModal();
  }

  #durations() {
    const allowed = DURATIONS.filter(([time]) => this.#longest === null || time <= this.#longest);
    return allowed.length > 0 ? allowed : [[this.#longest, `${Math.floor(this.#longest / 1000)} seconds`]];
  }

  async #create() {
    const { choice, error, result, create } = this.#parts;
    create.disabled = true;
    showText(error, "");
    try {
      const { link, expires_at: end } = await this.#client.link(this.#executionId, { expiresIn: Number(choice.value) });
      result.replaceChildren(...this.#shown(addressWith(link), Date.parse(end)));
      result.querySelector("input").select();
    } catch (problem) {
      showText(error, problem.message);
    }
    create.disabled = false;
  }

  #shown(address, end) {
    const label = make("label", "", "Link");
    const field = make("input");
    Object.assign(field, { id: "share-link", type: "text", readOnly: true, value: address });
    label.htmlFor = field.id;
    const copy = make("button", "button", "Copy");
    copy.type = "button";
    copy.addEventListener("click", async () => {
      field.select();
      try {
        await navigator.clipboard.writeText(address);
        copy.textContent = "Copied";
      } catch {
        copy.textContent = "Press Ctrl+C"; // it is selected
      }
    });
    return [label, field, copy, make("p", "hint", `It ends on ${moment(end)}.`)];
  }
}

customElements.define("lg-share", Share);
