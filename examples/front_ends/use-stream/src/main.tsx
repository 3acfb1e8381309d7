/** The hook of `@langchain/react`, with LangChain's event streaming. */
import { StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { HumanMessage } from "@langchain/core/messages";
import type { BaseMessage } from "@langchain/core/messages";
import { useExtension, useStream } from "@langchain/react";
import "../../look.css";
import { Chat, GRAPH, SERVER, useThreadInAddress } from "./Chat.js";
import type { Delivery, Review } from "./Chat.js";

type State = { messages: BaseMessage[] };

function App() {
  const [threadId, keepThreadId] = useThreadInAddress();
  const stream = useStream<State, Review>({
    apiUrl: SERVER,
    assistantId: GRAPH,
    threadId,
    onThreadId: keepThreadId,
  });
  const delivery = useExtension<Delivery>(stream, "delivery");
  const { messages, interrupt, isLoading, error } = stream;
  return (
    <Chat
      title="Postcards"
      messages={messages}
      review={interrupt?.value}
      delivery={delivery}
      isBusy={isLoading}
      error={error}
      onSend={(text) => void stream.submit({ messages: [new HumanMessage({ id: crypto.randomUUID(), content: text })] })}
      onStop={() => void stream.stop()}
      onAnswer={(answer) => void stream.respond(answer, { interruptId: interrupt!.id! })}
    />
  );
}

createRoot(document.getElementById("root")!).render(
  <StrictMode>
    <App />
  </StrictMode>,
);
