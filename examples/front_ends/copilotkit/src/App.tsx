import { useEffect, useState } from "react";
import {
  CopilotChat,
  CopilotKitProvider,
  useAgent,
  useDefaultRenderTool,
  useInterrupt,
} from "@copilotkit/react-core/v2";

const SERVER = import.meta.env.VITE_SERVER ?? "http://127.0.0.1:8000";
const GRAPH = "postcard";

type Delivery = { id: string; step: string; percent: number };

/** The address holds the thread, so that a reload and a second tab show it again. */
function threadInAddress() {
  const id = new URLSearchParams(location.search).get("thread") ?? crypto.randomUUID();
  history.replaceState(null, "", `?thread=${id}`);
  return id;
}

export function App() {
  const [threadId] = useState(threadInAddress);
  return (
    <CopilotKitProvider runtimeUrl={`${SERVER}/copilotkit`} agentId={GRAPH}>
      <main className="chat">
        <header>
          <h1>Postcards</h1>
          <button className="button quiet" onClick={() => location.assign("?")}>
            New chat
          </button>
          <p className="soft">Name a place. The agent writes a card, and asks before it posts it.</p>
        </header>
        <Chat threadId={threadId} />
      </main>
    </CopilotKitProvider>
  );
}

function Chat({ threadId }: { threadId: string }) {
  const delivery = useDelivery();
  useDefaultRenderTool(
    {
      render: ({ name, parameters, status, result }) => (
        <Tool name={name} input={parameters} result={status === "complete" ? result : undefined} delivery={delivery} />
      ),
    },
    [delivery],
  );
  useInterrupt({
    render: ({ interrupt, resolve }) => (
      <section className="tool" data-state="asking" aria-label="Approval">
        <h2>{interrupt?.message}</h2>
        <div className="line">
          <button className="button main" onClick={() => void resolve({ decisions: [{ type: "approve" }] })}>
            Post it
          </button>
          <button className="button" onClick={() => void resolve({ decisions: [{ type: "reject" }] })}>
            Keep it
          </button>
        </div>
      </section>
    ),
  });
  return <CopilotChat threadId={threadId} labels={{ chatInputPlaceholder: "A place, such as Porto" }} />;
}

type ToolProps = { name: string; input: unknown; result: string | undefined; delivery: Delivery | undefined };

function Tool({ name, input, result, delivery }: ToolProps) {
  const state = result === undefined ? "running" : "done";
  return (
    <section className="tool" data-state={state} aria-label={name}>
      <h2>
        {name} <span className="soft">{state}</span>
      </h2>
      <dl>
        {Object.entries(input ?? {}).map(([key, value]) => (
          <div key={key} style={{ display: "contents" }}>
            <dt>{key}</dt>
            <dd>{String(value)}</dd>
          </div>
        ))}
      </dl>
      {name === "post_card" && delivery !== undefined && state === "running" && (
        <>
          <progress max={100} value={delivery.percent} aria-label="Delivery" />
          <p className="soft">{delivery.step}</p>
        </>
      )}
      {result !== undefined && <p className="text soft">{result}</p>}
    </section>
  );
}

/** Reads what the graph's tool reports with `custom("delivery", …)`. */
function useDelivery() {
  const { agent } = useAgent();
  const [delivery, setDelivery] = useState<Delivery>();
  useEffect(() => {
    const { unsubscribe } = agent.subscribe({
      onCustomEvent: ({ event }) => {
        if (event.name === "delivery") setDelivery(event.value);
      },
    });
    return unsubscribe;
  }, [agent]);
  return delivery;
}
