// Follows one execution on the platform's own EventSource and shows it. A reload starts from the beginning of the
// log again, so what the page shows is always what the log holds; a lost connection resumes where it broke.

import { Run } from "./run.js";
import { RunView } from "./view.js";

const { execution, stream } = document.body.dataset;
const run = new Run();
const view = new RunView(run, document);

function streamAddress() {
  const address = new URL(stream, location.href);
  address.searchParams.set("named", "false"); // every update by onmessage, whatever its type
  const follow = new URLSearchParams(location.search).get("follow");
  if (follow !== null) address.searchParams.set("follow", follow);
  return address;
}

// EventSource does not tell why it was refused; a plain request does.
async function whyRefused(address) {
  const request = new AbortController();
  try {
    const response = await fetch(address, { signal: request.signal, headers: { Accept: "text/event-stream" } });
    if (response.ok) return "The connection was closed";
    const body = await response.json().catch(() => ({}));
    return body.message ?? body.error?.message ?? `The server answered ${response.status}`;
  } catch {
    return "The server cannot be reached";
  } finally {
    request.abort();
  }
}

function watch() {
  const address = streamAddress();
  const source = new EventSource(address);

  source.onopen = () => view.connection("live");
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
  source.onerror = async () => {
    if (source.readyState === EventSource.CONNECTING) view.connection("reconnecting");
    else if (run.endedAt !== null) view.connection("ended");
    else view.connection("refused", await whyRefused(address));
  };
  addEventListener("pagehide", () => source.close(), { once: true });
}

document.title = `${execution} · waiting`;
watch();
