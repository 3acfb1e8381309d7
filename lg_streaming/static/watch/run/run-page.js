// The page of one execution: subscribes to it, and shows header and panels. A reload reads the log from the start, so
// that the page shows the whole log. A lost connection resumes from its position.

import { client, page } from "../session.js";
import { RunHeader } from "./header.js";
import { PANELS } from "./panels.js";
import { RunStore } from "./store.js";
import { Tabs } from "./tabs.js";

const query = new URLSearchParams(location.search);
const store = new RunStore();
const header = new RunHeader(store, client, page, document);
new Tabs(document.getElementById("tabs"), document.getElementById("panels"), PANELS, store).open(query.get("view"));

client.subscribe(page.execution, {
  follow: ["1", "true"].includes(query.get("follow")),
  onUpdates: (updates) => store.add(updates),
  onGap: (gap) => store.miss(gap),
  onState: (state, { error = null }) => store.connect(state, error),
});
header.start();
