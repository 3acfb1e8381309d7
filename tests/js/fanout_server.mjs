// The official Socket.IO server: prints its port; for each number it reads, sends so many tokens to the room of all
// clients, one a turn of the event loop. Ends with its stdin.
import { createServer } from "node:http";
import { createInterface } from "node:readline";
import { setImmediate } from "node:timers/promises";
import { Server } from "socket.io";

const EXECUTION = "bench";

const http = createServer();
const io = new Server(http, { transports: ["websocket"], serveClient: false });
io.on("connection", (socket) => {
  socket.on("subscribe_execution", (_, answer) => {
    socket.join(EXECUTION);
    answer(true);
  });
});
http.listen(0, "127.0.0.1", () => console.log(http.address().port));

async function produce(count) {
  for (let index = 0; index < count; index += 1) {
    io.to(EXECUTION).emit("token", {
      type: "token",
      data: { content: `token${index} `, index },
      metadata: {
        timestamp: "2026-11-20T20:00:00.123Z",
        execution_id: EXECUTION,
        run_id: "01a1fae7-2df2-7489-8ff7-7e10cd4e3cb8",
        epoch: "1645bb62",
        sequence_number: index + 1,
      },
    });
    await setImmediate();
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  await produce(Number(line));
}
process.exit(0);
