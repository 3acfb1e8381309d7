// Start a run on a thread and print what comes of it, a line for each piece: `node watch.mjs URL THREAD TEXT TRANSPORT`.

import { setTimeout } from "node:timers/promises";

import WebSocket from "ws";

import { Client } from "@langchain/langgraph-sdk";

const [apiUrl, thread, text, transport] = process.argv.slice(2);
const print = (line) => console.log(JSON.stringify(line));
process.stdin.on("end", () => process.exit(0)).resume();

const client = new Client({ apiUrl, apiKey: null });
const stream = client.threads.stream(thread, { assistantId: "agent", transport, webSocketFactory: (url) => new WebSocket(url) });
const events = await stream.subscribe({ channels: ["messages", "values", "lifecycle"] });
if (text) await stream.run.start({ input: { messages: [{ type: "human", content: text, id: crypto.randomUUID() }] } });
for (;;) {
  for await (const { params, method } of events) {
    const { data } = params;
    if (data.delta?.type === "text-delta") print({ type: "text", text: data.delta.text });
    if (method === "values") print({ type: "values", values: data });
    if (method === "lifecycle" && data.event !== "running") print({ type: "over", status: data.event });
  }
  // The client pauses its subscriptions at the end of each run. The end of a run that another client has started is
  // queued and does not resume them, so the queue is looked at again.
  await Promise.race([events.waitForResume(), setTimeout(100)]);
}
