// Panels of a run's page, in the order of their tabs. A panel is loaded when its tab is first opened.

export const PANELS = [
  { name: "run", label: "Run", element: "lg-nodes", load: () => import("../nodes/nodes.js") },
  { name: "graph", label: "Graph", element: "lg-graph", load: () => import("../graph/graph.js") },
  { name: "timeline", label: "Timeline", element: "lg-timeline", load: () => import("../timeline/timeline.js") },
  { name: "state", label: "State", element: "lg-state", load: () => import("../state/state.js") },
  { name: "events", label: "Events", element: "lg-events", load: () => import("../events/events.js") },
];
