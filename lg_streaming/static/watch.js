// Subscribes to one execution and shows it. A reload reads the log from the start, so that the page shows the whole log.
// A lost connection resumes from its position.

import { subscribe } from "../lg-streaming.js";
import { Run } from "./run.js";
import { RunView } from "./view.js";

const { execution, gateway } = document.body.dataset;
const run = new Run();
const view = new RunView(run, document);

document.title = `${execution} · waiting`;

subscribe(execution, {
  url: gateway,
  follow: ["1", "true"].includes(new URLSearchParams(location.search).get("follow")),
  onUpdate: (update) => run.apply(update) && view.changed(),
  onGap: (gap) => {
    run.miss(gap);
    view.changed();
  },
  onState: (state, { error }) => view.connection(state, state === "failed" ? error.message : ""),
});
