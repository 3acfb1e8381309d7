import { useEffect, useState } from "react";
import type { FormEvent } from "react";
import { useChat } from "@ai-sdk/react";
import {
  DefaultChatTransport,
  getToolName,
  isToolUIPart,
  lastAssistantMessageIsCompleteWithApprovalResponses,
} from "ai";
import type { DynamicToolUIPart, ToolUIPart, UIMessage } from "ai";

const SERVER = import.meta.env.VITE_SERVER ?? "http://127.0.0.1:8000";

type Delivery = { id: string; step: string; percent: number };
type Message = UIMessage<unknown, { delivery: Delivery }>;
type ToolPart = ToolUIPart | DynamicToolUIPart;
type Answer = { id: string; approved: boolean };

/** The address holds the chat, so that a reload and a second tab show it again. */
function chatInAddress() {
  const id = new URLSearchParams(location.search).get("chat") ?? crypto.randomUUID();
  history.replaceState(null, "", `?chat=${id}`);
  return id;
}

const transport = new DefaultChatTransport<Message>({ api: `${SERVER}/api/chat` });

export function App() {
  const [id] = useState(chatInAddress);
  const chat = useChat<Message>({
    id,
    transport,
    messages: load(id),
    resume: true, // an answer that is under way goes on after a reload
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
  });
  const { messages, status, error } = chat;
  const isBusy = status === "submitted" || status === "streaming";
  const isAsking = messages.at(-1)?.parts.some((part) => isToolUIPart(part) && part.state === "approval-requested");
  useStayAtEnd(messages);
  useEffect(() => save(id, messages, status), [id, messages, status]);

  // `chat.stop()` only closes the connection, and the run goes on. This ends the run, and so the answer.
  const stop = () => fetch(`${SERVER}/executions/${encodeURIComponent(id)}`, { method: "DELETE" });

  return (
    <main className="chat">
      <header>
        <h1>Postcards</h1>
        <button className="button quiet" onClick={() => location.assign("?")}>
          New chat
        </button>
        <p className="soft">Name a place. The agent writes a card, and asks before it posts it.</p>
      </header>
      <section className="messages" aria-label="Messages" aria-live="polite" aria-busy={isBusy}>
        {messages.map((message) => (
          <Shown key={message.id} message={message} onAnswer={chat.addToolApprovalResponse} />
        ))}
        {error !== undefined && (
          <p className="notice line" role="alert">
            {error.message}
            <button className="button" onClick={() => chat.resumeStream()}>
              Try again
            </button>
          </p>
        )}
      </section>
      <Composer isBusy={isBusy} isAsking={isAsking ?? false} onSend={(text) => chat.sendMessage({ text })} onStop={stop} />
    </main>
  );
}

function Shown({ message, onAnswer }: { message: Message; onAnswer: (answer: Answer) => void }) {
  if (message.role === "user") {
    return <p className="text user">{message.parts.map((part) => (part.type === "text" ? part.text : ""))}</p>;
  }
  const delivery = message.parts.find((part) => part.type === "data-delivery")?.data;
  return (
    <article className="message">
      {message.parts.map((part, index) => {
        if (part.type === "text") {
          const isWriting = part.state === "streaming";
          return (
            <p key={index} className={isWriting ? "text writing" : "text"}>
              {part.text}
            </p>
          );
        }
        if (isToolUIPart(part)) return <Tool key={index} part={part} delivery={delivery} onAnswer={onAnswer} />;
        return null;
      })}
    </article>
  );
}

const STATES: Record<ToolPart["state"], [state: string, words: string]> = {
  "input-streaming": ["running", "is being called"],
  "input-available": ["running", "is running"],
  "approval-requested": ["asking", "waits for you"],
  "approval-responded": ["running", "is answered"],
  "output-available": ["done", "done"],
  "output-error": ["refused", "failed"],
  "output-denied": ["refused", "refused"],
};

function Tool(props: { part: ToolPart; delivery: Delivery | undefined; onAnswer: (answer: Answer) => void }) {
  const { part, delivery, onAnswer } = props;
  const name = getToolName(part);
  const [state, words] = STATES[part.state];
  const approval = part.state === "approval-requested" ? part.approval : undefined;
  return (
    <section className="tool" data-state={state} aria-label={name}>
      <h2>
        {name} <span className="soft">{words}</span>
      </h2>
      <dl>
        {Object.entries(part.input ?? {}).map(([key, value]) => (
          <div key={key} style={{ display: "contents" }}>
            <dt>{key}</dt>
            <dd>{String(value)}</dd>
          </div>
        ))}
      </dl>
      {approval !== undefined && (
        <div className="line">
          <button className="button main" onClick={() => onAnswer({ id: approval.id, approved: true })}>
            Post it
          </button>
          <button className="button" onClick={() => onAnswer({ id: approval.id, approved: false })}>
            Keep it
          </button>
        </div>
      )}
      {name === "post_card" && delivery !== undefined && state === "running" && (
        <>
          <progress max={100} value={delivery.percent} aria-label="Delivery" />
          <p className="soft">{delivery.step}</p>
        </>
      )}
      {part.state === "output-available" && <p className="text soft">{String(part.output)}</p>}
      {part.state === "output-error" && <p className="text soft">{part.errorText}</p>}
    </section>
  );
}

function Composer(props: { isBusy: boolean; isAsking: boolean; onSend: (text: string) => void; onStop: () => void }) {
  const { isBusy, isAsking, onSend, onStop } = props;
  const [text, setText] = useState("");
  const send = (event: FormEvent) => {
    event.preventDefault();
    onSend(text.trim());
    setText("");
  };
  return (
    <form className="composer" onSubmit={send}>
      <input
        className="field"
        value={text}
        onChange={(event) => setText(event.target.value)}
        placeholder={isAsking ? "Answer first" : "A place, such as Porto"}
        aria-label="A place"
        disabled={isAsking}
        maxLength={200}
        autoComplete="off"
      />
      {isBusy ? (
        <button type="button" className="button" onClick={onStop}>
          Stop
        </button>
      ) : (
        <button className="button main" disabled={isAsking || text.trim() === ""}>
          Send
        </button>
      )}
    </form>
  );
}

function load(id: string): Message[] {
  return JSON.parse(localStorage.getItem(`chat:${id}`) ?? "[]");
}

/** Stores the messages with each question and each whole answer. In between, the stream has them. */
function save(id: string, messages: Message[], status: string) {
  if (status === "submitted" || status === "ready") localStorage.setItem(`chat:${id}`, JSON.stringify(messages));
}

/** Scrolls to the end while it grows, unless the reader has scrolled up. */
function useStayAtEnd(...grows: unknown[]) {
  useEffect(() => {
    const { scrollHeight, scrollTop, clientHeight } = document.documentElement;
    if (scrollHeight - scrollTop - clientHeight < 320) scrollTo({ top: scrollHeight });
  }, grows);
}
