// Use a page of the documentation as a person does: `node page.mjs BUNDLE API_URL`. It has a component `Chat`.

import { JSDOM } from "jsdom";

import { until } from "../../langgraph/js/lib.mjs";

const [, , apiUrl, , options] = process.argv;
const { bundle } = JSON.parse(options);
const dom = new JSDOM("<!doctype html><body></body>", { url: apiUrl });
for (const name of ["window", "document", "FormData"]) globalThis[name] = name === "window" ? dom.window : dom.window[name];
globalThis.navigator ??= dom.window.navigator;

const { createElement, createRoot, Chat } = await import(bundle);
const page = document.body.appendChild(document.createElement("div"));
const root = createRoot(page);
root.render(createElement(Chat, { apiUrl, initialThread: null }));
const texts = () => [...page.querySelectorAll("p")].map((each) => each.textContent);
const button = (name) => [...page.querySelectorAll("button")].find((each) => each.textContent.includes(name));

async function send(text) {
  await until(() => button("Send") && !button("Send").disabled, () => page.innerHTML);
  page.querySelector("input").value = text;
  page.querySelector("form").dispatchEvent(new dom.window.Event("submit", { bubbles: true, cancelable: true }));
}

let error = null;
try {
  await send("say Hello there.");
  await until(() => texts().at(-1) === "ai: Hello there.", () => page.innerHTML);
  await send("ask");
  await until(() => button("Go on?"), () => page.innerHTML);
  button("Go on?").click();
  await until(() => texts().at(-1) === "ai: answer: yes", () => page.innerHTML);
  await send("say one |never| two");
  await until(() => texts().at(-1) === "ai: one", () => page.innerHTML);
  button("Stop").click();
  await until(() => !button("Send").disabled, () => page.innerHTML);
  await send("say again");
  await until(() => texts().includes("ai: again"), () => page.innerHTML);
} catch (raised) {
  error = raised.stack;
}
console.log(JSON.stringify({ type: "check", check: "page", error }));
process.exit(0);
