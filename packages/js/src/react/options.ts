// The options of `useStreaming`.

import type { Client, ClientOptions, FilterOptions, Gap, SubscribeOptions, Update } from "lg-streaming";

type ForClient = Pick<ClientOptions, "url" | "transport" | "token" | "pollInterval" | "maxAttempts">;
type ForSubscription = FilterOptions & Pick<SubscribeOptions, "after" | "follow" | "merge">;

/**
 * The options may be new objects at each render. A changed value connects anew, from the start; a new token
 * or function is used from then on.
 */
export interface StreamingOptions extends ForClient, ForSubscription {
  /** A client that several hooks share, created outside of the component with `url`, … */
  readonly client?: Client | undefined;
  /** Keeps the view over a reload of the page, in `sessionStorage`, under this name or one made of the execution. */
  readonly resume?: boolean | string | undefined;
  /** Limit of `updates`. Default: 200. Text, nodes and prompts are kept completely. */
  readonly maxUpdates?: number | undefined;
  /** Called with each update, also if several share a render. */
  readonly onUpdate?: ((update: Update) => void) | undefined;
  readonly onGap?: ((gap: Gap) => void) | undefined;
}

/** Splits the options by their receiver. */
export function parted({
  client, url, transport, token, pollInterval, maxAttempts, resume, maxUpdates, onUpdate, onGap, ...forSubscription
}: StreamingOptions) {
  return { forClient: { url, transport, token, pollInterval, maxAttempts }, forSubscription };
}

/** The options that a connection depends on, as text, which is equal for equal options. */
export function identityOf(id: string | null, { client, token, maxUpdates, onUpdate, onGap, ...rest }: StreamingOptions) {
  return JSON.stringify([id, token !== undefined, rest]);
}
