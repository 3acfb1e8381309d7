// Subscribes to one execution and shows it. A reload reads the log from the start, so that the page shows the whole log.
// A lost connection resumes from its position.

import { createClient } from "../lg-streaming.js";
import { Controls } from "./controls.js";
import { Run } from "./run.js";
import { RunView } from "./view.js";

const { execution, gateway } = document.body.dataset;
const client = createClient({ url: gateway });
const run = new Run();
const controls = new Controls(client, execution, document);
const view = new RunView(run, document, {
  respond: (promptId, answer) => client.respond(execution, promptId, answer),
  onDraw: () => controls.draw(run),
});

document.title = `${execution} · waiting`;

client.subscribe(execution, {
  follow: ["1", "true"].includes(new URLSearchParams(location.search).get("follow")),
  onUpdate: (update) => run.apply(update) && view.changed(),
  onGap: (gap) => {
    run.miss(gap);
    view.changed();
  },
  onState: (state, { error }) => view.connection(state, state === "failed" ? error.message : ""),
});
