// The runs that the page has loaded, in the order in which it shows them, and their changes.
//
// A reader who has scrolled keeps the place: rows show changes, new runs wait, and the order stays. That ends when the
// reader asks for the new ones, or is at the top again.

const FIRST = 50;
const NEXT = 200;
const MOST_REQUESTS = 5; // for one page of a filter that matches few runs
const SHOWN = 200; // open runs that are read again after a lost connection

const OPEN = new Set(["running", "interrupted"]);

export const isOpen = (run) => OPEN.has(run.state);

export class RunList extends EventTarget {
  runs = new Map(); // by id
  order = []; // ids as they are shown
  fresh = new Set(); // ids of new runs that wait
  has = new Set(); // what at least one of the runs has: graph, owner, progress, usage, cost
  gone = new Set(); // ids that no longer match, and keep their place
  connection = "connecting";
  error = null;
  isLoading = false;
  filter = {};
  keepsPlace = () => false;
  #client;
  #cursor = null;
  #watch = null;
  #round = 0;
  #stop = new AbortController();

  constructor(client) {
    super();
    this.#client = client;
  }

  get hasMore() {
    return this.#cursor !== null;
  }

  // Shows the runs that match a filter; with the same filter in another order, the loaded ones.
  async show(filter, isNew) {
    this.filter = filter;
    if (!isNew) {
      this.arrange();
      return;
    }
    this.#stop.abort();
    this.#stop = new AbortController();
    this.#watch?.close();
    this.runs.clear();
    this.order = [];
    this.fresh.clear();
    this.gone.clear();
    this.has.clear();
    this.#cursor = null;
    this.#round += 1;
    await this.#load(FIRST);
    this.#follow();
  }

  retry() {
    return this.show(this.filter, true);
  }

  more() {
    return this.#load(NEXT);
  }

  // Puts the loaded runs in order, with those that waited and without those that no longer match.
  arrange() {
    for (const id of this.gone) this.runs.delete(id);
    this.gone.clear();
    this.fresh.clear();
    const compare = comparison(this.filter.sort, this.filter.isAscending);
    this.order = [...this.runs.values()].sort(compare).map((run) => run.execution_id);
    this.#tell("change");
  }

  get #query() {
    const { state, owner, text } = this.filter;
    return { state, owner, text };
  }

  async #load(limit) {
    const round = this.#round;
    const { signal } = this.#stop;
    this.isLoading = true;
    this.error = null;
    this.#tell("change");
    try {
      let found = 0;
      for (let request = 0; request < MOST_REQUESTS && found < limit; request += 1) {
        const cursor = this.#cursor ?? undefined;
        const page = await this.#client.executions({ ...this.#query, order: "newest", limit, cursor, signal });
        if (round !== this.#round) return;
        for (const run of page.executions) this.#keep(run);
        found += page.executions.length;
        this.#cursor = page.next_cursor;
        if (this.#cursor === null) break;
      }
    } catch (error) {
      if (round !== this.#round) return;
      this.error = error;
    }
    this.isLoading = false;
    if (limit === FIRST) this.arrange();
    else this.#append();
    this.#tell("count");
  }

  // Adds a page at the end, where the reader is; sorted by something else, in its place.
  #append() {
    if (this.filter.sort !== "started") {
      this.arrange();
      return;
    }
    const known = new Set([...this.order, ...this.fresh]);
    this.order.push(...[...this.runs.keys()].filter((id) => !known.has(id)));
    this.#tell("change");
  }

  #follow() {
    this.#watch = this.#client.watchExecutions({
      ...this.#query,
      shown: () => this.order.filter((id) => isOpen(this.runs.get(id))).slice(0, SHOWN),
      onChange: (runs, gone) => this.#change(runs, gone),
      onState: (state) => {
        this.connection = state;
        this.#tell("state");
      },
      onError: (error) => {
        if (error.retryable) return;
        this.error = error;
        this.#tell("change");
      },
    });
  }

  #change(runs, gone) {
    let isNew = false;
    for (const run of runs) {
      const id = run.execution_id;
      if (!this.runs.has(id)) {
        this.fresh.add(id);
        isNew = true;
      }
      this.gone.delete(id);
      this.#keep(run);
    }
    for (const id of gone) if (this.runs.has(id)) this.gone.add(id);
    if (this.keepsPlace()) this.#tell("change");
    else this.arrange();
    if (isNew) this.#tell("count");
  }

  #keep(run) {
    const { started_at: started, ended_at: ended, graph, owner, progress, usage } = run;
    const known = { graph, owner, usage, cost: usage?.cost, progress: isOpen(run) ? progress : null };
    for (const [name, value] of Object.entries(known)) if (value !== null && value !== undefined) this.has.add(name);
    this.runs.set(run.execution_id, Object.assign(run, { startedAt: Date.parse(started), endedAt: ended && Date.parse(ended) }));
  }

  #tell(name) {
    this.dispatchEvent(new Event(name));
  }
}

export function duration(run, now = Date.now()) {
  return Math.max(0, (run.endedAt ?? now) - run.startedAt);
}

const VALUES = {
  started: (run) => run.startedAt,
  duration: (run) => duration(run),
  tokens: (run) => run.usage?.total_tokens ?? -1,
  cost: (run) => run.usage?.cost ?? -1,
};

function comparison(sort, isAscending) {
  const value = VALUES[sort];
  const sign = isAscending ? 1 : -1;
  return (one, other) => sign * (value(one) - value(other)) || other.startedAt - one.startedAt
    || (one.execution_id < other.execution_id ? 1 : -1);
}
