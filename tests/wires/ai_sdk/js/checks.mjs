// The checks of the AI SDK's stock client against one server. Prints one JSON line a check.
// Usage: node checks.mjs http://127.0.0.1:8000 [/api/chat [check]]
import assert from "node:assert/strict"
import {
  Page, base, callsOf, drive, fresh, isFirst, major, open, post, run, stepsOf, streamUrl, textOf, user, version,
  withApprovals, withToolCalls, within,
} from "./chat.mjs"

const NO_APPROVALS = "version 5 has no approvals"
const DOUBLES = "this release appends a replay to the text that the page has"

// A page that has sent a question, and waits at the gate of the graph.
async function begun(graph = "gated", text = "one") {
  const page = new Page({ graph })
  const sent = page.sendMessage({ text })
  await page.until((it) => it.text.length > 0, "some text")
  return { page, sent }
}

async function answer(graph, text = "Hello", options = {}) {
  const page = new Page({ graph, ...options })
  await page.sendMessage({ text })
  await page.ready()
  return page
}

const one = "1 questions, the last is one."
const last = (page) => callsOf(page.last).at(-1)

async function cutReader(page) {
  await drive(page.id, "cut")
}

const approvals = (page) => callsOf(page.last).filter((part) => part.state === "approval-requested")

async function waiting(graph, text = "Hello") {
  const page = new Page({ graph, sendAutomaticallyWhen: withApprovals })
  await page.sendMessage({ text })
  await page.ready()
  return page
}

const decide = (page, approved, reason) =>
  page.addToolApprovalResponse({ id: approvals(page)[0].approval.id, approved, ...(reason ? { reason } : {}) })

// No request follows by itself within two turns of the event loop and a short wait.
async function settled(page) {
  const count = page.requests.length
  await new Promise((resolve) => setTimeout(resolve, 60))
  assert.equal(page.requests.length, count, "a request that nobody asked for")
}

