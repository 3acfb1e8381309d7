// Reads a prediction with a client of Flowise's own, and writes what it got as JSON lines on stdout.
//
//   node flowise.mjs sdk URL FLOW BODY     flowise-sdk: createPrediction, and its async iterator
//   node flowise.mjs fetch URL FLOW BODY   @microsoft/fetch-event-source, the way of Flowise's chat window
//
// Lines out: {type:"event", event}, {type:"answer", answer} where nothing is streamed, {type:"closed"}.

const [way, url, flow, body] = process.argv.slice(2);
const say = (type, fields = {}) => process.stdout.write(`${JSON.stringify({ type, ...fields })}\n`);

async function sdk() {
  const { FlowiseClient } = (await import("flowise-sdk")).default;
  const client = new FlowiseClient({ baseUrl: url });
  const prediction = await client.createPrediction({ chatflowId: flow, ...JSON.parse(body) });
  if (!prediction[Symbol.asyncIterator]) return say("answer", { answer: prediction });
  for await (const event of prediction) say("event", { event });
}

async function fetchEventSource() {
  // It is made for browsers: it asks for these even when it shall not mind whether the page is hidden.
  globalThis.window = globalThis;
  globalThis.document = new EventTarget();
  const { EventStreamContentType, fetchEventSource: open } = await import("@microsoft/fetch-event-source");
  const done = new AbortController();
  await open(`${url}/api/v1/prediction/${flow}`, {
    method: "POST",
    body,
    headers: { "Content-Type": "application/json" },
    openWhenHidden: true,
    signal: done.signal,
    async onopen(response) {
      const type = response.headers.get("content-type");
      if (!response.ok || !type?.startsWith(EventStreamContentType)) throw new Error(`${response.status} ${type}`);
    },
    onmessage(message) {
      const event = JSON.parse(message.data);
      say("event", { event });
      if (event.event === "end") done.abort();
    },
    onerror(error) {
      throw error;
    },
  });
}

await { sdk, fetch: fetchEventSource }[way]();
say("closed");
