// The page of all runs: the list, its filters in the address, and the form that starts a run.

import { setText } from "../dom.js";
import { caller, client } from "../session.js";
import { StartDialog } from "../start/start-dialog.js";
import { Filters } from "./filters.js";
import { RunList } from "./run-list.js";
import { Table } from "./table.js";
import { Notices } from "./notices.js";

const CONNECTIONS = {
  connecting: "connecting",
  connected: "live",
  polling: "live, by polling",
  reconnecting: "connection lost, trying again",
  failed: "not connected",
};

const main = document.getElementById("list");
const pill = document.getElementById("connection");
const announcer = document.getElementById("announcer");
const starter = document.getElementById("new-run");

const list = new RunList(client);
const filters = new Filters((filter, isNew) => list.show(filter, isNew));
const table = new Table(list, filters);
const notices = new Notices(list, filters, () => dialog.open());
const dialog = new StartDialog(client);
main.append(filters.element, notices.above, table.element, notices.below);

list.addEventListener("change", () => {
  caller.lose(list.error);
  table.draw();
  notices.draw();
});
list.addEventListener("state", () => {
  pill.dataset.state = list.connection;
  setText(pill, CONNECTIONS[list.connection] ?? list.connection);
});
list.addEventListener("count", () => setText(announcer, notices.count));
starter.addEventListener("click", () => dialog.open());
dialog.load().then((graphs) => {
  starter.hidden = graphs.length === 0;
  notices.graphs = graphs;
  notices.draw();
});
caller.addEventListener("back", () => filters.read()); // after a new login
filters.read();
