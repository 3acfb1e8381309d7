// The login of a page: before it reads, and again after the login has ended. What the page shows stays.

import { make, setText, showText } from "../dom.js";
import { dropLink } from "./link.js";

const EXPIRED = 4011;

// Returns once the caller is known, after a login if one is needed.
export async function admit(caller, page) {
  for (;;) {
    try {
      await caller.load();
    } catch (error) {
      if (error.status === undefined) return; // the page itself reports that the server is away
      await new LoginDialog(caller, page, { message: error.message }).ask();
      continue;
    }
    if (caller.login !== "needed") return;
    await new LoginDialog(caller, page).ask();
    return;
  }
}

// Shows on top of the page that the login has ended, and offers a new one.
export function watchLogin(caller, page) {
  const notice = make("div", "access-notice");
  notice.hidden = true;
  notice.setAttribute("role", "alert");
  const text = make("span");
  const button = make("button", "button", "Log in");
  button.type = "button";
  notice.append(text, button);
  document.body.prepend(notice);
  button.addEventListener("click", async () => {
    await caller.load().catch(() => {}); // another tab may have logged in
    const isIn = caller.login !== "needed" || (await new LoginDialog(caller, page, { canClose: true }).ask());
    if (!isIn) return;
    notice.hidden = true;
    caller.comeBack();
  });
  caller.addEventListener("lost", () => {
    notice.hidden = false;
    setText(text, `${endOf(caller)} What was read stays here.`);
  });
}

function endOf({ hasLink, hasExpired, by }) {
  if (hasLink) return hasExpired ? "This link has expired." : "This link is no longer valid.";
  if (by === "none") return "A login is needed.";
  return hasExpired ? "Your login has expired." : "Your login is no longer valid.";
}

class LoginDialog {
  #caller;
  #page;
  #dialog = make("dialog", "access-login");
  #error = make("p", "error");
  #settle;
  #isIn = false;
  #canClose;

  constructor(caller, page, { canClose = false, message = "" } = {}) {
    this.#caller = caller;
    this.#page = page;
    this.#canClose = canClose;
    const title = make("h2", "", caller.hasLink ? "This link opens nothing" : "Log in");
    title.id = "login-title";
    this.#dialog.setAttribute("aria-labelledby", title.id);
    this.#error.setAttribute("role", "alert");
    this.#error.dir = "auto";
    showText(this.#error, message || explain(caller));
    this.#dialog.append(title, this.#error, ...this.#ways(message));
    // Escape closes a dialog also where nothing else is to be seen.
    this.#dialog.addEventListener("cancel", (event) => this.#canClose || event.preventDefault());
    this.#dialog.addEventListener("close", () => {
      if (!this.#isIn && !this.#canClose) return this.#dialog.showModal();
      this.#dialog.remove();
      return this.#settle(this.#isIn);
    });
  }

  // Shows the dialog; returns whether the caller is logged in.
  ask() {
    document.body.append(this.#dialog);
    return new Promise((resolve) => {
      this.#settle = resolve;
      this.#dialog.showModal();
    });
  }

  #ways(message) {
    const { hasLink, form, loginUrl } = this.#caller;
    if (message) return [this.#buttons(button("Try again", () => location.reload()))];
    if (hasLink) return [hint("Ask its sender for a new link."), this.#buttons(button("Log in instead", () => this.#leaveLink()))];
    if (form) return [this.#form()];
    if (loginUrl !== null) return [hint("The application logs you in."), this.#buttons(anchor("Log in", addressOf(loginUrl)))];
    return [hint("Log in to the application, and then reload this page."), this.#buttons(button("Reload", () => location.reload()))];
  }

  #form() {
    const form = make("form", "access-form");
    const label = make("label", "", "Token");
    const input = make("input");
    Object.assign(input, { id: "login-token", type: "password", name: "token", required: true, autocomplete: "off", spellcheck: false, autofocus: true });
    label.htmlFor = input.id;
    const send = make("button", "button primary", "Log in");
    send.type = "submit";
    form.append(label, input, hint("The token stays in a cookie that scripts cannot read, until it expires."), this.#buttons(send));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      send.disabled = true;
      showText(this.#error, "");
      try {
        await this.#caller.logIn(input.value.trim().replace(/^bearer\s+/i, ""));
        this.#finish();
      } catch (error) {
        showText(this.#error, problem(error));
        input.select();
      }
      send.disabled = false;
    });
    return form;
  }

  #buttons(...buttons) {
    const row = make("p", "answers");
    const close = button("Not now", () => this.#dialog.close());
    row.append(...buttons, ...(this.#canClose ? [close] : []));
    return row;
  }

  #leaveLink() {
    dropLink(this.#page);
    location.reload();
  }

  #finish() {
    this.#isIn = true;
    this.#dialog.close();
  }
}

// Why credentials that the page already had were refused.
function explain({ reason, hasLink }) {
  if (reason === null) return "";
  if (reason.code !== EXPIRED) return hasLink ? "The link is not valid." : "";
  return hasLink ? "The link has expired." : "Your login has expired.";
}

function problem(error) {
  if (error.status === 401) return error.code === EXPIRED ? "This token has expired." : "This token is not valid.";
  if (error.status === 429) return "Too many attempts. Wait a minute, and try again.";
  if (error.status === undefined && error instanceof TypeError) return "The server cannot be reached.";
  return error.message;
}

function addressOf(template) {
  return template.replaceAll("{next}", encodeURIComponent(location.pathname + location.search));
}

function hint(text) {
  return make("p", "hint", text);
}

function button(label, action) {
  const element = make("button", "button", label);
  element.type = "button";
  element.addEventListener("click", action);
  return element;
}

function anchor(label, address) {
  const element = make("a", "button", label);
  element.href = address;
  return element;
}
