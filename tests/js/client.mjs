// Drives the official socket.io-client from another process.
//
// Commands come as JSON lines on stdin, what happens goes out as JSON lines on stdout.
//
//   {cmd:"connect", url, auth?, path?, namespace?, opts?}   open a socket; WebSocket only, no automatic reconnection
//   {cmd:"emit", event, payload?, args?, ack?, id?, timeout?}  args: several arguments in place of payload; timeout: ms
//   {cmd:"auth", auth}              the auth payload of the next connection
//   {cmd:"disconnect"}              a client that leaves on purpose
//   {cmd:"drop"}                    cut the transport as a lost network would, without a Socket.IO goodbye
//   {cmd:"reconnect", auth?}        connect the same socket again
//   {cmd:"raw", frame}              one engine.io message with this text (`2["token"]` is a Socket.IO event)
//   {cmd:"raw", frame, level:"websocket"}    one WebSocket text frame, engine.io's own digit included
//   {cmd:"raw", base64, level?}     the same with bytes
//   {cmd:"pause"} / {cmd:"resume"}  stop and go on reading the TCP socket: a stalled reader
//   {cmd:"exit"}                    so does the end of stdin
//
// Lines out: ready, connect, disconnect, connect_error, reconnect_attempt, event, ack, ack_timeout, done, command_error.

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

let socket = null;

const say = (type, fields = {}) => process.stdout.write(`${JSON.stringify({ type, ...fields })}\n`);

function connect({ url, auth = {}, path = "/socket.io", namespace = "/", opts = {} }) {
  if (socket) throw new Error("already connected once: start another client");
  socket = io(new URL(namespace, url).href, {
    path,
    auth,
    transports: ["websocket"],
    reconnection: false,
    forceNew: true,
    ...opts,
  });
  socket.on("connect", () => say("connect", { id: socket.id, recovered: socket.recovered ?? false }));
  socket.on("disconnect", (reason, details) =>
    say("disconnect", { reason, description: describe(details?.description) }));
  socket.on("connect_error", (error) =>
    say("connect_error", { message: error.message, data: error.data ?? null, description: describe(error.description) }));
  socket.io.on("reconnect_attempt", (attempt) => say("reconnect_attempt", { attempt }));
  socket.onAny((event, ...args) => say("event", { event, payload: args[0] ?? null, args }));
}

// A browser or ws event object holds the whole socket: keep what can be told.
function describe(value) {
  if (value === undefined || value === null) return null;
  if (typeof value !== "object") return value;
  const { code, reason, message } = value;
  return { code, reason: reason?.toString(), message };
}

function emit({ event, payload, args, ack = false, id = null, timeout = 10_000 }) {
  const values = args ?? (payload === undefined ? [] : [payload]);
  if (!ack) return socket.emit(event, ...values);
  return socket.timeout(timeout).emit(event, ...values, (error, ...answer) =>
    error ? say("ack_timeout", { id, event }) : say("ack", { id, event, payload: answer[0] ?? null, args: answer }));
}

function raw({ frame, base64, level = "engine" }) {
  const data = base64 === undefined ? frame : Buffer.from(base64, "base64");
  if (level === "websocket") socket.io.engine.transport.ws.send(data);
  else socket.io.engine.write(data);
}

const commands = {
  connect,
  emit,
  raw,
  auth: ({ auth }) => { socket.auth = auth; },
  disconnect: () => socket.disconnect(),
  drop: () => socket.io.engine.transport.ws.terminate(),
  reconnect: ({ auth }) => {
    if (auth !== undefined) socket.auth = auth;
    socket.connect();
  },
  pause: () => socket.io.engine.transport.ws.pause(),
  resume: () => socket.io.engine.transport.ws.resume(),
  exit: () => process.exit(0),
};

const input = createInterface({ input: process.stdin });
input.on("line", (line) => {
  let command;
  try {
    command = JSON.parse(line);
    const run = commands[command.cmd];
    if (!run) throw new Error(`unknown command ${command.cmd}`);
    run(command);
    say("done", { cmd: command.cmd });
  } catch (error) {
    say("command_error", { cmd: command?.cmd ?? null, message: error.message });
  }
});
input.on("close", () => {
  socket?.disconnect();
  process.exit(0);
});
say("ready");
