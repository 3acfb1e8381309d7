// Follows one execution on the platform's own EventSource and shows it. A reload starts from the beginning of the
// log again, so what the page shows is always what the log holds; a lost connection resumes where it broke.

import { Run } from "./run.js";
import { RunView } from "./view.js";

const LONGEST_WAIT_MS = 30_000;

const { execution, stream } = document.body.dataset;
const run = new Run();
const view = new RunView(run, document);
let refusals = 0;

function streamAddress() {
  const address = new URL(stream, location.href);
  address.searchParams.set("named", "false"); // every update by onmessage, whatever its type
  const follow = new URLSearchParams(location.search).get("follow");
  if (follow !== null) address.searchParams.set("follow", follow);
  if (run.position !== null) address.searchParams.set("after", `${run.position.epoch}:${run.position.seq}`);
  return address;
}

function watch() {
  const source = new EventSource(streamAddress());
  const leave = () => source.close();
  addEventListener("pagehide", leave);

  source.onopen = () => {
    refusals = 0;
    view.connection("live");
  };
  source.onmessage = ({ data }) => {
    if (run.apply(JSON.parse(data))) view.changed();
  };
  source.addEventListener("gap", ({ data }) => {
    run.miss(JSON.parse(data));
    view.changed();
  });
  source.addEventListener("end", () => {
    source.close();
    view.connection("ended");
  });
  source.onerror = () => {
    if (source.readyState === EventSource.CONNECTING) {
      view.connection("reconnecting");
      return;
    }
    removeEventListener("pagehide", leave);
    if (run.endedAt !== null) view.connection("ended");
    else refused();
  };
}

// EventSource gives up on any answer but 200, and does not tell what it was. A plain request does.
async function refused() {
  const { told, again } = await whyRefused();
  if (!again) {
    view.connection("refused", told);
    return;
  }
  view.connection("reconnecting", `${told}, trying again`);
  refusals += 1;
  setTimeout(watch, Math.min(LONGEST_WAIT_MS, 500 * 2 ** refusals) * (0.5 + Math.random() / 2));
}

async function whyRefused() {
  const request = new AbortController();
  try {
    const response = await fetch(streamAddress(), { signal: request.signal, headers: { Accept: "text/event-stream" } });
    if (response.ok) return { told: "The connection was closed", again: true };
    const body = await response.json().catch(() => ({}));
    const { message = `The server answered ${response.status}`, retryable } = body.error ?? body;
    return { told: message, again: retryable ?? response.status >= 500 };
  } catch {
    return { told: "The server cannot be reached", again: true };
  } finally {
    request.abort();
  }
}

document.title = `${execution} · waiting`;
watch();
