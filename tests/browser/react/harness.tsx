// A page for tests: a component that follows an execution, under StrictMode, and a handle on it at `window.harness`.

import { Activity, StrictMode } from "react";
import { flushSync } from "react-dom";
import { createRoot, hydrateRoot } from "react-dom/client";
import type { Root } from "react-dom/client";
import { createClient } from "lg-streaming";
import type { Client, ClientOptions } from "lg-streaming";
import { Follower } from "./Follower.js";
import type { Streaming, StreamingOptions } from "lg-streaming/react";

interface Wanted {
  id: string | null;
  options?: StreamingOptions;
  mode?: "visible" | "hidden";
  /** Of a client that is shared with a second component, which follows the execution `another`. */
  shared?: ClientOptions;
}

const harness = {
  root: null as Root | null,
  view: null as Streaming | null,
  /** Number of renderings, without StrictMode's second one. */
  commits: 0,
  /** Arguments of `onUpdate`. */
  told: [] as number[],
  states: [] as string[],
  token: undefined as string | undefined,

  client: undefined as Client | undefined,

  page({ id, options = {}, mode = "visible", shared }: Wanted) {
    if (shared !== undefined) this.client ??= createClient(shared);
    // A new object and new functions each time, as components write them.
    const fresh = (): StreamingOptions => ({
      ...structuredClone(options),
      ...(this.token !== undefined && { token: this.token }),
      ...(this.client !== undefined && { client: this.client }),
      onUpdate: (update) => this.told.push(update.metadata.sequence_number),
    });
    return (
      <StrictMode>
        <Activity mode={mode}>
          <Follower id={id} options={fresh()} onView={(view) => this.saw(view)} />
          {shared !== undefined && <Follower id="another" options={fresh()} />}
        </Activity>
      </StrictMode>
    );
  },

  saw(view: Streaming) {
    this.commits += 1;
    this.view = view;
    if (this.states.at(-1) !== view.state) this.states.push(view.state);
  },

  show(wanted: Wanted) {
    this.root ??= createRoot(document.getElementById("root")!);
    flushSync(() => this.root!.render(this.page(wanted)));
    return document.getElementById("text")!.textContent;
  },

  hydrate(html: string, wanted: Wanted) {
    document.getElementById("root")!.innerHTML = html;
    this.root = hydrateRoot(document.getElementById("root")!, this.page(wanted));
  },

  leave() {
    this.root?.unmount();
    this.root = null;
  },
};

declare global {
  interface Window {
    harness: typeof harness;
  }
}

window.harness = harness;
