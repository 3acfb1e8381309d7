// The checks of AG-UI's stock client against one server. Prints one JSON line a check.
// Usage: node checks.mjs http://127.0.0.1:8000 @ag-ui/client
import assert from "node:assert/strict"

const [base, client] = process.argv.slice(2)
const { HttpAgent } = await import(client)
const isModern = client === "@ag-ui/client"
console.warn = console.info = () => {} // the client's own remarks
const dropped = []
process.on("unhandledRejection", (error) => dropped.push(error))
let number = 0

const uid = (name) => `${name}-${++number}-${isModern ? "new" : "old"}`
const drive = async (what) => {
  const body = JSON.stringify(what)
  const answer = await fetch(`${base}/drive`, { method: "POST", headers: { "content-type": "application/json" }, body })
  assert.equal(answer.status, 200)
  return answer.json()
}
const agentOf = (threadId, path = "/agui", more = {}) => new HttpAgent({ url: `${base}${path}`, threadId, ...more })
const say = (agent, text) => agent.addMessage({ id: uid("user"), role: "user", content: text })

// Runs an agent and keeps its events; `until` resolves at the first that fits.
function run(agent, parameters = {}) {
  const events = []
  const waiting = []
  const seen = {
    onEvent: ({ event }) => {
      events.push(event)
      for (const each of [...waiting]) if (each.fits(event)) each.resolve(event)
    },
  }
  const done = agent.runAgent(parameters, seen)
  done.catch(() => {})
  const until = (fits) =>
    within(
      new Promise((resolve) => {
        const found = events.find(fits)
        if (found) resolve(found)
        else waiting.push({ fits, resolve })
      }),
      "an event",
    )
  return { events, done: within(done, "the end of the run"), until }
}
const within = (promise, what, ms = 30000) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
const ask = async (agent, text, parameters) => {
  say(agent, text)
  const it = run(agent, parameters)
  return { ...it, result: await it.done }
}
const types = (events) => events.map((each) => each.type)
const of = (events, type) => events.filter((each) => each.type === type)
const shape = (agent) => agent.messages.filter((each) => each.role !== "activity").map((each) => [each.role, each.content])
const heard = (text) => `You said ${text}, and I heard it well.`
const last = (list) => list[list.length - 1]

