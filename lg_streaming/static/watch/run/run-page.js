// The page of one execution: subscribes to it, and shows header and panels. A reload reads the log from the start, so
// that the page shows the whole log. A lost connection resumes from its position.

import { showGraphBeside } from "../graph/beside.js";
import { caller, client, page } from "../session.js";
import { RunHeader } from "./header.js";
import { PANELS } from "./panels.js";
import { RunStore } from "./store.js";
import { Tabs } from "./tabs.js";

const query = new URLSearchParams(location.search);
const store = new RunStore();
const header = new RunHeader(store, client, page, caller, document);
new Tabs(document.getElementById("tabs"), document.getElementById("panels"), PANELS, store).open(query.get("view"));
showGraphBeside(document.getElementById("panels"), store);

function read(after) {
  client.subscribe(page.execution, {
    ...(after && { after }),
    follow: ["1", "true"].includes(query.get("follow")),
    onUpdates: (updates) => store.add(updates),
    onGap: (gap) => store.miss(gap),
    onState: (state, { error = null }) => {
      store.connect(state, error);
      if (state === "failed") caller.lose(error);
    },
  });
}

// After a new login the page goes on with what it shows.
caller.addEventListener("back", () => {
  const { epoch, sequence_number: number } = store.updates.at(-1)?.metadata ?? {};
  read(epoch === undefined ? undefined : `${epoch}:${number}`);
});
read();
header.start();
