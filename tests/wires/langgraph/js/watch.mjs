// Start a run and print what comes of it, a line for each frame: `node watch.mjs URL TEXT SDK`.

const [apiUrl, text, sdk] = process.argv.slice(2);
const { Client } = await import(sdk);
const print = (line) => console.log(JSON.stringify(line));
process.stdin.on("end", () => process.exit(0)).resume();

try {
  const client = new Client({ apiUrl, apiKey: null });
  const { thread_id: thread } = await client.threads.create();
  const input = { messages: [{ type: "human", content: text, id: crypto.randomUUID() }] };
  let error = null;
  for await (const { event, data } of client.runs.stream(thread, "agent", { input, streamMode: ["values", "messages-tuple"], streamResumable: true, onDisconnect: "continue" })) {
    if (event === "messages") print({ type: "text", text: data[0].content });
    if (event === "values") print({ type: "values", values: data });
    if (event === "error") error = JSON.stringify(data);
  }
  print({ type: "over", error });
} catch (error) {
  print({ type: "over", error: String(error) });
}
