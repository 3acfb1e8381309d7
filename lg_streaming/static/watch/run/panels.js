// Panels of a run's page, in the order of their tabs. The first is loaded with the page, another when its tab is first
// opened.

import "../nodes/nodes.js";

export const PANELS = [
  { name: "run", label: "Run", element: "lg-nodes", load: async () => {} },
  { name: "graph", label: "Graph", element: "lg-graph", load: () => import("../graph/graph.js") },
  { name: "timeline", label: "Timeline", element: "lg-timeline", load: () => import("../timeline/timeline.js") },
  { name: "state", label: "State", element: "lg-state", load: () => import("../state/state.js") },
  { name: "events", label: "Events", element: "lg-events", load: () => import("../events/events.js") },
];
