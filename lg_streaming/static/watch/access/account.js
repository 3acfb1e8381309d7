// Who the page reads as, with the way out: <lg-account> in the bar of a page.

import { make } from "../dom.js";
import { dropLink } from "./link.js";

export class Account extends HTMLElement {
  // Shows a caller; without a login there is nothing to show.
  show(caller, page) {
    this.hidden = caller.login !== "in";
    const name = make("bdi", "access-name", caller.by === "link" ? "Read-only link" : caller.subject ?? "");
    const end = caller.expiresAt === null ? "" : `until ${moment(caller.expiresAt)}`;
    name.title = end;
    const leave = make("button", "button", { token: "Log out", link: "Leave the link" }[caller.by] ?? "");
    leave.type = "button";
    leave.hidden = leave.textContent === "";
    leave.addEventListener("click", async () => {
      leave.disabled = true;
      if (caller.by === "link") dropLink(page);
      else await caller.logOut().catch(() => {});
      location.reload();
    });
    this.replaceChildren(name, leave);
  }
}

export function moment(time) {
  return new Date(time).toLocaleString("en", { dateStyle: "medium", timeStyle: "short" });
}

customElements.define("lg-account", Account);
