import { pause } from "./backoff.js";
import { GAP, asError, refusal } from "./errors.js";

const LONG_POLL_S = 20;

export class PollingTransport {
  name = "polling";
  #link;
  #interval;

  constructor(link, interval) {
    this.#link = link;
    this.#interval = interval;
  }

  open(order, sink) {
    const requests = new AbortController();
    const { signal } = requests;
    const tell = (event, ...values) => signal.aborted || sink[event](...values);
    this.#poll(order, tell, signal).catch((error) => tell("lost", asError(error)));
    return { close: () => requests.abort() };
  }

  async #poll(order, tell, signal) {
    for (let wait = 0; !signal.aborted; wait = LONG_POLL_S) {
      const page = await this.#page(order, wait, signal);
      if (wait === 0) tell("opened", page);
      if (page.gap) tell("gap", page.gap);
      if (page.gap && order.query.on_gap === "fail") throw refusal("gap", "updates are gone", { code: GAP });
      tell("updates", page.updates, page.position ?? undefined);
      if (page.ended && !order.follow) {
        tell("ended", page.position ?? undefined);
        return;
      }
      if (!page.more) await pause(this.#interval, signal);
    }
  }

  #page({ executionId, query: { merge, ...query }, follow, after }, wait, signal) {
    const parameters = { ...query, after: after(), follow: follow || undefined, wait: wait || undefined, limit: 1000 };
    const timeout = 1000 * wait + this.#link.openTimeout;
    return this.#link.json(this.#link.address(executionId, "updates", parameters), { signal, timeout });
  }
}
