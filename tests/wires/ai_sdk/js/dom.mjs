// A page in jsdom, and components that show what a hook returned last.
import { JSDOM } from "jsdom"

const dom = new JSDOM("<!doctype html><div id='root'></div>", { url: "http://127.0.0.1/", pretendToBeVisual: true })
for (const name of ["window", "document", "HTMLElement", "Node", "Event", "MutationObserver", "sessionStorage", "localStorage"]) {
  if (!(name in globalThis)) globalThis[name] = name === "window" ? dom.window : dom.window[name]
}
if (!globalThis.navigator) globalThis.navigator = dom.window.navigator
globalThis.requestAnimationFrame ??= dom.window.requestAnimationFrame
globalThis.cancelAnimationFrame ??= dom.window.cancelAnimationFrame
for (const name of ["ResizeObserver", "IntersectionObserver"]) {
  globalThis[name] ??= class { observe() {} unobserve() {} disconnect() {} }
}
export const { window } = dom

let visibility = "visible"
Object.defineProperty(dom.window.document, "visibilityState", { get: () => visibility })
export const show = (state) => {
  visibility = state
  dom.window.document.dispatchEvent(new dom.window.Event("visibilitychange"))
}

const { createElement, StrictMode } = await import("react")
const { createRoot } = await import("react-dom/client")

// Mount `use`, a function that calls hooks. `value` is its last result, of which `render` makes an element.
export function mount(use, { strict = false, render = () => null } = {}) {
  const view = { value: undefined, watchers: new Set() }
  const Component = () => {
    view.value = use()
    queueMicrotask(() => { for (const each of [...view.watchers]) each() })
    return render(view.value)
  }
  view.container = dom.window.document.createElement("div")
  dom.window.document.body.append(view.container)
  const root = createRoot(view.container)
  const element = createElement(Component)
  root.render(strict ? createElement(StrictMode, null, element) : element)
  view.unmount = () => root.unmount()
  view.until = (fits, what = "the state", ms = 30_000) => new Promise((resolve, reject) => {
    const timer = setInterval(() => look(), 20)
    const late = setTimeout(() => { done(); reject(new Error(`not in time: ${typeof what === "function" ? what() : what}`)) }, ms)
    const done = () => { clearInterval(timer); clearTimeout(late); view.watchers.delete(look) }
    const look = () => { if (view.value !== undefined && fits(view.value)) { done(); resolve(view.value) } }
    view.watchers.add(look)
    look()
  })
  return view
}
