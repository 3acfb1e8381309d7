// Each line has the error that it must have; a test compares them with the compiler's.
import { createClient, type Update, type UpdateData } from "lg-streaming";
import { useStreaming } from "lg-streaming/react";

export function wrong(update: Update) {
  if (update.type === "tokn") return 1; // TS2367
  if (update.type === "token") return update.data.content.toFixed(); // TS2551
  if (update.type === "usage") return update.data.cost.toFixed(2); // TS18049
  if (update.type === "log") return update.data.lines.length; // TS18046
  if (update.type === "artifacts") return update.data.name; // TS2339
  return update.metadata.sequence; // unknown, as a program's own key
}

export const name: keyof UpdateData = "node_began"; // TS2322
export const built: Update = { type: "token", data: { text: "" }, metadata: {} as Update["metadata"] }; // TS2322
createClient({ transport: "pigeon" }); // TS2322
useStreaming("exec-1", { event: ["token"] }); // TS2561
useStreaming(1); // TS2345
useStreaming("exec-1").messages[0].text; // TS2532
