// The small graph next to the nodes of the Run tab, on screens that are wide enough.

import { make } from "../dom.js";

const WIDE = "(width >= 1400px)"; // as in around.css

// Adds the graph to `host`, which shows and hides it with the Run tab, by its name.
export function showGraphBeside(host, store) {
  const wide = matchMedia(WIDE);
  const aside = make("aside", "graph-beside");
  aside.dataset.name = "run";
  aside.setAttribute("aria-label", "Graph of the run");
  const change = async () => {
    if (!wide.matches) return aside.remove();
    await import("./graph.js");
    if (aside.firstChild === null) {
      const graph = document.createElement("lg-graph");
      graph.setAttribute("small", "");
      aside.append(graph);
      graph.store = store;
    }
    aside.hidden = host.querySelector('section[data-name="run"]').hidden;
    host.append(aside);
    return aside.firstChild.redraw();
  };
  // Its place is below the bar on top.
  const bar = document.querySelector(".bar");
  new ResizeObserver(() => aside.style.setProperty("--bar", `${bar.offsetHeight}px`)).observe(bar);
  wide.addEventListener("change", change);
  change();
}
