// Arrow keys on the heads of cards: up and down move, right opens, left closes or goes to the enclosing card.

export function moveBetween(event, list) {
  const toggle = event.target.closest?.(".card-toggle");
  if (!toggle || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  const isOpen = toggle.getAttribute("aria-expanded") === "true";
  if (event.key === "ArrowRight" && !isOpen) toggle.click();
  else if (event.key === "ArrowLeft" && isOpen) toggle.click();
  else {
    const to = target(event.key, toggle, list);
    if (!to) return;
    to.focus();
  }
  event.preventDefault();
}

function target(key, toggle, list) {
  const outer = toggle.closest(".card").parentElement.closest(".card");
  if (key === "ArrowLeft") return outer?.querySelector(".card-toggle");
  const toggles = [...list.querySelectorAll(".card-toggle")].filter((one) => one.checkVisibility());
  const at = toggles.indexOf(toggle);
  const next = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, Home: 0, End: toggles.length - 1 }[key];
  return toggles[next];
}
