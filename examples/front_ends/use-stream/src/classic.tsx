/** The hook of `@langchain/langgraph-sdk/react`, with runs and their streams. */
import { StrictMode, useState } from "react";
import { createRoot } from "react-dom/client";
import type { Message } from "@langchain/langgraph-sdk";
import { useStream } from "@langchain/langgraph-sdk/react";
import "../../look.css";
import { Chat, GRAPH, SERVER, useThreadInAddress } from "./Chat.js";
import type { Delivery, Review } from "./Chat.js";

type State = { messages: Message[] };

function App() {
  const [threadId, keepThreadId] = useThreadInAddress();
  const [delivery, setDelivery] = useState<Delivery>();
  const stream = useStream<State, { InterruptType: Review; CustomEventType: Delivery }>({
    apiUrl: SERVER,
    assistantId: GRAPH,
    threadId,
    onThreadId: keepThreadId,
    reconnectOnMount: () => localStorage, // a reload goes on with the run; a second tab, too, as `sessionStorage` would not
    fetchStateHistory: false,
    onCustomEvent: (data) => "percent" in data && setDelivery(data),
  });
  return (
    <Chat
      title="Postcards"
      messages={stream.messages}
      review={stream.interrupt?.value}
      delivery={delivery}
      isBusy={stream.isLoading}
      error={stream.error}
      onSend={(text) => {
        const message: Message = { type: "human", content: text, id: crypto.randomUUID() };
        const optimisticValues = (state: State) => ({ messages: [...(state.messages ?? []), message] });
        void stream.submit({ messages: [message] }, { optimisticValues });
      }}
      onStop={() => void stream.stop()}
      onAnswer={(resume) => void stream.submit(undefined, { command: { resume } })}
    />
  );
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
