// The official socket.io-client over restarts of the server: it resumes as in docs/guide/clients/node.md.
//
//   {cmd:"start", name, url, token, subscribe: [event, payload, resume]}   one socket; with `resume`, from its position
//   {cmd:"report", name}   prints {type:"report", …}: see `socket`
//   {cmd:"newest", name}   prints {type:"newest", newest: the number of the newest update}
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const print = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const sockets = {};

function open({ name, url, token, subscribe: [event, payload, resume] }) {
  const report = {
    numbers: [], // of each connection, [execution id, sequence number] as they come
    retries: [], // retry_ms of each server_restart
    reasons: [], // of each disconnect, with the close code of the WebSocket
    gaps: [],
    errors: [],
    times: [], // of each update, in seconds since 1970
    last: null, // type of the last update
    closed: null, // reason of subscription_closed
  };
  const socket = io(url, { transports: ["websocket"], auth: (answer) => answer({ token }) });
  let after;
  socket.on("connect", () => {
    report.numbers.push([]);
    socket.emit(event, resume ? { ...payload, after } : payload, (answer) => {
      if (!answer.ok) report.errors.push(answer.error);
    });
  });
  socket.on("updates", ({ updates }) => updates.forEach(note));
  function note({ type, metadata }) {
    report.times.push(Date.now() / 1000);
    after = `${metadata.epoch}:${metadata.sequence_number}`;
    report.numbers.at(-1).push([metadata.execution_id, metadata.sequence_number]);
    report.last = type;
  }
  socket.on("gap", (gap) => report.gaps.push(gap));
  socket.on("error", (error) => report.errors.push(error));
  socket.on("server_restart", ({ retry_ms }) => report.retries.push(retry_ms));
  socket.on("disconnect", (reason, details) => report.reasons.push([reason, details?.description?.code ?? null]));
  socket.on("subscription_closed", ({ reason }) => {
    report.closed = reason;
    socket.close();
  });
  sockets[name] = { socket, report };
}

const commands = {
  start: open,
  report: ({ name }) => print({ type: "report", ...sockets[name].report }),
  newest: ({ name }) => print({ type: "newest", newest: sockets[name].report.numbers.at(-1)?.at(-1)?.[1] ?? 0 }),
};

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  const command = JSON.parse(line);
  commands[command.cmd](command);
  print({ type: "done", cmd: command.cmd });
});
input.on("close", () => process.exit(0));
print({ type: "ready" });
