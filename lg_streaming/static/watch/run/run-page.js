// The page of one execution: subscribes to it, and shows header and panels. A reload reads the log from the start, so
// that the page shows the whole log. A lost connection resumes from its position.

import { client, page } from "../session.js";
import { RunHeader } from "./header.js";
import { PANELS } from "./panels.js";
import { RunStore } from "./store.js";
import { Tabs } from "./tabs.js";

const query = new URLSearchParams(location.search);
const store = new RunStore();
let subscription = null;
const header = new RunHeader(store, client, page, document, () => subscribe(subscription.position ?? undefined));
new Tabs(document.getElementById("tabs"), document.getElementById("panels"), PANELS, store).open(query.get("view"));

// Subscribes anew, from a position on.
function subscribe(after) {
  subscription?.close();
  const mine = client.subscribe(page.execution, {
    ...(after !== undefined && { after }),
    follow: ["1", "true"].includes(query.get("follow")),
    onUpdates: (updates) => store.add(updates),
    onGap: (gap) => store.miss(gap),
    onState: (state, { error = null }) => mine === subscription && store.connect(state, error),
  });
  subscription = mine;
}

subscribe();
header.start();
