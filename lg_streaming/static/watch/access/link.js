// The link in the address of a page: `/watch/exec-1#link=lgl_…` reads one execution without a login.

// Returns the link of this tab for the page's execution; null without one. It leaves the address bar, and survives a
// reload.
export function takeLink({ watch, execution }) {
  if (execution === undefined) return null;
  const key = keyOf(watch, execution);
  const given = linkIn(location.hash);
  if (given === null) return stored((storage) => storage.getItem(key)) ?? null;
  const isKept = stored((storage) => (storage.setItem(key, given), true));
  if (isKept) history.replaceState(history.state, "", location.pathname + location.search);
  return given;
}

// Drops the link of this tab, so that the visitor's own login counts.
export function dropLink({ watch, execution }) {
  stored((storage) => storage.removeItem(keyOf(watch, execution)));
  history.replaceState(history.state, "", location.pathname + location.search);
}

export function linkIn(hash) {
  const link = new URLSearchParams(hash.slice(1)).get("link");
  return link?.startsWith("lgl_") ? link : null;
}

// Returns the address of a run with a link, for others.
export function addressWith(link) {
  return `${location.origin}${location.pathname}#${new URLSearchParams({ link })}`;
}

function keyOf(watch, execution) {
  return `lg-streaming link ${watch}${execution}`;
}

// The browser may forbid storage.
function stored(action) {
  try {
    return action(sessionStorage);
  } catch {
    return undefined;
  }
}
