// What every page shares: its addresses, the client of the gateway, and the caller. A page that imports this module runs
// once its caller is known, after a login if one is needed.

import { createClient } from "../lg-streaming.js";
import { enter } from "./access/access.js";
import { Caller } from "./access/caller.js";
import { takeLink } from "./access/link.js";

const { gateway, watch, execution } = document.body.dataset;

export const page = { gateway, watch, execution };

const link = takeLink(page);

export const client = createClient({ url: gateway, ...(link !== null && { token: link }) });

export const caller = new Caller(page, link);
await enter(caller, page, client);

// Returns the address of the page of an execution.
export function addressOf(executionId) {
  return `${watch}${executionId.split("/").map(encodeURIComponent).join("/")}`;
}
