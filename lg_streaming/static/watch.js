// Follows one execution and shows it. A reload starts from the beginning of the log again, so what the page shows is
// always what the log holds; a lost connection resumes where it broke.

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
