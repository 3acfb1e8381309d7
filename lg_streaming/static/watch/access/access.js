// Access to a page: a login where one is needed, the account in the bar, and what the caller's rights leave of the page.

import { make } from "../dom.js";
import "./account.js";
import { linkIn } from "./link.js";
import { admit, watchLogin } from "./login.js";
import "./share.js";

export async function enter(caller, page, client) {
  // A link that is pasted into the address bar of an open page.
  addEventListener("hashchange", () => linkIn(location.hash) !== null && location.reload());
  await admit(caller, page);
  watchLogin(caller, page);
  const account = make("lg-account");
  (document.querySelector(".bar nav") ?? document.querySelector(".bar-inner")).append(account);
  const show = () => {
    account.show(caller, page);
    document.documentElement.dataset.by = caller.by;
    document.documentElement.dataset.may = ["list", "start", "control", "share"].filter((right) => caller.may(right)).join(" ");
  };
  caller.addEventListener("back", show);
  show();
  const actions = document.getElementById("actions");
  if (actions === null || caller.login !== "in" || !caller.may("share")) return;
  const share = make("lg-share");
  share.setUp(client, page.execution, caller.longestLink);
  actions.prepend(share);
}
