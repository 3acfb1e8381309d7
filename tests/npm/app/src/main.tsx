// A page that shows a run with the hook, and counts its tokens with the client of the package.
import { StrictMode, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { subscribe } from "lg-streaming";
import { useStreaming } from "lg-streaming/react";

function Run({ id }: { id: string }) {
  const { text, status, usage } = { ...useStreaming(id), usage: useTokens(id) };
  return (
    <main data-status={status}>
      <p id="text">{text}</p>
      <p id="tokens">{usage}</p>
    </main>
  );
}

function useTokens(id: string) {
  const [total, setTotal] = useState(0);
  useEffect(() => {
    const subscription = subscribe(id, {
      events: ["usage", "status"],
      onUpdate: (update) => update.type === "usage" && setTotal((before) => before + (update.data.total_tokens ?? 0)),
    });
    return () => subscription.close();
  }, [id]);
  return total;
}

const id = new URLSearchParams(location.search).get("execution") ?? "";
createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <Run id={id} />
  </StrictMode>,
);
