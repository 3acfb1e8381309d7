import { useStreaming } from "lg-streaming/react";

export function Misused() {
  // @ts-expect-error: it is called `events`
  useStreaming("exec-1", { event: ["token"] });
  // @ts-expect-error: what is shown is not to be changed
  useStreaming("exec-1").messages[0]!.text = "";
  // @ts-expect-error: there is no such status
  return useStreaming("exec-1").status === "complete";
}
