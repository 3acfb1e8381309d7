// The checks of the protocol's stock client against one server. Prints one JSON line a check.
// Usage: node checks.mjs http://127.0.0.1:8000 /v1/stream
import { DurableStream, FetchError, stream } from "@durable-streams/client"
import assert from "node:assert/strict"

const [base, path] = process.argv.slice(2)
const backoffOptions = { initialDelay: 20, maxDelay: 100, multiplier: 1.3, maxRetries: 20 }
let number = 0

const url = (id, query = "") => `${base}${path}/${encodeURIComponent(id)}${query}`
const fresh = (name) => `${name}-${process.pid}-${++number}`
const drive = async (id, what, more = {}) => {
  const answer = await fetch(`${base}/drive`, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ id, do: what, ...more }),
  })
  assert.equal(answer.status, 200)
}
const tokens = (id, from, to) => drive(id, "tokens", { from, to })
const begun = async (name, count = 0) => {
  const id = fresh(name)
  await drive(id, "open")
  if (count) await tokens(id, 0, count)
  return id
}
const text = (items) => items.filter((each) => each.type === "token").map((each) => each.data.content).join("")
const expected = (from, to) => Array.from({ length: to - from }, (_, i) => `t${from + i} `).join("")
const within = (promise, what, ms = 30_000) => {
  let timer
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not in time: ${what}`)), ms)
  })
  return Promise.race([promise, late]).finally(() => clearTimeout(timer))
}

// A reader with the stock client; it keeps each batch.
class Reader {
  constructor(id, options = {}) {
    this.id = id
    this.items = []
    this.batches = []
    this.requests = []
    this.failure = undefined
    this.waiting = []
    this.abort = new AbortController()
    const { query = "", ...rest } = options
    this.options = {
      url: url(id, query),
      json: true,
      signal: this.abort.signal,
      backoffOptions,
      fetch: (address, init) => {
        this.requests.push(String(address))
        this.#look()
        return fetch(address, init)
      },
      ...rest,
    }
  }

  async start() {
    this.response = await stream(this.options)
    this.response.closed.then(() => this.#look(), (error) => {
      this.failure = error
      this.#look()
    })
    this.response.subscribeJson((batch) => {
      this.items.push(...batch.items)
      this.batches.push({ offset: batch.offset, closed: batch.streamClosed === true, upToDate: batch.upToDate })
      this.#look()
    })
    return this
  }

  #look() {
    this.waiting = this.waiting.filter(({ fits, resolve }) => !fits(this) || resolve(this))
  }

  until(fits, what) {
    if (fits(this)) return Promise.resolve(this)
    return within(new Promise((resolve) => this.waiting.push({ fits, resolve })), what).catch((error) => {
      throw new Error(`${error.message}: ${text(this.items)} ${JSON.stringify(this.batches)} ${this.failure}`)
    })
  }

  has(count) {
    return this.until((it) => it.items.filter((each) => each.type === "token").length >= count, `${count} tokens`)
  }

  get last() {
    return this.batches.at(-1)
  }
}
const reader = (id, options) => new Reader(id, options).start()

// Reads a live run to its end; the text is whole and the stream is closed.
const follows = async (live, count = 12) => {
  const id = await begun("live", 4)
  const it = await reader(id, { live })
  await it.has(4)
  await tokens(id, 4, 8)
  await it.has(8)
  await tokens(id, 8, count)
  await drive(id, "close")
  await it.until((each) => each.last?.closed, "the end")
  await within(it.response.closed, "closed")
  assert.equal(text(it.items), expected(0, count))
  assert.equal(it.items[0].type, "workflow_start")
  assert.equal(it.items.at(-1).type, "workflow_complete")
  return it
}

// Leaves in the middle and reads on from the saved offset: nothing is lost or doubled.
const resumes = async (live) => {
  const id = await begun("resume", 5)
  const first = await reader(id, { live })
  await first.has(5)
  await tokens(id, 5, 9)
  await first.has(9)
  const { offset } = first.last
  first.abort.abort()
  await tokens(id, 9, 15)
  const second = await reader(id, { live, offset })
  await second.has(6)
  await tokens(id, 15, 20)
  await drive(id, "close")
  await second.until((each) => each.last?.closed, "the end")
  assert.equal(text(first.items) + text(second.items), expected(0, 20))
}

const status = async (promise) => {
  try {
    await promise
  } catch (error) {
    assert.ok(error instanceof FetchError, String(error))
    return error.status
  }
  return 200
}

const checks = {
  "catch-up": async () => {
    const id = await begun("catch", 10)
    const res = await stream({ url: url(id), live: false })
    const items = await res.json()
    assert.equal(text(items), expected(0, 10))
    assert.equal(items[1].metadata.sequence_number, 2)
    assert.equal(res.contentType, "application/json")
    assert.equal(res.upToDate, true)
  },
  "live-sse": async () => {
    const it = await follows("sse")
    assert.equal(it.requests.filter((each) => each.includes("live=sse")).length, 1)
  },
  "live-long-poll": async () => {
    const it = await follows("long-poll")
    assert.ok(it.requests.some((each) => each.includes("live=long-poll")))
  },
  "live-true": () => follows(true),
  "resume-sse": () => resumes("sse"),
  "resume-long-poll": () => resumes("long-poll"),
  "offsets-sort": async () => {
    const id = await begun("sort")
    const it = await reader(id, { live: "sse" })
    await it.until((each) => each.items.length === 1, "the start")
    for (const at of [0, 3, 9, 11, 30]) {
      await tokens(id, at, at + 2)
      await it.until((each) => text(each.items).endsWith(expected(at, at + 2)), `token ${at}`)
    }
    await drive(id, "close")
    await it.until((each) => each.last.closed, "the end")
    const offsets = it.batches.map((each) => each.offset)
    assert.ok(offsets.length >= 6)
    assert.deepEqual(offsets, [...offsets].sort())
    assert.ok(new Set(offsets).size >= 6)
    for (const offset of offsets) assert.match(offset, /^[^,&=?/\s]{1,255}$/)
  },
  now: async () => {
    const id = await begun("now", 5)
    const it = await reader(id, { offset: "now", live: "sse" })
    await it.until((each) => each.requests.some((one) => one.includes("live=sse")), "live")
    await tokens(id, 5, 8)
    await it.has(3)
    await drive(id, "close")
    await it.until((each) => each.last?.closed, "the end")
    assert.equal(text(it.items), expected(5, 8))
  },
  "now-empty": async () => {
    const id = await begun("now", 5)
    const answer = await fetch(url(id, "?offset=now"))
    assert.equal(answer.status, 200)
    assert.deepEqual(await answer.json(), [])
    assert.equal(answer.headers.get("stream-up-to-date"), "true")
    assert.equal(answer.headers.get("cache-control"), "no-store")
    assert.equal(answer.headers.get("etag"), null)
    const head = await fetch(url(id), { method: "HEAD" })
    assert.equal(answer.headers.get("stream-next-offset"), head.headers.get("stream-next-offset"))
  },
  "sse-ends": async () => {
    const id = await begun("ends", 3)
    const it = await reader(id, { live: "sse" })
    await it.has(3)
    for (const at of [3, 6]) { // the client gives up after three connections shorter than a second
      await tokens(id, at, at + 3)
      await it.has(at + 3)
      const before = it.requests.length
      await drive(id, "streams", { how: "end" })
      await it.until((each) => each.requests.length > before, "the next connection")
    }
    await tokens(id, 9, 12)
    await drive(id, "close")
    await it.until((each) => each.last.closed, "the end")
    assert.equal(text(it.items), expected(0, 12))
  },
  "sse-breaks": async () => {
    const id = await begun("breaks", 3)
    const it = await reader(id, { live: "sse" })
    await it.has(3)
    await tokens(id, 3, 6)
    await it.has(6)
    const { offset } = it.last
    await drive(id, "streams", { how: "break" })
    await it.until((each) => each.failure !== undefined, "the failure")
    await tokens(id, 6, 9)
    await drive(id, "close")
    const again = await reader(id, { live: "sse", offset })
    await again.until((each) => each.last?.closed, "the end")
    assert.equal(text(it.items) + text(again.items), expected(0, 9))
  },
  unknown: async () => {
    for (const live of ["sse", "long-poll"]) {
      const id = fresh("later")
      const it = await reader(id, { live })
      await it.until((each) => each.requests.some((one) => one.includes("live=")), "live")
      assert.deepEqual(it.items, [])
      await drive(id, "open")
      await tokens(id, 0, 3)
      await drive(id, "close")
      await it.until((each) => each.last?.closed, "the end")
      assert.equal(text(it.items), expected(0, 3))
    }
  },
  "bad-offset": async () => {
    const id = await begun("bad", 1)
    for (const offset of ["nonsense", "a_1", "0:1", "-2", "1645bb62_99999999999999999"])
      assert.equal(await status(stream({ url: url(id), offset, live: false, backoffOptions })), 400, offset)
    for (const query of ["?offset=", "?offset=-1&offset=-1", "?live=sse", "?live=long-poll", "?offset=-1&live=x"])
      assert.equal((await fetch(url(id, query))).status, 400, query)
    const tail = (await fetch(url(id))).headers.get("stream-next-offset")
    const future = tail.replace(/\d{16}$/, "0000000000000099")
    for (const query of [`?offset=${future}`, `?offset=${future}&live=sse`, `?offset=${future}&live=long-poll`])
      assert.equal((await fetch(url(id, query))).status, 400, query)
    assert.equal((await fetch(url(id, "?unknown=1&offset=-1"))).status, 200)
  },
  gone: async () => {
    const id = await begun("gone", 5)
    const offset = (await fetch(url(id))).headers.get("stream-next-offset")
    await tokens(id, 5, 100)
    for (const live of [false, "sse", "long-poll"])
      assert.equal(await status(stream({ url: url(id), offset, live, backoffOptions })), 410, String(live))
    assert.equal((await fetch(url(id, `?offset=${offset}&live=sse`))).status, 410)
    const items = await (await stream({ url: url(id), live: false })).json()
    assert.deepEqual(items[0].type, "gap")
    assert.equal(items[0].data.from, 1)
    assert.equal(items[1].metadata.sequence_number, items[0].data.to + 1)
    assert.ok(text(items).endsWith("t99 "))
    await drive(id, "drop")
    await tokens(id, 0, 1)
    assert.equal((await fetch(url(id, `?offset=${offset}&live=sse`))).status, 410)
    assert.equal((await fetch(url(id, `?offset=${offset}`))).status, 410)
  },
  head: async () => {
    const id = await begun("head", 3)
    const handle = new DurableStream({ url: url(id) })
    const open = await handle.head()
    assert.equal(open.contentType, "application/json")
    assert.match(open.offset, /_0000000000000004$/)
    assert.ok(!open.streamClosed)
    await drive(id, "close")
    const closed = await handle.head()
    assert.ok(closed.offset > open.offset)
    assert.equal(closed.streamClosed, true)
  },
  etag: async () => {
    const id = await begun("etag", 3)
    const first = await fetch(url(id))
    const etag = first.headers.get("etag")
    const again = (query = "", tag = etag) => fetch(url(id, query), { headers: { "if-none-match": tag } })
    const same = await again()
    assert.equal(same.status, 304)
    assert.equal(await same.text(), "")
    assert.equal(same.headers.get("stream-next-offset"), first.headers.get("stream-next-offset"))
    const tail = first.headers.get("stream-next-offset")
    const empty = await fetch(url(id, `?offset=${tail}`))
    assert.notEqual(empty.headers.get("etag"), etag)
    await drive(id, "close")
    const changed = await again()
    assert.equal(changed.status, 200)
    assert.equal(changed.headers.get("stream-closed"), "true")
    assert.equal((await again("", changed.headers.get("etag"))).status, 304)
  },
  "sse-frames": async () => {
    const id = await begun("frames", 2)
    await drive(id, "close")
    const answer = await fetch(url(id, "?offset=-1&live=sse"))
    assert.equal(answer.headers.get("content-type").split(";")[0], "text/event-stream")
    const events = (await answer.text()).trimEnd().split("\n\n").map((each) => each.split("\n"))
    for (const [index, [name, data]] of events.entries()) {
      assert.ok(name === "event: data" || name === "event: control", name)
      assert.match(data, /^data:[[{]/)
      if (name === "event: data") assert.equal(events[index + 1]?.[0], "event: control")
    }
    const last = JSON.parse(events.at(-1)[1].slice(5))
    assert.equal(last.streamClosed, true)
    assert.equal(last.upToDate, true)
    assert.equal(last.streamCursor, undefined)
    assert.match(last.streamNextOffset, /_0000000000000004$/)
  },
  "read-only": async () => {
    const id = await begun("only", 1)
    for (const method of ["POST", "PUT", "DELETE", "PATCH"]) {
      const answer = await fetch(url(id), { method, body: method === "DELETE" ? undefined : "[1]" })
      assert.equal(answer.status, 405, method)
      assert.equal(answer.headers.get("allow"), "GET, HEAD, OPTIONS")
    }
    const options = await fetch(url(id), { method: "OPTIONS" })
    assert.equal(options.status, 204)
    assert.ok(options.headers.get("access-control-allow-headers").toLowerCase().includes("if-none-match"))
  },
  // ------------------------------------------------------------ more than the protocol's list
  "second-run": async () => {
    const id = await begun("twice", 2)
    const chat = await reader(id, { live: "sse", query: "?follow=true" })
    await chat.has(2)
    await drive(id, "close")
    const one = await reader(id, { live: "sse" })
    await one.until((each) => each.last?.closed, "the first run's end")
    await drive(id, "open")
    await tokens(id, 2, 5)
    await chat.has(5)
    await drive(id, "close")
    await chat.until((each) => each.items.at(-1).type === "workflow_complete" && text(each.items) === expected(0, 5), "all")
    assert.ok(chat.batches.every((each) => !each.closed))
    const later = await reader(id, { live: "sse", offset: one.last.offset })
    await later.until((each) => each.last?.closed, "the second run's end")
    assert.equal(text(one.items) + text(later.items), expected(0, 5))
    const head = await fetch(url(id, "?follow=true"), { method: "HEAD" })
    assert.equal(head.headers.get("stream-closed"), null)
    chat.abort.abort()
  },
  filter: async () => {
    const id = await begun("filter", 3)
    const it = await reader(id, { live: "sse", query: "?events=workflow*" })
    await it.until((each) => each.items.length === 1, "the start")
    await tokens(id, 3, 6)
    await drive(id, "close")
    await it.until((each) => each.last?.closed, "the end")
    assert.deepEqual(it.items.map((each) => each.type), ["workflow_start", "workflow_complete"])
    assert.match(it.last.offset, /_0000000000000008$/)
    assert.equal((await fetch(url(id, "?events=token&min_priority=urgent"))).status, 400)
    assert.equal((await fetch(url(id, "?until=interrupted"))).status, 400)
  },
  "long-poll-waits": async () => {
    const id = await begun("waits", 1)
    const tail = (await fetch(url(id))).headers.get("stream-next-offset")
    const answer = await fetch(url(id, `?offset=${tail}&live=long-poll&cursor=99999999`))
    assert.equal(answer.status, 204)
    assert.equal(answer.headers.get("stream-next-offset"), tail)
    assert.equal(answer.headers.get("stream-up-to-date"), "true")
    assert.ok(Number(answer.headers.get("stream-cursor")) > 99999999)
    await drive(id, "close")
    const end = (await fetch(url(id))).headers.get("stream-next-offset")
    const closed = await fetch(url(id, `?offset=${end}&live=long-poll`))
    assert.equal(closed.status, 204)
    assert.equal(closed.headers.get("stream-closed"), "true")
    assert.equal(closed.headers.get("stream-cursor"), null)
  },
}

await Promise.all(
  Object.entries(checks).map(async ([name, check]) => {
    const failure = await within(check(), name, 20000).then(() => null, (error) => error)
    console.log(JSON.stringify({ check: name, passed: failure === null, detail: failure?.stack ?? "" }))
  }),
)
process.exit(0)
