import { asError, errorOf, malformed, silent, trouble } from "./errors.js";

// Address of the server, credentials, and HTTP requests.
export class Link {
  constructor(options) {
    const { url, token, ticket, withCredentials = false, openTimeout = 10_000 } = options;
    const page = globalThis.location?.href;
    if (url === undefined && page === undefined) throw new TypeError("outside of a page, the option url is needed");
    const base = new URL(url ?? "/", page);
    this.#base = `${base.origin}${base.pathname.replace(/\/+$/, "")}`;
    Object.assign(this, { ticket, withCredentials, openTimeout, hasToken: token !== undefined });
    this.renews = typeof token === "function" || ticket !== undefined;
    this.#token = token;
    this.#fetch = options.fetch ?? ((...request) => globalThis.fetch(...request));
    this.EventSource = options.EventSource ?? globalThis.EventSource;
    this.WebSocket = options.WebSocket ?? globalThis.WebSocket;
  }

  #base;
  #token;
  #fetch;

  address(executionId, last = "", query = {}) {
    const given = Object.entries(query).filter(([, value]) => value !== undefined);
    const search = given.length ? `?${new URLSearchParams(given)}` : "";
    return `${this.#base}/executions/${encodeURIComponent(executionId)}${last && `/${last}`}${search}`;
  }

  addressOf(resource, query = []) {
    const given = query.filter(([, value]) => value !== undefined);
    return `${this.#base}/${resource}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
  }

  socketAddress(ticket) {
    const search = ticket === undefined ? "" : `?${new URLSearchParams({ ticket })}`;
    return `${this.#base.replace(/^http/, "ws")}/ws${search}`;
  }

  async token() {
    return typeof this.#token === "function" ? ours("token", this.#token, this.openTimeout) : this.#token;
  }

  // Returns the ticket for an address; undefined if a cookie or nothing authenticates.
  async ticketFor(executionId, signal) {
    const own = await this.ownTicket(executionId);
    if (own !== undefined || !this.hasToken) return own;
    const body = { execution_id: executionId };
    const { ticket } = await this.json(`${this.#base}/tickets`, { method: "POST", body, signal });
    return ticket;
  }

  // Returns a ticket from the page's function.
  async ownTicket(executionId) {
    return this.ticket && ours("ticket", () => this.ticket(executionId), this.openTimeout);
  }

  // Returns whether the server answers, with any status.
  async isThere(executionId, signal) {
    try {
      await this.request(executionId === null ? this.addressOf("graphs") : this.address(executionId), { signal });
      return true;
    } catch (error) {
      return error.status !== undefined;
    }
  }

  json(address, options) {
    return this.request(address, options, (response) => response.json());
  }

  // Returns the result of `read` for the response, which is closed afterwards. `timeout` limits the wait for its head.
  // All failures are thrown as a StreamingError.
  async request(address, options = {}, read = () => {}) {
    const { method = "GET", body, accept = "application/json", signal, timeout = this.openTimeout } = options;
    const headers = { Accept: accept };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    if (this.hasToken) headers.Authorization = `Bearer ${await this.token()}`;
    const control = new AbortController();
    const stop = () => control.abort();
    signal?.addEventListener("abort", stop);
    if (signal?.aborted) stop();
    let late = false;
    const timer = setTimeout(() => ((late = true), stop()), timeout);
    try {
      const response = await this.#fetch(address, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: this.withCredentials ? "include" : "same-origin",
        cache: "no-store",
        signal: control.signal,
      });
      clearTimeout(timer);
      if (!response.ok) throw await errorOf(response);
      return await read(response);
    } catch (error) {
      if (late) throw silent();
      throw error instanceof SyntaxError ? malformed(error) : asError(error);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      stop();
    }
  }
}

// Returns the result of a page's function, within a time limit.
async function ours(name, make, patience) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`there was none in ${patience} ms`)), patience);
  });
  try {
    return await Promise.race([make(), late]);
  } catch (error) {
    throw trouble(name, `the page's function for a ${name} has failed`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}
