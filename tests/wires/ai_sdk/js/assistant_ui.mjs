// The checks of assistant-ui's two runtimes. Usage: node assistant_ui.mjs http://127.0.0.1:8000
import { mount } from "./dom.mjs"
import { AssistantRuntimeProvider } from "@assistant-ui/react"
import { AssistantChatTransport, createResumableSessionStorage, useChatRuntime } from "@assistant-ui/react-ai-sdk"
import { useDataStreamRuntime } from "@assistant-ui/react-data-stream"
import { lastAssistantMessageIsCompleteWithApprovalResponses as withApprovals } from "ai"
import assert from "node:assert/strict"
import { createElement } from "react"
import { base, drive, fresh, open, run } from "./chat.mjs"

const api = `${base}/api/chat`
const one = "1 questions, the last is one."

// A page with a runtime.
function page(useRuntime) {
  const view = mount(useRuntime, { render: (runtime) => createElement(AssistantRuntimeProvider, { runtime }) })
  view.thread = () => view.value.thread
  view.state = () => view.value.thread.getState()
  const until = view.until
  view.until = (fits, what) => until(() => fits(view.state()), () => `${what}: ${JSON.stringify(view.state()).slice(0, 1500)}`)
  return view
}

function chatPage(graph, options = {}) {
  const requests = []
  const transport = new AssistantChatTransport({
    api,
    body: { graph },
    fetch: async (url, init) => {
      const request = { url: String(url), method: init?.method ?? "GET", body: init?.body && JSON.parse(init.body) }
      requests.push(request)
      const response = await fetch(url, init)
      request.status = response.status
      return response
    },
    ...options.transport,
  })
  return Object.assign(page(() => useChatRuntime({ transport, ...options.runtime })), { requests })
}

const last = (state) => state.messages.at(-1)
const text = (state) =>
  last(state)?.role === "assistant" ? last(state).content.filter((p) => p.type === "text").map((p) => p.text).join("") : ""
const done = (words) => (state) => !state.isRunning && text(state).includes(words)
const ask = async (view, words) => {
  await view.until((state) => !state.isDisabled && !state.isLoading, "the thread")
  await new Promise((resolve) => setTimeout(resolve))
  view.thread().append({ role: "user", content: [{ type: "text", text: words }] })
}

const checks = {
  async "useChatRuntime: text"() {
    const view = chatPage("echo")
    await ask(view, "one")
    await view.until(done("one."))
    assert.equal(text(view.state()), one)
    assert.equal(last(view.state()).status.type, "complete")
    assert.ok("tools" in view.requests[0].body)
    await ask(view, "two")
    await view.until(done("two."))
    assert.equal(text(view.state()), "2 questions, the last is two.")
    view.unmount()
  },

  async "useChatRuntime: tools and data"() {
    const view = chatPage("tool")
    await ask(view, "Hello")
    await view.until(done("Done"))
    const calls = last(view.state()).content.filter((part) => part.type === "tool-call")
    assert.deepEqual(calls.map((part) => part.result), ["rain in Oslo", "rain in Bergen"])
    assert.deepEqual(calls.map((part) => part.args), [{ city: "Oslo" }, { city: "Bergen" }])
    view.unmount()
    const docs = chatPage("docs")
    await ask(docs, "Hello")
    await docs.until(done("See there."))
    const types = last(docs.state()).content.map((part) => part.type)
    assert.ok(types.includes("source") && types.includes("file"), types.join())
    docs.unmount()
  },

  async "useChatRuntime: an error"() {
    const view = chatPage("crash")
    await ask(view, "Hello")
    await view.until((state) => last(state)?.status?.type === "incomplete" && !state.isRunning, "the error")
    assert.equal(last(view.state()).status.reason, "error")
    view.unmount()
  },

  async "useChatRuntime: an approval"() {
    const view = chatPage("approve", { runtime: { sendAutomaticallyWhen: withApprovals } })
    await ask(view, "Hello")
    await view.until((state) => last(state)?.status?.type === "requires-action", "the question")
    const part = last(view.state()).content.find((each) => each.type === "tool-call")
    const index = last(view.state()).content.indexOf(part)
    assert.ok(part.approval?.id, JSON.stringify(part))
    await view.thread().getMessageByIndex(view.state().messages.length - 1).getMessagePartByIndex(index)
      .respondToToolApproval({ approved: true })
    await view.until(() => view.requests.length === 2)
    await open(view.requests[0].body.id)
    await view.until(done("Done"))
    assert.equal(text(view.state()), "Let me see. Done: rain in Oslo.")
    view.unmount()
  },

  async "useChatRuntime: a reload with resumable"() {
    sessionStorage.clear()
    const resumable = () => ({ storage: createResumableSessionStorage(), resumeApi: (id) => `${api}/${id}/stream` })
    const view = chatPage("gated", { transport: { resumable: resumable() } })
    await ask(view, "one")
    await view.until((state) => text(state).length > 0)
    const id = view.requests[0].body.id
    assert.ok(sessionStorage.getItem("aui-resumable-stream-id"))
    view.unmount()
    const again = chatPage("gated", { transport: { resumable: resumable() } })
    await again.until((state) => text(state).length > 0, "the replay")
    await open(id)
    await again.until(done("one."))
    assert.equal(text(again.state()), one)
    assert.equal(sessionStorage.getItem("aui-resumable-stream-id"), null)
    again.unmount()
  },

  async "useChatRuntime: cancel"() {
    const view = chatPage("gated")
    await ask(view, "one")
    await view.until((state) => text(state).length > 0)
    const id = view.requests[0].body.id
    view.thread().cancelRun()
    await view.until((state) => !state.isRunning)
    assert.equal((await drive(id, "state")).state, "running")
    await open(id)
    view.unmount()
  },

  async "useDataStreamRuntime: text and tools"() {
    for (const [graph, words] of [["echo", one], ["tool", "Let me see. Done: rain in Oslo, rain in Bergen."]]) {
      const view = page(() => useDataStreamRuntime({ api, body: { graph } }))
      await ask(view, "one")
      await view.until(done(words.slice(-8)))
      assert.equal(text(view.state()), words)
      assert.equal(last(view.state()).status.type, "complete")
      view.unmount()
    }
  },
}

await run(checks, 1)
