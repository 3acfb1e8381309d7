// The stock client with a state in memory, as a page's hook has it, and helpers for checks.
import { AbstractChat, DefaultChatTransport } from "ai"
import * as ai from "ai"
import assert from "node:assert/strict"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)
export const version = require("ai/package.json").version
export const major = Number(version.split(".")[0])
const parts = version.split(".").map(Number)
// The first releases of a major version, in which some things are not right; see the facts about each.
export const isFirst = parts[1] === 0 && parts[2] < 100

export const withApprovals = ai.lastAssistantMessageIsCompleteWithApprovalResponses
export const withToolCalls = ai.lastAssistantMessageIsCompleteWithToolCalls

export const base = process.argv[2]
const path = process.argv[3] ?? "/api/chat"
let number = 0

class State {
  constructor(messages) {
    this._messages = messages
    this._status = "ready"
    this._error = undefined
    this.watchers = new Set()
  }
  changed() { for (const each of [...this.watchers]) each() }
  get status() { return this._status }
  set status(value) { this._status = value; this.changed() }
  get error() { return this._error }
  set error(value) { this._error = value; this.changed() }
  get messages() { return this._messages }
  set messages(value) { this._messages = value; this.changed() }
  pushMessage = (message) => { this.messages = [...this._messages, message] }
  popMessage = () => { this.messages = this._messages.slice(0, -1) }
  replaceMessage = (index, message) => {
    this.messages = [...this._messages.slice(0, index), this.snapshot(message), ...this._messages.slice(index + 1)]
  }
  snapshot = (value) => structuredClone(value)
}

export class Page extends AbstractChat {
  // `graph` goes into each body; `requests` keeps what was sent, `data` what onData got.
  constructor({ graph, id = fresh(), messages = [], api = `${base}${path}`, body = {}, headers, fetch: send, ...options }) {
    const requests = []
    const state = new State(messages)
    const transport = new DefaultChatTransport({
      api,
      headers,
      body: { ...(graph ? { graph } : {}), ...body },
      fetch: async (url, init) => {
        const request = { url: String(url), method: init?.method ?? "GET", body: init?.body && JSON.parse(init.body) }
        requests.push(request)
        const response = await (send ?? fetch)(url, init)
        request.status = response.status
        request.headers = response.headers
        state.changed()
        return response
      },
    })
    const data = [], calls = [], finishes = [], errors = []
    super({
      id, transport, state,
      onData: (part) => data.push(structuredClone(part)),
      onToolCall: ({ toolCall }) => { calls.push(toolCall) },
      onFinish: (event) => { finishes.push(event) },
      onError: (error) => { errors.push(error) },
      ...options,
    })
    Object.assign(this, { page: state, requests, data, calls, finishes, errors, graph })
  }

  get last() { return this.messages.at(-1) }
  // The text of the answer, if the last message is one.
  get text() { return this.last?.role === "assistant" ? textOf(this.last) : "" }
  until(fits, what) {
    return within(new Promise((resolve) => {
      const look = () => { if (fits(this)) { this.page.watchers.delete(look); resolve(this) } }
      this.page.watchers.add(look)
      look()
    }), () => `${what ?? fits}: status ${this.status}, ${this.error}, ${JSON.stringify(this.messages)}`)
  }
  ready() { return this.until((page) => page.status === "ready", "ready") }
  // Wait until the server has answered a request.
  answered(number = 0) { return this.until((page) => page.requests[number]?.status, "an answer") }
  // A page that is loaded again, with these messages.
  reload(messages, options = {}) {
    return new Page({ graph: this.graph, id: this.id, messages: structuredClone(messages), ...options })
  }
}

export const fresh = (name = "chat") => `${name}-${++number}`
export const textOf = (message) => (message?.parts ?? []).filter((p) => p.type === "text").map((p) => p.text).join("")
export const callsOf = (message) => message.parts.filter((p) => p.type.startsWith("tool-") || p.type === "dynamic-tool")
export const stepsOf = (message) => message.parts.filter((p) => p.type === "step-start").length
export const user = (text, id = fresh("u")) => ({ id, role: "user", parts: [{ type: "text", text }] })

export const within = (promise, what, ms = 30_000) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${typeof what === "function" ? what() : what}`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

export const drive = async (id, what, more = {}) => {
  const answer = await fetch(`${base}/drive`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ id, do: what, ...more }),
  })
  assert.equal(answer.status, 200)
  return answer.json()
}
export const open = (id) => drive(id, "open")

export const post = (body, headers = {}) =>
  fetch(`${base}${path}`, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body),
  })
export const streamUrl = (id) => `${base}${path}/${encodeURIComponent(id)}/stream`

// Runs the checks, a few at a time, and prints one line for each.
export async function run(checks, width = 8) {
  const names = Object.keys(checks)
  const only = process.argv[4]
  const left = only ? names.filter((each) => each === only) : names
  const work = async () => {
    for (let name = left.shift(); name !== undefined; name = left.shift()) {
      let line = { check: name, passed: true }
      try {
        const skipped = await checks[name]()
        if (typeof skipped === "string") line = { check: name, passed: false, skipped }
      } catch (error) {
        line = { check: name, passed: false, detail: `${error?.stack ?? error}`.slice(0, 3000) }
      }
      console.log(JSON.stringify(line))
    }
  }
  await Promise.all(Array.from({ length: width }, work))
  process.exit(0)
}
