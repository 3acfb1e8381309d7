// Feeds streams to a client's own checks. Prints one JSON line for each list of streams.
// Usage: node rules.mjs @ag-ui/client bodies.json
import assert from "node:assert/strict"
import { readFileSync } from "node:fs"

const [client, path] = process.argv.slice(2)
const { HttpAgent } = await import(client)
const remarks = []
console.warn = (...words) => remarks.push(words.join(" "))

for (const [check, bodies] of Object.entries(JSON.parse(readFileSync(path, "utf8")))) {
  let detail
  remarks.length = 0
  try {
    for (const body of bodies) {
      const headers = { "content-type": "text/event-stream" }
      const agent = new HttpAgent({ url: "http://server/agui", fetch: async () => new Response(body, { headers }) })
      const types = []
      await agent.runAgent({}, { onEvent: ({ event }) => void types.push(event.type) })
      assert.ok(["RUN_FINISHED", "RUN_ERROR"].includes(types[types.length - 1]), `the end is ${types[types.length - 1]}`)
    }
    assert.deepEqual(remarks, [])
  } catch (error) {
    detail = error.stack
  }
  console.log(JSON.stringify({ check, passed: detail === undefined, detail }))
}
