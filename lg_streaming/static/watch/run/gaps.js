// Texts about updates that are missing.

const MISSED = {
  evicted: "are no longer kept by the server",
  epoch_changed: "belong to a log that the server no longer has",
  future_position: "are not known to the server",
};

export function gapText({ from, to, reason }) {
  const which = from === undefined || from === null ? "Some updates"
    : to === null || to === undefined ? `The updates from ${from} on`
    : to === from ? `Update ${from}` : `The updates ${from} to ${to}`;
  const why = MISSED[reason] ?? "could not be had";
  return `${which} ${why}. What they held is missing here.`;
}
