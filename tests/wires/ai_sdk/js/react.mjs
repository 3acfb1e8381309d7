// The checks of `useChat` in a page. Usage: node react.mjs http://127.0.0.1:8000
import { mount, show } from "./dom.mjs"
import { useChat } from "@ai-sdk/react"
import { DefaultChatTransport } from "ai"
import assert from "node:assert/strict"
import { base, drive, fresh, open, run, textOf, user } from "./chat.mjs"

const one = "1 questions, the last is one."

function page(graph, { id = fresh("react"), messages = [], resume = false, strict = false } = {}) {
  const requests = []
  const transport = new DefaultChatTransport({
    api: `${base}/api/chat`,
    body: { graph },
    fetch: async (url, init) => {
      const request = { url: String(url), method: init?.method ?? "GET", signal: init?.signal }
      requests.push(request)
      const response = await fetch(url, init)
      request.status = response.status
      return response
    },
  })
  const view = mount(() => useChat({ id, messages, transport, resume }), { strict })
  return Object.assign(view, { id, requests })
}
const text = (chat) => (chat.messages.at(-1)?.role === "assistant" ? textOf(chat.messages.at(-1)) : "")

async function begun() {
  const view = page("gated")
  await view.until((chat) => chat.status === "ready")
  void view.value.sendMessage({ text: "one" })
  await view.until((chat) => text(chat).length > 0, "some text")
  return view
}

const checks = {
  async hook() {
    const view = page("tool")
    await view.until((chat) => chat.status === "ready")
    await view.value.sendMessage({ text: "Hello" })
    await view.until((chat) => chat.status === "ready" && text(chat).includes("Done"))
    assert.equal(text(view.value), "Let me see. Done: rain in Oslo, rain in Bergen.")
    view.unmount()
  },

  async "resume at mount"() {
    const view = await begun()
    const again = page("gated", { id: view.id, messages: view.value.messages.slice(0, 1), resume: true })
    await again.until((chat) => text(chat).length > 0)
    await open(view.id)
    await again.until((chat) => chat.status === "ready" && text(chat) === one)
    assert.equal(again.requests.length, 1)
    await view.until((chat) => chat.status === "ready" && text(chat) === one)
    again.unmount()
    view.unmount()
  },

  async "nothing to resume"() {
    const view = page("gated", { resume: true })
    await view.until(() => view.requests[0]?.status === 204)
    await view.until((chat) => chat.status === "ready")
    assert.equal(view.value.error, undefined)
    view.unmount()
  },

  async "strict mode"() {
    const view = await begun()
    const again = page("gated", { id: view.id, messages: view.value.messages.slice(0, 1), resume: true, strict: true })
    await again.until((chat) => text(chat).length > 0)
    await open(view.id)
    await again.until((chat) => chat.status === "ready" && text(chat) === one)
    assert.equal(again.value.messages.length, 2)
    again.unmount()
    view.unmount()
  },

  async unmount() {
    const view = await begun()
    view.unmount()
    assert.equal((await drive(view.id, "state")).state, "running")
    const again = page("gated", { id: view.id, messages: [user("one")], resume: true })
    await again.until((chat) => text(chat).length > 0)
    await open(view.id)
    await again.until((chat) => chat.status === "ready" && text(chat) === one)
    again.unmount()
  },

  async visibility() {
    const view = page("gated", { resume: true })
    await view.until(() => view.requests[0]?.status === 204)
    await view.until((chat) => chat.status === "ready")
    void view.value.sendMessage({ text: "one" })
    await view.until((chat) => text(chat).length > 0)
    show("hidden")
    await drive(view.id, "cut")
    await view.until((chat) => chat.status === "error", "a lost connection")
    // jsdom uses Node's fetch, whose error does not look like a browser's: the hook resumes only if the page asks.
    const lost = /network/i.test(view.value.error?.message ?? "")
    show("visible")
    if (!lost) void view.value.resumeStream()
    await view.until((chat) => chat.status === "streaming")
    await open(view.id)
    await view.until((chat) => chat.status === "ready" && text(chat) === one)
    assert.equal(view.value.messages.length, 2)
    view.unmount()
  },
}

await run(checks, 1)
