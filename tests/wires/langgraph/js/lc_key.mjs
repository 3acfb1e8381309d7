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
  async idOfAnyText() {
    const client = newClient({ apiKey: options.key });
    for (const threadId of ["frank/chat-1", "frank/é?&=%2F#.."]) {
      assert.equal((await client.threads.create({ threadId })).thread_id, threadId);
      let run;
      const frames = await read(client.runs.stream(threadId, "agent", { input: human("say hi"), streamMode: "messages-tuple", onRunCreated: (made) => (run = made.run_id) }));
      assert.equal(onlyText(frames), "hi");
      assert.deepEqual(await read(client.runs.joinStream(threadId, run, { lastEventId: "-1" })), frames);
      assert.equal((await client.threads.getState(threadId)).values.messages.length, 2);
      assert.equal((await client.runs.get(threadId, run)).thread_id, threadId);
    }
  },
  async none() {
    await refused(newClient().threads.create(), 401);
    await refused(newClient({ apiKey: "nope" }).threads.create(), 401);
  },
});
