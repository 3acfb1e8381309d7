import { useEffect, useMemo, useState, useSyncExternalStore } from "react";
import { identityOf } from "./options.js";
import type { StreamingOptions } from "./options.js";
import { Store } from "./store.js";
import { CONNECTING, IDLE } from "./view.js";
import type { View } from "./view.js";

/** The view of a run, and what a component can do with the run. */
export interface Streaming extends View {
  /** Answers a prompt; rejects with the server's coded error, such as 4090 for a prompt that is already answered. */
  respond(promptId: string, response: unknown): Promise<unknown>;
  /** Cancels the run. */
  cancel(reason?: string): Promise<unknown>;
  /** Connects again after `failed`; the view stays. */
  retry(): void;
}

/** Subscribes to an execution while the component is mounted. Without an id it waits for one. */
export function useStreaming(executionId: string | null | undefined, options: StreamingOptions = {}): Streaming {
  const id = executionId ?? null;
  const identity = identityOf(id, options);
  const [kept, keep] = useState(() => new Store(id, options, identity));
  let store = kept;
  if (kept.identity !== identity || kept.client !== options.client) {
    store = new Store(id, options, identity);
    keep(store); // React renders again at once, and discards this render
  }
  useEffect(() => store.update(options));
  const view = useSyncExternalStore(store.subscribe, store.getView, id === null ? idle : connecting);
  return useMemo(() => ({ ...view, respond: store.respond, cancel: store.cancel, retry: store.retry }), [view, store]);
}

const idle = () => IDLE;
const connecting = () => CONNECTING;