const checks = {
  "text, state, steps, result": async () => {
    const agent = agentOf(uid("text"))
    const { events, result } = await ask(agent, "hello")
    const deltas = of(events, "TEXT_MESSAGE_CONTENT")
    assert.ok(deltas.length > 1, "the text does not grow")
    assert.equal(deltas.map((each) => each.delta).join(""), heard("hello"))
    assert.deepEqual(shape(agent), [["user", "hello"], ["assistant", heard("hello")]])
    assert.equal(new Set(deltas.map((each) => each.messageId)).size, 1)
    assert.equal(agent.messages[1].id, deltas[0].messageId)
    assert.deepEqual(agent.state, { topic: "rain", turns: 1 })
    assert.deepEqual([of(events, "STATE_SNAPSHOT").length, of(events, "STATE_DELTA").length], [1, 1])
    assert.deepEqual(of(events, "STEP_STARTED").map((each) => each.stepName), ["agent"])
    assert.deepEqual(of(events, "CUSTOM").filter((each) => each.name === "stream_writer")[0].value, { step: 1 })
    assert.deepEqual(result.result, { topic: "rain", turns: 1 })
    assert.equal(result.newMessages.length, 1)
    const end = last(events)
    assert.deepEqual([end.type, end.outcome.type], ["RUN_FINISHED", "success"])
    assert.equal(end.usage?.[0].totalTokens > 0, isModern)
    assert.equal(of(events, "RUN_STARTED")[0].protocolVersion, isModern ? "1.0" : undefined)
    assert.ok(types(events).indexOf("MESSAGES_SNAPSHOT") > types(events).indexOf("TEXT_MESSAGE_END"))
  },
  "a second run doubles nothing": async () => {
    const agent = agentOf(uid("second"))
    await ask(agent, "one")
    const { events, result } = await ask(agent, "two")
    assert.deepEqual(shape(agent), [["user", "one"], ["assistant", heard("one")], ["user", "two"], ["assistant", heard("two")]])
    assert.equal(new Set(agent.messages.map((each) => each.id)).size, 4)
    assert.equal(of(events, "TEXT_MESSAGE_START").length, 1)
    assert.equal(result.newMessages.length, 1)
  },
  "a tool of the server": async () => {
    const agent = agentOf(uid("tool"))
    const { events } = await ask(agent, "tool")
    const call = agent.messages[1].toolCalls[0]
    assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["search", { query: "rain" }])
    assert.deepEqual(shape(agent), [
      ["user", "tool"],
      ["assistant", "Let me see. "],
      ["tool", "found rain"],
      ["assistant", "The tool gave found rain."],
    ])
    assert.equal(agent.messages[2].toolCallId, call.id)
    for (const type of ["TOOL_CALL_START", "TOOL_CALL_END", "TOOL_CALL_RESULT"]) assert.equal(of(events, type).length, 1)
    assert.equal(of(events, "TOOL_CALL_START")[0].parentMessageId, agent.messages[1].id)
  },
  "a tool of the page": async () => {
    const agent = agentOf(uid("page"))
    const tools = [{ name: "paint", description: "Paint.", parameters: { type: "object", properties: {} } }]
    const first = await ask(agent, "page", { tools })
    const call = last(agent.messages).toolCalls[0]
    assert.deepEqual([call.function.name, JSON.parse(call.function.arguments)], ["paint", { colour: "red" }])
    assert.equal(of(first.events, "TOOL_CALL_RESULT").length, 0)
    assert.equal(last(first.events).outcome.type, "success")
    agent.addMessage({ id: uid("result"), role: "tool", toolCallId: call.id, content: "painted" })
    const second = run(agent, { tools })
    await second.done
    assert.deepEqual(shape(agent).slice(2), [["tool", "painted"], ["assistant", "The tool gave painted."]])
    assert.equal(of(second.events, "TOOL_CALL_START").length, 0)
  },
  reasoning: async () => {
    const agent = agentOf(uid("think"))
    const { events } = await ask(agent, "think")
    const thought = agent.messages.filter((each) => each.role === "reasoning")
    assert.deepEqual(thought.map((each) => each.content), ["Rain? Yes."])
    assert.equal(agent.messages.filter((each) => each.role === "assistant")[0].content, "It rains.")
    assert.ok(types(events).indexOf("REASONING_END") < types(events).indexOf("TEXT_MESSAGE_START"))
  },
  "an interrupt and its answer": async () => {
    const agent = agentOf(uid("ask"))
    const { events } = await ask(agent, "ask")
    const [interrupt] = agent.pendingInterrupts
    assert.equal(interrupt.message, "Go on?")
    assert.deepEqual(interrupt.metadata.value, { question: "Go on?" })
    assert.equal(of(events, "CUSTOM").filter((each) => each.name === "on_interrupt").length, 0)
    say(agent, "so?")
    await assert.rejects(run(agent).done, /not addressed|pending interrupt/)
    agent.messages.pop()
    const resumed = run(agent, { resume: [{ interruptId: interrupt.id, status: "resolved", payload: { yes: 1 } }] })
    await resumed.done
    assert.deepEqual(shape(agent), [["user", "ask"], ["assistant", "You answered {'yes': 1}."]])
    assert.equal(agent.pendingInterrupts.length, 0)
    assert.deepEqual(shape(agentWith(agent)), shape(agent))
  },
  "answers that are false, empty, zero or null": async () => {
    for (const [payload, shown] of [[false, "False"], ["", "''"], [0, "0"], [[], "[]"], [null, "None"]]) {
      const agent = agentOf(uid("falsy"))
      await ask(agent, "ask")
      const [interrupt] = agent.pendingInterrupts
      await run(agent, { resume: [{ interruptId: interrupt.id, status: "resolved", payload }] }).done
      assert.equal(last(agent.messages).content, `You answered ${shown}.`)
    }
  },
  "two interrupts at once": async () => {
    const agent = agentOf(uid("twice"))
    const { events } = await ask(agent, "ask twice")
    assert.equal(agent.pendingInterrupts.length, 2)
    assert.equal(new Set(of(events, "STEP_STARTED").map((each) => each.stepName)).size, 2)
    const resume = agent.pendingInterrupts.map((each) => ({ interruptId: each.id, status: "resolved", payload: each.message }))
    await run(agent, { resume }).done
    const answers = agent.messages.slice(1).map((each) => each.content)
    assert.deepEqual(answers.sort(), ["first: 'first'.", "second: 'second'."])
  },
  "an interrupt that the page cancels": async () => {
    const agent = agentOf(uid("cancelled"))
    await ask(agent, "ask")
    const [interrupt] = agent.pendingInterrupts
    await run(agent, { resume: [{ interruptId: interrupt.id, status: "cancelled" }] }).done
    assert.equal(last(agent.messages).content, "You answered {'cancelled': True}.")
  },
  "the older way to answer": async () => {
    const agent = agentOf(uid("command"))
    await ask(agent, "ask")
    agent.pendingInterrupts = []
    await run(agent, { forwardedProps: { command: { resume: false } } }).done
    assert.deepEqual(shape(agent), [["user", "ask"], ["assistant", "You answered False."]])
  },
  "a page that was reloaded is asked again": async () => {
    const agent = agentOf(uid("again"))
    await ask(agent, "ask")
    const fresh = agentOf(agent.threadId)
    await ask(fresh, "hello?")
    assert.deepEqual(fresh.pendingInterrupts.map((each) => each.id), agent.pendingInterrupts.map((each) => each.id))
    await run(fresh, { resume: [{ interruptId: fresh.pendingInterrupts[0].id, status: "resolved", payload: 1 }] }).done
    assert.deepEqual(shape(fresh), [["user", "ask"], ["assistant", "You answered 1."]])
  },
  "a page that was reloaded, without a replay": async () => {
    const agent = agentOf(uid("fresh"))
    await ask(agent, "one")
    const fresh = agentOf(agent.threadId)
    await ask(fresh, "two")
    assert.deepEqual(shape(fresh).map((each) => each[1]), ["one", heard("one"), "two", heard("two")])
  },
  "a run that fails, then a good one": async () => {
    const agent = agentOf(uid("fail"))
    const failing = await ask(agent, "fail")
    const error = last(failing.events)
    assert.deepEqual([error.type, error.message, error.code], ["RUN_ERROR", "the graph is broken", "ValueError"])
    await ask(agent, "hello")
    assert.equal(last(agent.messages).content, heard("hello"))
    assert.deepEqual(agent.messages.filter((each) => each.role === "user").length, 2)
  },
  "abortRun, then the next run": async () => {
    const agent = agentOf(uid("abort"))
    say(agent, `slow ${agent.threadId}`)
    const it = run(agent)
    await it.until((each) => each.type === "TEXT_MESSAGE_CONTENT")
    agent.abortRun()
    await it.done
    await ask(agent, "hello")
    assert.equal(last(agent.messages).content, heard("hello"))
  },
  "a server that stops": async () => {
    const agent = agentOf(uid("cut"))
    say(agent, `slow ${agent.threadId}`)
    const it = run(agent)
    await it.until((each) => each.type === "TEXT_MESSAGE_CONTENT")
    await drive({ do: "streams", thread: agent.threadId, how: "end" })
    await it.done
    assert.deepEqual([last(it.events).type, last(it.events).code], ["RUN_ERROR", "server_restart"])
    await drive({ do: "open", gate: agent.threadId })
    await drive({ do: "ended", thread: agent.threadId })
  },
  "a connection that breaks": async () => {
    const agent = agentOf(uid("break"))
    say(agent, `slow ${agent.threadId}`)
    const it = run(agent)
    await it.until((each) => each.type === "TEXT_MESSAGE_CONTENT")
    await drive({ do: "streams", thread: agent.threadId, how: "break" })
    await assert.rejects(it.done)
    await drive({ do: "open", gate: agent.threadId })
    await drive({ do: "ended", thread: agent.threadId })
  },
  "HTTP errors": async () => {
    for (const [path, status, name] of [["/agui/nothing", 403, "forbidden"], ["/nothing", 404, ""]]) {
      const agent = agentOf(uid("http"), path)
      say(agent, "hello")
      const error = await run(agent).done.then(() => undefined, (reason) => reason)
      assert.equal(error.status, status)
      assert.match(error.message, new RegExp(`HTTP ${status}.*${name}`))
    }
  },
  "a second run at once is refused": async () => {
    const agent = agentOf(uid("busy"))
    say(agent, `slow ${agent.threadId}`)
    const it = run(agent)
    await it.until((each) => each.type === "TEXT_MESSAGE_CONTENT")
    const other = agentOf(agent.threadId)
    say(other, "hello")
    const error = await run(other).done.then(() => undefined, (reason) => reason)
    assert.equal(error.status, 409)
    await drive({ do: "open", gate: agent.threadId })
    await it.done
    assert.equal(last(agent.messages).content, "One two three four.")
  },
  "a reload in the middle": async () => {
    const agent = agentOf(uid("reload"))
    await ask(agent, "tool")
    say(agent, `slow ${agent.threadId}`)
    const it = run(agent)
    await it.until((each) => each.type === "TEXT_MESSAGE_CONTENT")
    const reader = agentOf(agent.threadId, "/agui/connect")
    const replay = run(reader)
    await replay.until((each) => each.type === "TEXT_MESSAGE_CONTENT")
    await drive({ do: "open", gate: agent.threadId })
    await Promise.all([it.done, replay.done])
    assert.deepEqual(reader.messages, agent.messages)
    assert.deepEqual(reader.state, agent.state)
    assert.equal(of(replay.events, "RUN_STARTED").length, 1)
    const later = agentOf(agent.threadId, "/agui/connect")
    const after = run(later)
    await after.done
    assert.deepEqual(later.messages, agent.messages)
    assert.equal(of(after.events, "TEXT_MESSAGE_START").length, 0)
    later.url = `${base}/agui`
    await ask(later, "hello")
    assert.equal(later.messages.length, agent.messages.length + 2)
  },
  "a reload at an interrupt": async () => {
    const agent = agentOf(uid("waits"))
    await ask(agent, "ask")
    const reader = agentOf(agent.threadId, "/agui/connect")
    await run(reader).done
    assert.deepEqual(reader.messages, agent.messages)
    assert.deepEqual(reader.pendingInterrupts, agent.pendingInterrupts)
  },
  "an unknown thread is empty": async () => {
    const reader = agentOf(uid("unknown"), "/agui/connect")
    const it = run(reader)
    await it.done
    assert.deepEqual([it.events.length, reader.messages.length], [0, 0])
  },
  "connectAgent is empty": async () => {
    const agent = agentOf(uid("connect"))
    const found = await within(agent.connectAgent({}).catch(() => ({ newMessages: [] })), "connectAgent")
    assert.equal(found.newMessages.length, 0)
  },
  "an edited message": async () => {
    const agent = agentOf(uid("edit"))
    await ask(agent, "one")
    await ask(agent, "two")
    agent.setMessages(agent.messages.slice(0, 2))
    await ask(agent, "three")
    assert.deepEqual(shape(agent).map((each) => each[1]), ["one", heard("one"), "three", heard("three")])
    agent.setMessages([{ ...agent.messages[0], content: "four" }])
    await run(agent).done
    assert.deepEqual(shape(agent).map((each) => each[1]), ["four", heard("four")])
  },
  "an answer again": async () => {
    const agent = agentOf(uid("regenerate"))
    await ask(agent, "one")
    await ask(agent, "two")
    const before = last(agent.messages).id
    agent.setMessages(agent.messages.slice(0, 3))
    await run(agent).done
    assert.deepEqual(shape(agent).map((each) => each[1]), ["one", heard("one"), "two", heard("two")])
    assert.notEqual(last(agent.messages).id, before)
  },
  "the page's state": async () => {
    const agent = agentOf(uid("state"))
    await ask(agent, "hello")
    agent.setState({ ...agent.state, topic: "snow", own: true })
    await ask(agent, "state")
    assert.equal(last(agent.messages).content, "The topic is snow.")
    assert.deepEqual(agent.state, { topic: "snow", turns: 2 })
  },
  "a conversation that the server does not have": async () => {
    const agent = agentOf(uid("initial"), "/agui", {
      initialMessages: [{ id: uid("greeting"), role: "assistant", content: "How can I help?" }],
    })
    await ask(agent, "hello")
    assert.deepEqual(shape(agent).map((each) => each[1]), ["How can I help?", "hello", heard("hello")])
  },
}

// The conversation as a new agent reads it.
function agentWith(agent) {
  return agentOf(agent.threadId, "/agui", { initialMessages: agent.messages })
}

const wanted = process.argv.slice(4)
const waiting = Object.entries(checks).filter(([name]) => !wanted.length || wanted.includes(name))
async function work() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    const [name, check] = next
    let detail
    try {
      await check()
    } catch (error) {
      detail = error.stack
    }
    console.log(JSON.stringify({ check: name, passed: detail === undefined, detail }))
  }
}
await Promise.all([work(), work(), work(), work()])
process.exit(0)
