// One execution as React's external store.

import { createClient } from "lg-streaming";
import type { Client, Gap, StreamingError, Subscription, Update } from "lg-streaming";
import { EachFrame } from "./frame.js";
import { keep, kept } from "./keep.js";
import { parted } from "./options.js";
import type { StreamingOptions } from "./options.js";
import { Run } from "./run.js";
import { CONNECTING, IDLE } from "./view.js";
import type { Problem, View } from "./view.js";

/** Connected while it has listeners. */
export class Store {
  readonly #id: string | null;
  #options: StreamingOptions;
  #run = new Run();
  #view: View;
  #state: View["state"];
  #refusal: Problem | null = null;
  #listeners = new Set<() => void>();
  #connection: { client: Client; subscription: Subscription } | null = null;
  #after: string | null = null; // position after earlier connections
  #frames = new EachFrame(() => this.#show());

  constructor(id: string | null, options: StreamingOptions, readonly identity: string, readonly client = options.client) {
    this.#id = id;
    this.#options = options;
    this.#view = id === null ? IDLE : CONNECTING;
    this.#state = this.#view.state;
  }

  getView = () => this.#view;

  // StrictMode subscribes, unsubscribes and subscribes again. One connection opens: a client connects a moment later.
  subscribe = (listener: () => void) => {
    this.#listeners.add(listener);
    this.#settle();
    return () => {
      this.#listeners.delete(listener);
      this.#settle();
    };
  };

  /** The options of the newest render. */
  update(options: StreamingOptions) {
    const isRenewed = typeof options.token === "string" && options.token !== this.#options.token;
    this.#options = options;
    if (isRenewed && this.#state === "failed") this.retry();
  }

  respond = async (promptId: string, response: unknown) => this.#client().respond(this.#execution(), promptId, response);

  cancel = async (reason?: string) => this.#client().cancel(this.#execution(), reason);

  retry = () => {
    if (this.#state !== "failed") return;
    this.#close();
    this.#state = "connecting";
    this.#settle();
  };

  #settle() {
    const isWanted = this.#listeners.size > 0 && this.#id !== null;
    if (!isWanted) this.#close();
    else if (this.#connection === null && this.#state !== "ended" && this.#state !== "failed") this.#open();
  }

  #execution() {
    if (this.#id === null) throw new Error("there is no execution yet");
    return this.#id;
  }

  #client() {
    return this.#connection?.client ?? this.#makeClient();
  }

  #makeClient() {
    const { client } = this.#options;
    const { forClient } = parted(this.#options);
    if (client !== undefined) {
      if (Object.values(forClient).every((option) => option === undefined)) return client;
      throw new TypeError("useStreaming was given a client: url, transport, token, … belong to its createClient");
    }
    const newest = async () => {
      const { token } = this.#options;
      return typeof token === "function" ? token() : (token ?? "");
    };
    return createClient({ ...forClient, token: forClient.token === undefined ? undefined : newest });
  }

  #open() {
    this.#refusal = null;
    if (this.#after === null && this.#restore()) return;
    try {
      this.#connection = this.#connect();
    } catch (error) {
      this.#state = "failed"; // an option is not valid
      this.#refusal = error as Error;
      this.#frames.request();
      return;
    }
    addEventListener("pagehide", this.#keep);
    document.addEventListener("visibilitychange", this.#keep);
  }

  #connect() {
    const client = this.#makeClient();
    const { forSubscription } = parted(this.#options);
    const subscription = client.subscribe(this.#execution(), {
      ...forSubscription,
      after: this.#after ?? forSubscription.after,
      onUpdate: (update) => this.#options.onUpdate?.(update),
      onUpdates: (updates) => this.#take(updates),
      onGap: (gap) => this.#miss(gap),
      onState: (state, { error }) => this.#turn(state, error),
    });
    return { client, subscription };
  }

  #close() {
    if (this.#connection === null) return;
    const { subscription } = this.#connection;
    this.#after = subscription.position ?? this.#after;
    this.#connection = null;
    subscription.close();
    removeEventListener("pagehide", this.#keep);
    document.removeEventListener("visibilitychange", this.#keep);
  }

  // ---------------------------------------------------------- from the connection
  #take(updates: readonly Update[]) {
    this.#run.take(updates, this.#options.maxUpdates ?? 200);
    this.#frames.request();
  }

  #miss(gap: Gap) {
    this.#run.miss(gap);
    this.#frames.request();
    this.#options.onGap?.(gap);
  }

  #turn(state: View["state"], error: StreamingError | undefined) {
    if (this.#connection === null) return; // closed here: no listener is left
    this.#state = state;
    this.#refusal = state === "failed" && error !== undefined ? error : null;
    if (state === "ended") this.#run.finish();
    this.#frames.request();
    if (state === "ended") this.#keep();
  }

  #show() {
    this.#view = this.#run.view(this.#state, this.#refusal);
    for (const listener of this.#listeners) listener();
  }

  // ---------------------------------------------------------- over a reload
  get #key() {
    const { resume } = this.#options;
    return typeof resume === "string" ? resume : `useStreaming ${this.#id}`;
  }

  #keep = () => {
    const { resume, follow } = this.#options;
    if (!resume || this.#connection === null) return;
    const isOver = this.#state === "ended" && !follow;
    const position = this.#connection.subscription.position ?? this.#after;
    keep(this.#key, { identity: this.identity, position, isOver, run: this.#run });
  };

  /** Restores the stored state; returns whether the run had ended. */
  #restore() {
    const found = this.#options.resume ? kept(this.#key, this.identity) : null;
    if (found === null) return false;
    this.#run = found.run;
    this.#after = found.position;
    if (found.isOver) this.#state = "ended";
    this.#frames.request();
    return found.isOver;
  }
}
