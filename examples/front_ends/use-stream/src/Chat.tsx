import { useEffect, useState } from "react";
import type { FormEvent } from "react";

export const SERVER = import.meta.env.VITE_SERVER ?? "http://127.0.0.1:8000";
export const GRAPH = "postcard";

export type Delivery = { id: string; step: string; percent: number };
/** Question of LangChain's `HumanInTheLoopMiddleware`. */
export type Review = { action_requests: { name: string; args: Record<string, unknown> }[] };

/** A message of both hooks: a plain object of the SDK's, or one of LangChain's classes. */
type Message = {
  id?: string;
  type: string;
  content: unknown;
  tool_calls?: { id?: string; name: string; args: Record<string, unknown> }[];
  tool_call_id?: string;
  status?: string;
};

type Props = {
  title: string;
  messages: readonly unknown[];
  review: Review | undefined;
  delivery: Delivery | undefined;
  isBusy: boolean;
  error: unknown;
  onSend: (text: string) => void;
  onStop: () => void;
  onAnswer: (answer: { decisions: { type: "approve" | "reject" }[] }) => void;
};

/** The view of a conversation, which both hooks feed. */
export function Chat({ title, review, delivery, isBusy, error, onSend, onStop, onAnswer, ...props }: Props) {
  const messages = props.messages as Message[];
  const results = new Map(messages.map((message) => [message.tool_call_id, message]));
  const isAsking = review !== undefined && !isBusy;
  useStayAtEnd(messages, isAsking, delivery);
  return (
    <main className="chat">
      <header>
        <h1>{title}</h1>
        <button className="button quiet" onClick={() => location.assign(location.pathname)}>
          New chat
        </button>
        <p className="soft">Name a place. The agent writes a card, and asks before it posts it.</p>
      </header>
      <section className="messages" aria-label="Messages" aria-live="polite" aria-busy={isBusy}>
        {messages.map((message, index) => {
          if (message.type === "human") return <p key={message.id} className="text user">{textOf(message)}</p>;
          if (message.type !== "ai") return null;
          const isLast = index === messages.length - 1;
          const text = textOf(message);
          return (
            <article key={message.id} className="message">
              {text !== "" && <p className={isBusy && isLast ? "text writing" : "text"}>{text}</p>}
              {message.tool_calls?.map((call) => (
                <Tool
                  key={call.id}
                  name={call.name}
                  args={call.args}
                  result={results.get(call.id)}
                  isAsking={isAsking && review.action_requests.some((request) => request.name === call.name)}
                  delivery={delivery}
                  onAnswer={onAnswer}
                />
              ))}
            </article>
          );
        })}
        {error != null && (
          <p className="notice" role="alert">
            {error instanceof Error ? error.message : String(error)}
          </p>
        )}
      </section>
      <Composer isBusy={isBusy} isAsking={isAsking} onSend={onSend} onStop={onStop} />
    </main>
  );
}

type ToolProps = Pick<Props, "delivery" | "onAnswer"> & {
  name: string;
  args: Record<string, unknown>;
  result: Message | undefined;
  isAsking: boolean;
};

function Tool({ name, args, result, isAsking, delivery, onAnswer }: ToolProps) {
  const state = result?.status === "error" ? "refused" : result ? "done" : isAsking ? "asking" : "running";
  return (
    <section className="tool" data-state={state} aria-label={name}>
      <h2>
        {name} <span className="soft">{state === "asking" ? "waits for you" : state}</span>
      </h2>
      <dl>
        {Object.entries(args).map(([key, value]) => (
          <div key={key} style={{ display: "contents" }}>
            <dt>{key}</dt>
            <dd>{String(value)}</dd>
          </div>
        ))}
      </dl>
      {state === "asking" && (
        <div className="line">
          <button className="button main" onClick={() => onAnswer({ decisions: [{ type: "approve" }] })}>
            Post it
          </button>
          <button className="button" onClick={() => onAnswer({ decisions: [{ type: "reject" }] })}>
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
      {result !== undefined && <p className="text soft">{textOf(result)}</p>}
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

function textOf({ content }: Message): string {
  if (typeof content === "string") return content;
  return (content as { type: string; text?: string }[]).map((block) => block.text ?? "").join("");
}

/** The address holds the thread, so that a reload and a second tab show it again. */
export function useThreadInAddress() {
  const [threadId, setThreadId] = useState(() => new URLSearchParams(location.search).get("thread"));
  const keep = (id: string) => {
    history.replaceState(null, "", `?thread=${encodeURIComponent(id)}`);
    setThreadId(id);
  };
  return [threadId, keep] as const;
}

/** Scrolls to the end while it grows, unless the reader has scrolled up. */
function useStayAtEnd(...grows: unknown[]) {
  useEffect(() => {
    const { scrollHeight, scrollTop, clientHeight } = document.documentElement;
    if (scrollHeight - scrollTop - clientHeight < 320) scrollTo({ top: scrollHeight });
  }, grows);
}
