// CopilotKit's core, as its pages use it, straight at the server or through CopilotKit's own runtime.
// Prints one JSON line a check. Usage: node copilotkit.mjs http://127.0.0.1:8000 direct|single|runtime
import assert from "node:assert/strict"
import { createServer } from "node:http"

globalThis.window = globalThis // the core reconnects only in a browser
globalThis.location ??= new URL("http://localhost/")
process.env.COPILOTKIT_TELEMETRY_DISABLED = "true"
const [base, way] = process.argv.slice(2)
const { CopilotKitCore } = await import("@copilotkit/core")
const { HttpAgent } = await import("@ag-ui/client")
console.warn = console.info = console.error = () => {}

let runtimeUrl = `${base}/copilotkit`
let server
if (way === "runtime") {
  const { CopilotRuntime } = await import("@copilotkit/runtime/v2")
  const { createCopilotNodeListener } = await import("@copilotkit/runtime/v2/node")
  const runtime = new CopilotRuntime({ agents: { chat: new HttpAgent({ url: `${base}/agui` }) } })
  server = createServer(createCopilotNodeListener({ runtime, basePath: "/api/copilotkit" }))
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve))
  runtimeUrl = `http://127.0.0.1:${server.address().port}/api/copilotkit`
}

let number = 0
const uid = (name) => `kit-${way}-${name}-${++number}`
const drive = async (what) => {
  const body = JSON.stringify(what)
  const answer = await fetch(`${base}/drive`, { method: "POST", headers: { "content-type": "application/json" }, body })
  assert.equal(answer.status, 200)
  return answer.json()
}
const within = (promise, what, ms = 30000) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}
async function page(threadId, options = {}) {
  const runtimeTransport = way === "single" ? "single" : "rest"
  const core = new CopilotKitCore({ runtimeUrl, runtimeTransport, ...options })
  const connected = async () => {
    while (core.runtimeConnectionStatus !== "connected") {
      assert.notEqual(core.runtimeConnectionStatus, "error")
      await new Promise((resolve) => setTimeout(resolve, 10))
    }
  }
  await within(connected(), "the connection")
  const agent = core.getAgent("chat")
  agent.threadId = threadId
  const events = []
  const waiting = []
  agent.subscribe({
    onEvent: ({ event }) => {
      events.push(event)
      for (const each of waiting) if (each.fits(event)) each.resolve()
    },
  })
  const until = (fits) =>
    within(new Promise((resolve) => (events.some(fits) ? resolve() : waiting.push({ fits, resolve }))), "an event")
  const run = (text, more = {}) => {
    if (text) agent.addMessage({ id: uid("user"), role: "user", content: text })
    return within(core.runAgent({ agent, ...more }), "the run")
  }
  return { core, agent, events, until, run, connect: () => within(core.connectAgent({ agent }), "the replay") }
}
const shape = (agent) => agent.messages.map((each) => [each.role, each.content])
const heard = (text) => `You said ${text}, and I heard it well.`
const last = (list) => list[list.length - 1]
const isText = (event) => event.type === "TEXT_MESSAGE_CONTENT"

const checks = {
  info: async () => {
    const { core } = await page(uid("info"))
    assert.ok(Object.keys(core.agents).includes("chat"))
    assert.match(core.runtimeVersion, /^1\.75/)
  },
  "text, token by token": async () => {
    const { agent, events, run } = await page(uid("text"))
    await run("hello")
    assert.deepEqual(shape(agent), [["user", "hello"], ["assistant", heard("hello")]])
    assert.ok(events.filter(isText).length > 1)
    assert.equal(agent.state.topic, "rain")
    await run("two")
    assert.equal(agent.messages.length, 4)
  },
  "a tool of the server": async () => {
    const { agent, run } = await page(uid("tool"))
    await run("tool")
    assert.deepEqual(agent.messages.map((each) => each.role), ["user", "assistant", "tool", "assistant"])
    assert.equal(last(agent.messages).content, "The tool gave found rain.")
  },
  "a tool of the page": async () => {
    const { core, agent, run } = await page(uid("page"))
    const painted = []
    core.addTool({ name: "paint", description: "Paint.", handler: async (args) => (painted.push(args), "painted") })
    await run("page")
    assert.deepEqual(painted, [{ colour: "red" }])
    assert.equal(last(agent.messages).content, "The tool gave painted.")
  },
  "an interrupt and its answer": async () => {
    const { agent, run } = await page(uid("ask"))
    await run("ask")
    const [interrupt] = agent.pendingInterrupts
    assert.equal(interrupt.message, "Go on?")
    await run(undefined, { resume: [{ interruptId: interrupt.id, status: "resolved", payload: false }] })
    assert.deepEqual(shape(agent), [["user", "ask"], ["assistant", "You answered False."]])
  },
  "a reload in the middle": async () => {
    const one = await page(uid("reload"))
    const done = one.run(`slow ${one.agent.threadId}`)
    await one.until(isText)
    const two = await page(one.agent.threadId)
    const replay = two.connect()
    await two.until(isText)
    await drive({ do: "open", gate: one.agent.threadId })
    await Promise.all([done, replay])
    assert.equal(last(two.agent.messages).content, "One two three four.")
    assert.deepEqual(shape(two.agent), shape(one.agent))
  },
  "a reload after the end": async () => {
    const one = await page(uid("after"))
    await one.run("tool")
    await one.run("two")
    const two = await page(one.agent.threadId)
    await two.connect()
    assert.deepEqual(shape(two.agent), shape(one.agent))
    await two.run("three")
    assert.equal(last(two.agent.messages).content, heard("three"))
  },
  "an unknown thread": async () => {
    const { agent, connect } = await page(uid("unknown"))
    await connect()
    assert.equal(agent.messages.length, 0)
  },
  stop: async () => {
    const { core, agent, until, run } = await page(uid("stop"))
    const done = run(`slow ${agent.threadId}`)
    await until(isText)
    core.stopAgent({ agent })
    await done
    assert.equal((await drive({ do: "ended", thread: agent.threadId })).state, "cancelled")
  },
  "a failure, then a good run": async () => {
    const { agent, events, run } = await page(uid("fail"))
    await run("fail").catch(() => {})
    assert.equal(events.find((each) => each.type === "RUN_ERROR").message, "the graph is broken")
    await run("hello")
    assert.equal(last(agent.messages).content, heard("hello"))
  },
}

process.on("unhandledRejection", () => {})
await Promise.all(
  Object.entries(checks).map(async ([name, check]) => {
    let detail
    try {
      await check()
    } catch (error) {
      detail = error.stack
    }
    console.log(JSON.stringify({ check: name, passed: detail === undefined, detail }))
  }),
)
process.exit(0)
