// The condition of a node: what its visits are like at the moment, and that in words. No DOM.

const WORDS = { idle: "not yet", interrupted: "waits for a person" };
const ORDER = ["running", "interrupted", "failed", "abandoned", "cancelled"]; // of several visits the first of these counts

// Returns {state, running, visits, latest}; `latest` are the visits of the node's last step, the newest first.
export function conditionOf(visits = []) {
  const last = visits.at(-1);
  const latest = [];
  for (let index = visits.length - 1; index >= 0; index -= 1) {
    if (visits[index].level === last.level && visits[index].step !== last.step) break;
    latest.push(visits[index]);
  }
  const states = latest.map(({ state }) => state);
  const running = states.filter((state) => state === "running").length;
  const state = ORDER.find((one) => states.includes(one)) ?? last?.state ?? "idle";
  return { state, running, visits: visits.length, latest };
}

export function wordsOf({ state, running, visits, latest }) {
  const parts = [WORDS[state] ?? state];
  const [newest] = latest;
  if (state === "running" && latest.length > 1) parts[0] = `${running} of ${latest.length} running`;
  if (state === "failed" && latest.some((one) => one.state === "failed" && one.endedAt === null)) parts[0] = "failed, tries again";
  if (state === "running" && newest.segments.some((one) => one.state === "failed")) parts.push(`attempt ${newest.attempt}`);
  if (visits > 1) parts.push(`×${visits}`);
  return parts.join(" · ");
}
