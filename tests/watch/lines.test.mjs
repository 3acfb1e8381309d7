// Values in one line, for the cards of nodes that are closed.

import assert from "node:assert/strict";
import { test } from "node:test";

import { gist } from "../../lg_streaming/static/watch/dom.js";

test("messages are the text of the last one", () => {
  const messages = [{ type: "human", content: "Bergen?" }, { type: "ai", content: "It rains." }];
  assert.equal(gist({ messages, jump_to: "end" }), "It rains., end");
});

test("other values are themselves, or JSON", () => {
  assert.equal(gist({ city: "Bergen", days: [1, 2], blocks: [{ type: "ai", content: [] }] }), "Bergen, [1,2], []");
  assert.equal(gist("text"), "text");
  assert.equal(gist(null), "");
});
