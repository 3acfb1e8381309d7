// The token as the client's `apiKey`, and as a header of its own.

import { assert, human, newClient, onlyText, options, read, refused, runChecks } from "./lib.mjs";

const text = async (client) => {
  const { thread_id: thread } = await client.threads.create();
  return onlyText(await read(client.runs.stream(thread, "agent", { input: human("say hi"), streamMode: "messages-tuple" })));
};

await runChecks({
  async apiKey() {
    assert.equal(await text(newClient({ apiKey: options.key })), "hi");
  },
  async header() {
    assert.equal(await text(newClient({ defaultHeaders: { Authorization: `Bearer ${options.key}` } })), "hi");
  },
  async none() {
    await refused(newClient().threads.create(), 401);
    await refused(newClient({ apiKey: "nope" }).threads.create(), 401);
  },
});
