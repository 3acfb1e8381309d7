// What every page shares: its addresses, and the client of the gateway.

import { createClient } from "../lg-streaming.js";

const { gateway, watch, execution } = document.body.dataset;

export const page = { gateway, watch, execution };

export const client = createClient({ url: gateway });

// Returns the address of the page of an execution.
export function addressOf(executionId) {
  return `${watch}${executionId.split("/").map(encodeURIComponent).join("/")}`;
}
