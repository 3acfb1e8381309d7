// Links from other panels to the card of a node on the Run tab.

// Returns a link to the card of a visit. On this page it opens the tab; elsewhere `followHash` finds the card.
export function linkTo(visit, text) {
  const link = document.createElement("a");
  link.textContent = text;
  link.href = `?view=run#${encodeURIComponent(`node-${visit.key}`)}`;
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    showCard(visit.key);
  });
  return link;
}

// Opens the Run tab at the card of the node with this key, which is the newest one with it.
export function showCard(key) {
  const tab = document.getElementById("tab-run");
  tab.click();
  const show = () => {
    if (tab.getAttribute("aria-selected") !== "true") return; // a person has opened another tab while this one loaded
    if (!reveal(key)) requestAnimationFrame(show);
  };
  show();
}

// Shows the card that the address of the page names, once there are updates of its node.
export function followHash(store) {
  const key = /^#node-(.+)/.exec(decoded(location.hash))?.[1];
  if (key === undefined) return;
  const onDraw = () => reveal(key) && store.removeEventListener("draw", onDraw);
  store.addEventListener("draw", onDraw);
}

function reveal(key) {
  return document.querySelector("lg-nodes")?.reveal(key) === true;
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return "";
  }
}
