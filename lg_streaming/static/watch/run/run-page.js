// The page of one execution: subscribes to it, and shows header and panels. A reload reads the log from the start, so
// that the page shows the whole log. A lost connection resumes from its position.

import { showGraphBeside } from "../graph/beside.js";
import { followHash } from "../graph/links.js";
import { caller, client, page } from "../session.js";
import "../scrubber/scrubber.js";
import { RunHeader } from "./header.js";
import { PANELS } from "./panels.js";
import { RunStore } from "./store.js";
import { Tabs } from "./tabs.js";

const query = new URLSearchParams(location.search);
const store = new RunStore();
let subscription = null;
const header = new RunHeader(store, client, page, caller, document, retry);
new Tabs(document.getElementById("tabs"), document.getElementById("panels"), PANELS, store).open(query.get("view"));
document.getElementById("scrubber").store = store;
showGraphBeside(document.getElementById("panels"), store);
followHash(store);

// Subscribes anew, from a position on.
function subscribe(after) {
  subscription?.close();
  const mine = client.subscribe(page.execution, {
    ...(after !== undefined && { after }),
    follow: ["1", "true"].includes(query.get("follow")),
    onUpdates: (updates) => store.add(updates),
    onGap: (gap) => store.miss(gap),
    onState: (state, { error = null }) => {
      if (mine !== subscription) return;
      store.connect(state, error);
      if (state === "failed") caller.lose(error);
    },
  });
  subscription = mine;
}

// Connects at once, and continues behind the shown updates.
function retry() {
  const { epoch, sequence_number: number } = store.updates.at(-1)?.metadata ?? {};
  subscribe(epoch === undefined ? undefined : `${epoch}:${number}`);
}

caller.addEventListener("back", retry); // after a new login
subscribe();
header.start();
