// The AI SDK's stock client against `lg-streaming replay`. Prints one JSON line a check.
// Usage: node replay.mjs http://127.0.0.1:8000
import assert from "node:assert/strict"
import { Page, run, textOf } from "./chat.mjs"

const checks = {
  async "two questions"() {
    const page = new Page({})
    for (const text of ["one", "two"]) {
      await page.sendMessage({ text })
      await page.ready()
    }
    const answers = page.messages.filter((each) => each.role === "assistant").map(textOf)
    assert.deepEqual(answers, ["It rains in Oslo, and it will rain.", "First. Second.Third and last."])
    assert.deepEqual(page.errors, [])
  },
}

await run(checks)