const checks = {
  async "the form of the stream"() {
    const response = await post({ id: fresh(), graph: "tool", messages: [user("Hello")] })
    assert.equal(response.status, 200)
    assert.match(response.headers.get("content-type"), /^text\/event-stream/)
    assert.equal(response.headers.get("x-vercel-ai-ui-message-stream"), "v1")
    assert.match(response.headers.get("cache-control"), /no-cache/)
    assert.equal(response.headers.get("x-accel-buffering"), "no")
    const body = await response.text()
    assert.ok(body.endsWith("data: [DONE]\n\n"))
    for (const frame of body.split("\n\n").slice(0, -2)) assert.match(frame, /^(data: \{"type":"[^\n]*|: ping)$/)
    assert.ok(body.includes('"type":"finish"'))
  },

  async text() {
    const page = await answer("echo", "one")
    assert.equal(page.text, one)
    assert.equal(page.last.role, "assistant")
    assert.deepEqual(page.last.parts.map((part) => part.type), ["step-start", "text"])
    assert.equal(page.last.parts[1].state, "done")
    assert.equal(page.last.id, page.last.metadata.run_id)
    assert.equal(page.last.metadata.execution_id, page.id)
    assert.equal(page.error, undefined)
    const resumable = page.requests[0].headers.get("x-resumable-stream-id")
    assert.equal(resumable, page.id)
  },

  async "several turns"() {
    const page = await answer("echo", "one")
    await page.sendMessage({ text: "two" })
    await page.sendMessage({ text: "three" })
    assert.equal(page.messages.length, 6)
    assert.equal(page.text, "3 questions, the last is three.")
    assert.equal(new Set(page.messages.map((each) => each.id)).size, 6)
  },

  async "without a checkpointer"() {
    const page = await answer("forgetful", "one")
    await page.sendMessage({ text: "two" })
    assert.equal(page.text, "2 questions, the last is two.")
  },

  async "text in Unicode"() {
    const page = await answer("unicode")
    const odd = "Grüße 👩‍👩‍👧‍👦 \u2028\u2029\u0085 \r\n \"quoted\" \\ <b>&amp; data: x\n\n: ping 雨 \u202eabc __proto__"
    assert.equal(page.text, odd)
    const echo = await answer("echo", odd)
    assert.equal(echo.text, `1 questions, the last is ${odd}.`)
  },

  async "an id with odd characters"() {
    const id = `team/${fresh()}?x=%41#ü`
    const page = new Page({ graph: "gated", id })
    const sent = page.sendMessage({ text: "one" })
    await page.until((it) => it.text.length > 0)
    if (version.split(".")[1] === "0" && !["7.0.173", "6.0.325", "5.0.277"].includes(version)) {
      await open(id)
      await sent
      return "this release does not encode the id in the address"
    }
    const again = page.reload([])
    const resumed = again.resumeStream()
    await again.until((it) => it.text.length > 0)
    await open(id)
    await Promise.all([sent, resumed])
    assert.equal(again.text, one)
  },

  async "silence in mid-answer"() {
    const { page, sent } = await begun()
    await new Promise((resolve) => setTimeout(resolve, 500))
    await open(page.id)
    await sent
    assert.equal(page.text, one)
  },

  async reasoning() {
    const page = await answer("reasoning")
    const [thought] = page.last.parts.filter((part) => part.type === "reasoning")
    assert.equal(thought.text, "Rain? Yes.")
    assert.equal(thought.state, "done")
    assert.equal(page.text, "It rains.")
  },

  async "parallel nodes"() {
    const page = await answer("parallel")
    const texts = page.last.parts.filter((part) => part.type === "text")
    for (const name of ["A", "B"]) {
      const own = texts.filter((part) => part.text.startsWith(name)).map((part) => part.text)
      assert.deepEqual(own, [`${name} one ${name} two ${name} three.`])
    }
    assert.ok(texts.every((part) => part.state === "done"))
  },

  async "tool calls"() {
    const page = await answer("tool")
    const calls = callsOf(page.last)
    assert.deepEqual(calls.map((part) => part.type), ["tool-weather", "tool-weather"])
    assert.deepEqual(calls.map((part) => part.state), ["output-available", "output-available"])
    assert.deepEqual(calls.map((part) => part.input), [{ city: "Oslo" }, { city: "Bergen" }])
    assert.deepEqual(calls.map((part) => part.output), ["rain in Oslo", "rain in Bergen"])
    assert.equal(page.text, "Let me see. Done: rain in Oslo, rain in Bergen.")
    assert.equal(stepsOf(page.last), 2)
    assert.equal(page.calls.length, 2)
  },

  async "no request after a complete answer"() {
    for (const graph of ["tool", "last-tool"]) {
      for (const sendAutomaticallyWhen of [withToolCalls, withApprovals].filter(Boolean)) {
        const page = await answer(graph, "Hello", { sendAutomaticallyWhen })
        await settled(page)
        assert.equal(page.requests.length, 1)
      }
    }
  },

  async "tool error"() {
    const page = await answer("tool-error")
    const [call] = callsOf(page.last)
    assert.equal(call.state, "output-error")
    assert.match(call.errorText, /no data of Oslo/)
    assert.equal(page.text, "Let me see. Done: failed: no data of Oslo.")
  },

  async "keys that break parsers"() {
    const page = await answer("proto")
    assert.equal(page.status, "ready")
    const [odd, weather] = callsOf(page.last)
    for (const value of [odd.input, odd.output[0]]) assert.deepEqual(value, { fine: { y: 2 }, nothing: null })
    assert.deepEqual(weather.input, { city: "Oslo" })
    assert.equal(page.text, '{"__proto__": 1}')
  },

  async "data parts"() {
    const page = await answer("data")
    const weather = page.last.parts.filter((part) => part.type === "data-weather")
    assert.deepEqual(weather.map((part) => part.data), [{ id: "oslo", state: "rain" }])
    assert.deepEqual(page.last.parts.find((part) => part.type === "data-own-type").data, [1, 2])
    assert.deepEqual(page.last.parts.find((part) => part.type === "data-custom").data, { name: "a name with spaces", data: 7 })
    assert.deepEqual(page.last.parts.find((part) => part.type === "data-stream_writer").data, { step: 1 })
    assert.ok(page.data.some((part) => part.type === "data-notice" && part.data.text === "passing"))
    assert.ok(!page.last.parts.some((part) => part.type === "data-notice" || part.type === "data-error"))
    assert.ok(page.data.some((part) => part.type === "data-error" && part.data.message === "a passing problem"))
    assert.equal(page.text, "With data.")
    assert.equal(page.last.metadata.state, "completed")
    assert.ok(page.last.metadata.usage.output_tokens > 0)
  },

  async "sources and files"() {
    const page = await answer("docs")
    const [url] = page.last.parts.filter((part) => part.type === "source-url")
    assert.deepEqual([url.sourceId, url.url, url.title], ["d1", "https://example.org/rain", "Rain"])
    const [document] = page.last.parts.filter((part) => part.type === "source-document")
    assert.deepEqual([document.mediaType, document.title], ["text/plain", "notes.txt"])
    const [file] = page.last.parts.filter((part) => part.type === "file")
    assert.deepEqual([file.mediaType, file.url], ["image/png", "https://example.org/a.png"])
    assert.ok(page.last.parts.some((part) => part.type === "data-artifact" && part.data.kind === "table"))
  },

  async "a run that fails"() {
    const page = new Page({ graph: "crash" })
    await page.sendMessage({ text: "Hello" })
    await page.until((it) => it.status === "error")
    assert.match(page.error.message, /the disk is full/)
    assert.equal(page.text, "This ends early")
    await page.sendMessage({ text: "again" })
    assert.equal(page.status, "ready")
    assert.equal(page.text, "All is well.")
  },

  async "an answer with an error status"() {
    const page = new Page({ graph: "nothing-of-this-name" })
    await page.sendMessage({ text: "Hello" })
    await page.until((it) => it.status === "error")
    assert.match(page.error.message, /there is no such graph, or you may not start it/)
    assert.ok(!page.error.message.includes("{"), page.error.message)
  },

  async "bad body"() {
    const bad = [
      "{", "[]", "7", { id: "x" }, { messages: [] }, { id: 7, messages: [user("x")] },
      { id: "x", messages: [{ role: "robot", parts: [] }] }, { id: "x", messages: ["text"] },
      { id: "x", messages: [user("x")], trigger: "other" }, { id: " ", messages: [user("x")] },
      { id: "x", messages: [{ id: "a", role: "assistant", parts: [] }], trigger: "regenerate-message" },
      { id: "x", messages: [user("x")], graph: 7 }, { id: "x", messages: [{ role: "user", parts: [7] }] },
      { id: "x", graph: "echo", messages: [{ role: "user", parts: [{ type: "file", mediaType: "image/png", url: "file:///etc/passwd" }] }] },
    ]
    for (const body of bad) {
      const response = await post(body)
      assert.equal(response.status, 400, JSON.stringify(body))
      assert.match(response.headers.get("content-type"), /^text\/plain/)
      const text = await response.text()
      assert.ok(text.length > 5 && !text.startsWith("{"), text)
    }
  },

  async "a question while a run works"() {
    const { page, sent } = await begun()
    const other = page.reload(page.messages.slice(0, 1))
    await other.sendMessage({ text: "two" })
    await other.until((it) => it.status === "error")
    assert.equal(other.requests.at(-1).status, 409)
    assert.match(other.error.message, /open run|running/)
    await open(page.id)
    await sent
    assert.equal(page.text, one)
  },

  async "resume without a run"() {
    const page = new Page({})
    await page.resumeStream()
    assert.equal(page.requests[0].status, 204)
    assert.equal(page.status, "ready")
    assert.deepEqual(page.messages, [])
  },

  async "resume after the end"() {
    const page = await answer("echo", "one")
    const again = page.reload(page.messages)
    await again.resumeStream()
    assert.equal(again.requests[0].status, 204)
    assert.equal(again.status, "ready")
    assert.equal(again.messages.length, 2)
  },

  async reload() {
    const { page, sent } = await begun()
    const again = page.reload(page.messages.slice(0, 1))
    const resumed = again.resumeStream()
    await again.until((it) => it.text.length > 0)
    await open(page.id)
    await Promise.all([sent, resumed])
    assert.equal(again.text, one)
    assert.equal(again.messages.length, 2)
    assert.equal(again.last.id, page.last.id)
    assert.deepEqual(again.last.parts, page.last.parts)
  },

  async "reload without history"() {
    const { page, sent } = await begun()
    const again = page.reload([])
    const resumed = again.resumeStream()
    await again.answered()
    await open(page.id)
    await Promise.all([sent, resumed])
    assert.equal(again.text, one)
    assert.equal(again.messages.length, 1)
  },

  async "reload with part of the answer"() {
    const { page, sent } = await begun()
    const again = page.reload(page.messages)
    const resumed = again.resumeStream()
    await again.answered()
    await open(page.id)
    await Promise.all([sent, resumed])
    assert.equal(again.messages.length, 2)
    if (isFirst) return DOUBLES
    assert.equal(again.text, one)
  },

  async "reload in the second turn"() {
    const page = new Page({ graph: "gated" })
    const first = page.sendMessage({ text: "one" })
    await open(page.id)
    await first
    const sent = page.sendMessage({ text: "two" })
    await page.until((it) => it.messages.length === 4 && it.text.length > 0)
    const again = page.reload(page.messages.slice(0, 3))
    const resumed = again.resumeStream()
    await again.answered()
    await open(page.id)
    await Promise.all([sent, resumed])
    assert.equal(again.messages.length, 4)
    assert.equal(again.text, "2 questions, the last is two.")
  },

  async "reload in the second turn, its question not stored"() {
    const page = new Page({ graph: "gated" })
    const first = page.sendMessage({ text: "one" })
    await open(page.id)
    await first
    const sent = page.sendMessage({ text: "two" })
    await page.until((it) => it.messages.length === 4 && it.text.length > 0)
    const again = page.reload(page.messages.slice(0, 2))
    const resumed = again.resumeStream()
    await again.answered()
    await open(page.id)
    await Promise.all([sent, resumed])
    if (isFirst) return "this release copies the first answer into the new message"
    assert.equal(again.text, "2 questions, the last is two.")
    assert.equal(again.messages.length, 3)
    assert.equal(textOf(again.messages[1]), one)
  },

  async "two readers"() {
    const { page, sent } = await begun()
    const others = [1, 2].map(() => page.reload(page.messages.slice(0, 1)))
    const resumed = others.map((each) => each.resumeStream())
    await Promise.all(others.map((each) => each.until((it) => it.text.length > 0)))
    await open(page.id)
    await Promise.all([sent, ...resumed])
    for (const each of [page, ...others]) assert.equal(each.text, one)
  },

  async "a reader leaves"() {
    const { page, sent } = await begun()
    await page.stop()
    await sent
    const again = page.reload(page.messages.slice(0, 1))
    const resumed = again.resumeStream()
    await again.answered()
    await open(page.id)
    await resumed
    assert.equal(again.text, one)
  },

  async "the server breaks the connection"() {
    const { page, sent } = await begun()
    await cutReader(page)
    await sent
    assert.equal(page.status, "error", "a cut looks like the end")
    const again = page.reload(page.messages.slice(0, 1))
    const resumed = again.resumeStream()
    await again.answered()
    await open(page.id)
    await resumed
    assert.equal(again.text, one)
    assert.equal(again.status, "ready")
  },

  async "the same page after a cut"() {
    const { page, sent } = await begun()
    await cutReader(page)
    await sent
    const resumed = page.resumeStream()
    await page.answered(1)
    await open(page.id)
    await resumed
    assert.equal(page.status, "ready")
    if (isFirst || major === 5) return DOUBLES
    assert.equal(page.text, one)
    assert.equal(page.messages.length, 2)
  },

  async "stop()"() {
    const { page, sent } = await begun()
    await page.stop()
    await sent
    assert.equal(page.status, "ready")
    assert.ok(one.startsWith(page.text) && page.text.length > 0)
    assert.equal((await drive(page.id, "state")).state, "running")
    await open(page.id)
    await within((async () => {
      while ((await drive(page.id, "state")).state !== "completed") await new Promise((done) => setTimeout(done, 10))
    })(), "the run goes on to its end")
  },

  async cancel() {
    const { page, sent } = await begun()
    await drive(page.id, "cancel")
    await sent
    assert.equal(page.status, "ready")
    assert.equal(page.error, undefined)
    const again = page.reload(page.messages)
    await again.resumeStream()
    assert.equal(again.requests[0].status, 204)
    const next = page.sendMessage({ text: "two" })
    await open(page.id)
    await next
    assert.equal(page.text, "2 questions, the last is two.")
  },

  async "cancel in a tool"() {
    const page = new Page({ graph: "slow-tool", sendAutomaticallyWhen: withToolCalls })
    const sent = page.sendMessage({ text: "one" })
    await page.until((it) => it.last?.role === "assistant" && last(it)?.state === "input-available")
    await drive(page.id, "cancel")
    await sent
    await settled(page)
    assert.equal(page.status, "ready")
    const next = page.sendMessage({ text: "two" })
    await open(page.id)
    await next
    assert.match(page.text, /rain in Oslo/)
  },

  async regenerate() {
    const page = await answer("echo", "one")
    await page.sendMessage({ text: "two" })
    const before = page.last.id
    await page.regenerate()
    assert.equal(page.text, "2 questions, the last is two.")
    assert.notEqual(page.last.id, before)
    assert.equal(page.messages.length, 4)
    const first = page.messages[1].id
    await page.regenerate({ messageId: first })
    assert.equal(page.messages.length, 2)
    assert.equal(page.text, one)
    await page.sendMessage({ text: "three" })
    assert.equal(page.text, "2 questions, the last is three.")
  },

  async edit() {
    const page = await answer("echo", "one")
    await page.sendMessage({ text: "two" })
    await page.sendMessage({ text: "three" })
    await page.sendMessage({ text: "changed", messageId: page.messages[2].id })
    assert.equal(page.messages.length, 4)
    assert.equal(page.text, "2 questions, the last is changed.")
    await page.sendMessage({ text: "first", messageId: page.messages[0].id })
    assert.equal(page.messages.length, 2)
    assert.equal(page.text, "1 questions, the last is first.")
  },

  async approve() {
    if (major === 5) return NO_APPROVALS
    const page = await waiting("approve")
    const { id } = page.last
    assert.equal(last(page).state, "approval-requested")
    assert.deepEqual(last(page).input, { city: "Oslo" })
    await decide(page, true)
    await open(page.id)
    await page.until((it) => it.status === "ready" && it.text.includes("Done"))
    assert.equal(page.messages.length, 2)
    assert.equal(page.last.id, id)
    assert.equal(last(page).state, "output-available")
    assert.equal(page.text, "Let me see. Done: rain in Oslo.")
    await settled(page)
    assert.equal(page.requests.length, 2)
  },

  async "approve a batch"() {
    if (major === 5) return NO_APPROVALS
    const page = await waiting("approve-batch")
    assert.equal(approvals(page).length, 2)
    await decide(page, true)
    await decide(page, false, "not Bergen")
    await page.until((it) => it.status === "ready" && it.text.includes("Done"))
    assert.deepEqual(callsOf(page.last).map((part) => part.state), ["output-available", "output-denied"])
    assert.match(page.text, /not Bergen/)
    await settled(page)
    assert.equal(page.requests.length, 2)
  },

  async "approve one of two calls"() {
    if (major === 5) return NO_APPROVALS
    const page = await waiting("approve-some")
    assert.equal(approvals(page).length, 1)
    await decide(page, false, "no")
    await page.until((it) => it.status === "ready" && it.text.includes("Done"))
    await settled(page)
    assert.equal(page.requests.length, 2)
    const states = Object.fromEntries(callsOf(page.last).map((part) => [part.type, part.state]))
    assert.equal(states["tool-weather"], "output-available")
    assert.equal(states["tool-broken"], "output-denied")
  },

  async deny() {
    if (major === 5) return NO_APPROVALS
    const page = await waiting("approve")
    await decide(page, false, "too far")
    await page.until((it) => it.status === "ready" && it.text.includes("Done"))
    assert.equal(last(page).state, "output-denied")
    assert.match(page.text, /too far/)
    await settled(page)
    assert.equal(page.requests.length, 2)
  },

  async "a confirmation"() {
    if (major === 5) return NO_APPROVALS
    for (const [approved, reason, shown] of [[true, undefined, "True"], [false, undefined, "False"], [false, "later", "'reason': 'later'"]]) {
      const page = await waiting("confirm")
      assert.equal(last(page).toolName, "human_prompt")
      assert.equal(last(page).input.prompt, "Publish it?")
      await decide(page, approved, reason)
      await page.until((it) => it.status === "ready" && it.text.includes("You answered"))
      assert.ok(page.text.includes(shown), page.text)
      assert.equal(last(page).state, approved ? "output-available" : "output-denied")
      await settled(page)
      assert.equal(page.requests.length, 2)
    }
  },

  async "a confirmation in a tool"() {
    if (major === 5) return NO_APPROVALS
    const page = await waiting("send")
    assert.equal(last(page).input.prompt, "Send to Ada?")
    await decide(page, true)
    await page.until((it) => it.status === "ready" && it.text.includes("Done"))
    assert.equal(page.text, "Let me see. Done: sent.")
    await settled(page)
    assert.equal(page.requests.length, 2)
  },

  async "approve twice"() {
    if (major === 5) return NO_APPROVALS
    const page = await waiting("confirm")
    const other = page.reload(page.messages, { sendAutomaticallyWhen: withApprovals })
    await decide(page, true)
    await page.until((it) => it.status === "ready" && it.text.includes("You answered"))
    await decide(other, false)
    await other.until((it) => it.status === "error")
    assert.equal(other.requests.at(-1).status, 409)
    assert.match(other.error.message, /no such prompt waits/)
  },

  async "approve after a reload"() {
    if (major === 5) return NO_APPROVALS
    const page = await waiting("approve")
    const again = page.reload(page.messages, { sendAutomaticallyWhen: withApprovals })
    await again.resumeStream()
    assert.equal(again.requests[0].status, 204)
    await decide(again, true)
    await open(page.id)
    await again.until((it) => it.status === "ready" && it.text.includes("Done"))
    assert.equal(again.messages.length, 2)
    assert.equal(last(again).state, "output-available")
  },

  async "reload in a continuation"() {
    if (major === 5) return NO_APPROVALS
    return continuation((page) => page.messages.slice(0, 1))
  },

  async "reload in a continuation with its beginning"() {
    if (major === 5) return NO_APPROVALS
    return continuation((page) => page.messages)
  },

  async "another question in place of an answer"() {
    if (major === 5) return NO_APPROVALS
    const page = await waiting("approve")
    await page.sendMessage({ text: "never mind" })
    assert.equal(page.status, "ready")
    assert.equal(approvals(page).length, 1)
  },

  async "a choice"() {
    const page = new Page({ graph: "choose", sendAutomaticallyWhen: withToolCalls })
    await page.sendMessage({ text: "Hello" })
    const [call] = callsOf(page.last)
    assert.deepEqual(call.input.choices, ["red", "blue"])
    const give = (output) => page.addToolResult({ tool: "human_prompt", toolCallId: call.toolCallId, output })
    await give("green")
    await page.until((it) => it.status === "error")
    assert.match(page.error.message, /one of 'red', 'blue'/)
    const again = page.reload(page.messages, { sendAutomaticallyWhen: withToolCalls })
    await again.addToolResult({ tool: "human_prompt", toolCallId: call.toolCallId, output: "blue" })
    await again.until((it) => it.status === "ready" && it.text.includes("It is"))
    assert.equal(again.text, "It is blue.")
    assert.equal(again.messages.length, 2)
  },

  async "a tool of the page"() {
    for (const graph of ["location", "page-tools"]) {
      const page = new Page({ graph, sendAutomaticallyWhen: withToolCalls })
      await page.sendMessage({ text: "Where?" })
      const { id } = page.last
      const [call] = callsOf(page.last)
      assert.equal(call.type, "tool-location")
      assert.equal(call.state, "input-available")
      await page.addToolResult({ tool: "location", toolCallId: call.toolCallId, output: "Oslo" })
      await page.until((it) => it.status === "ready" && it.text.includes("Done"))
      assert.equal(page.text, "Let me see. Done: Oslo.")
      assert.equal(page.messages.length, 2)
      assert.equal(page.last.id, id)
      await settled(page)
      assert.equal(page.requests.length, 2)
    }
  },

  async "a retried node"() {
    const page = await answer("retry")
    const texts = page.last.parts.filter((part) => part.type === "text").map((part) => part.text)
    assert.equal(texts.at(-1), "This text is complete.")
    if (process.env.LATEST) assert.deepEqual(texts, ["This text is complete."])
  },

  async "a route of the application"() {
    const page = new Page({ api: `${base}/own` })
    const sent = page.sendMessage({ text: "one" })
    await page.until((it) => it.text.length > 0)
    const again = new Page({ api: `${base}/own`, id: page.id })
    const resumed = again.resumeStream()
    await again.answered()
    await open(page.id)
    await Promise.all([sent, resumed])
    assert.equal(page.text, one)
    assert.equal(again.text, one)
    const nothing = new Page({ api: `${base}/own` })
    await nothing.resumeStream()
    assert.equal(nothing.requests[0].status, 204)
  },
}

async function continuation(history) {
  const page = await waiting("approve")
  const before = structuredClone(page.messages)
  await decide(page, true)
  await page.answered(1)
  const again = page.reload(history({ messages: before }), { sendAutomaticallyWhen: withApprovals })
  const resumed = again.resumeStream()
  await again.until((it) => it.text.length > 0)
  await open(page.id)
  await resumed
  await page.until((it) => it.status === "ready" && it.text.includes("Done"))
  assert.equal(again.messages.length, 2)
  assert.equal(again.last.id, page.last.id)
  assert.equal(last(again).state, "output-available")
  if (isFirst && before.length === history({ messages: before }).length) return DOUBLES
  assert.equal(again.text, "Let me see. Done: rain in Oslo.")
  await settled(again)
}

await run(checks)
