// The caller of the page: who it is, until when, and what it may do. The server decides at each request; the page only
// hides what would be refused.
//
// `may("list")`, `may("start")`, and on the page of a run `may("read")`, `may("control")`, `may("share")`.
// Events: "lost" when the login has ended, "back" after a new login, so that a page can go on reading.

const MOST_DELAY = 2 ** 31 - 1; // a browser treats a longer time as 0
const EXPIRED = 4011;
const LOST = [4010, EXPIRED];

export class Caller extends EventTarget {
  login = "off"; // "off", "needed" or "in"
  by = "none"; // "token", "application", "link" or "none"
  subject = null;
  expiresAt = null; // milliseconds since 1970
  form = false; // whether a token may log in
  loginUrl = null; // address of the application's login
  reason = null; // the error of credentials that were refused
  longestLink = null; // milliseconds; null: no limit
  #can = {};
  #address;
  #query;
  #headers;
  #timer;

  constructor({ gateway, execution }, link) {
    super();
    const query = execution === undefined ? "" : `?${new URLSearchParams({ execution_id: execution })}`;
    this.#address = `${gateway}watch-session`;
    this.#query = query;
    this.#headers = link === null ? {} : { Authorization: `Bearer ${link}` };
    this.hasLink = link !== null;
  }

  // Returns whether the caller may do something; true where that is not known.
  may(what) {
    return this.#can[what] ?? true;
  }

  // Asks the server who the caller is. Throws its error.
  async load() {
    this.#take(await this.#ask("GET", this.#address + this.#query));
  }

  // Logs in with a token. Throws the server's error.
  async logIn(token) {
    await this.#ask("POST", this.#address, { token });
    await this.load();
    if (this.login === "needed") throw new Error("the browser did not keep the login: it may block cookies");
  }

  async logOut() {
    await this.#ask("DELETE", this.#address);
  }

  // Notes an error of a request: one about credentials means that the login has ended.
  lose(error) {
    if (!LOST.includes(error?.code)) return;
    clearTimeout(this.#timer);
    this.reason = error;
    this.dispatchEvent(new Event("lost"));
  }

  // Continues after a new login.
  comeBack() {
    this.dispatchEvent(new Event("back"));
  }

  // Returns whether the end of the login has passed. Browsers drop its cookie then, so the server may not know why.
  get hasExpired() {
    return this.reason?.code === EXPIRED || (this.expiresAt !== null && Date.now() > this.expiresAt - 1000);
  }

  #take({ login, by, subject, expires_at: end, can = {}, reason = null, form, login_url: loginUrl, max_link_age_s: longest }) {
    clearTimeout(this.#timer);
    Object.assign(this, { login, reason });
    if (login === "needed") {
      Object.assign(this, { form, loginUrl }); // the rest is what the last login was
      return;
    }
    this.#can = can;
    Object.assign(this, { by, subject, expiresAt: end === null ? null : Date.parse(end) });
    this.longestLink = longest === undefined || longest === null ? null : longest * 1000;
    if (this.expiresAt === null) return;
    const delay = Math.max(0, this.expiresAt - Date.now()) + 1000;
    this.#timer = setTimeout(() => this.#check(), Math.min(delay, MOST_DELAY));
  }

  // The application may have extended its session.
  async #check() {
    await this.load().catch((error) => this.lose(error));
    if (this.login === "needed") this.lose(this.reason ?? { code: EXPIRED, message: "the login has expired" });
  }

  async #ask(method, address, body) {
    const headers = { Accept: "application/json", ...this.#headers, ...(body && { "Content-Type": "application/json" }) };
    const response = await fetch(address, { method, headers, body: body && JSON.stringify(body), cache: "no-store" });
    const answer = await response.json().catch(() => null);
    if (!response.ok) {
      const { code = null, message = `the server answered ${response.status}` } = answer?.error ?? {};
      throw Object.assign(new Error(message), { code, status: response.status });
    }
    return answer;
  }
}
