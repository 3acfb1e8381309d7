// The components of the guide in a page. Usage: node docs.mjs http://127.0.0.1:8000; GUIDE is the text of the guide.
import { mount, window } from "./dom.mjs"
import { transform } from "esbuild"
import assert from "node:assert/strict"
import { writeFile } from "node:fs/promises"
import { createElement } from "react"
import { base, fresh, open, run } from "./chat.mjs"

const ownFetch = globalThis.fetch
const sent = []
globalThis.fetch = (url, init) => {
  sent.push(`${init?.method ?? "GET"} ${url}`)
  return ownFetch(String(url).startsWith("/") ? `${base}${url}` : url, init)
}
globalThis.FormData = window.FormData

async function component(file) {
  const marker = "```jsx title=\"" + file + "\"\n"
  const begin = process.env.GUIDE.indexOf(marker)
  assert.ok(begin >= 0, `the guide has no ${file}`)
  const code = process.env.GUIDE.slice(begin + marker.length).split("\n```")[0]
  const made = await transform(code, { loader: "jsx", jsx: "automatic" })
  const path = new URL(`./${file.replace(".jsx", ".mjs")}`, import.meta.url)
  await writeFile(path, made.code)
  return import(path)
}

function shown(element) {
  const view = mount(() => 1, { render: () => element })
  const find = (selector, words) =>
    [...view.container.querySelectorAll(selector)].find((each) => !words || each.textContent.includes(words))
  const until = async (selector, words) => {
    await view.until(() => find(selector, words), () => `${selector} ${words}: ${view.container.innerHTML}`)
    return find(selector, words)
  }
  return { view, unmount: view.unmount, find, until }
}

const checks = {
  async "the chat of the guide"() {
    const { Chat } = await component("Chat.jsx")
    const id = fresh("guide")
    const page = shown(createElement(Chat, { id }))
    const input = await page.until("input")
    const send = async (text) => {
      await page.until("form button:not([disabled])")
      input.value = text
      input.form.dispatchEvent(new window.Event("submit", { bubbles: true, cancelable: true }))
    }
    await send("Hello")
    ;(await page.until("button", "Approve")).click()
    await page.until("p", "tool-slow_weather")
    const again = shown(createElement(Chat, { id }))
    await open(id)
    await page.until("p", "Done: rain in Oslo.")
    again.unmount()
    await send("Hello")
    ;(await page.until("button", "Deny")).click()
    await page.until("p", "output-denied")
    await send("Hello")
    await page.until("button", "Approve")
    page.find("button", "Cancel").click()
    await page.until("form button:not([disabled])")
    await page.view.until(() => sent.includes(`DELETE /executions/${id}`))
    assert.equal(page.find("[role=alert]"), undefined)
    page.unmount()
  },

  async "the assistant of the guide"() {
    const { Assistant } = await component("Assistant.jsx")
    const page = shown(createElement(Assistant, null, createElement("p", null, "inside")))
    await page.until("p", "inside")
    page.unmount()
  },
}

await run(checks, 1)
