import { useEffect, useLayoutEffect, useRef, useState } from "react";
import type { FormEvent, ReactNode } from "react";
import type { Branch } from "lg-streaming";
import { useStreaming } from "lg-streaming/react";
import type { NodeView, Prompt, RunStatus, Streaming } from "lg-streaming/react";

const STATUS: Record<RunStatus, string> = {
  unknown: "waiting",
  running: "running",
  interrupted: "waiting for you",
  completed: "complete",
  failed: "failed",
  cancelled: "cancelled",
  abandoned: "abandoned",
};

const CONNECTION: Partial<Record<Streaming["state"], string>> = {
  connecting: "connecting …",
  reconnecting: "connection lost, trying again …",
  failed: "not connected",
};

export function App() {
  const [executionId, setExecutionId] = useExecutionInAddress();
  const run = useStreaming(executionId, { resume: true, merge: true });
  return (
    <main>
      <header>
        <h1>A report, live</h1>
        <p>A graph writes it, and asks you before it goes out.</p>
      </header>
      <Start onStart={setExecutionId} isAgain={executionId !== null} />
      {executionId !== null && <Run key={executionId} run={run} />}
    </main>
  );
}

/** The address holds the execution, so that a reload and a shared link show it again. */
function useExecutionInAddress() {
  const inAddress = () => new URLSearchParams(location.search).get("execution");
  const [executionId, setExecutionId] = useState(inAddress);
  useEffect(() => {
    const look = () => setExecutionId(inAddress());
    addEventListener("popstate", look);
    return () => removeEventListener("popstate", look);
  }, []);
  const show = (id: string) => {
    history.pushState(null, "", `?${new URLSearchParams({ execution: id })}`);
    setExecutionId(id);
  };
  return [executionId, show] as const;
}

function Start({ onStart, isAgain }: { onStart: (executionId: string) => void; isAgain: boolean }) {
  const [topic, setTopic] = useState("");
  const [attempt, isStarting, problem] = useAttempt();
  const start = async (event: FormEvent) => {
    event.preventDefault();
    await attempt(async () => {
      const body = JSON.stringify({ topic: topic.trim() });
      const answer = await fetch("/runs", { method: "POST", headers: { "Content-Type": "application/json" }, body });
      if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
      onStart((await answer.json()).execution_id);
    });
  };
  return (
    <form onSubmit={start}>
      <label htmlFor="topic">What shall it be about?</label>
      <div className="line">
        <input
          id="topic"
          value={topic}
          onChange={(event) => setTopic(event.target.value)}
          placeholder="morning fog"
          maxLength={200}
          required
          autoComplete="off"
          autoFocus={!isAgain}
        />
        <button className={isAgain ? "" : "main"} disabled={isStarting || topic.trim() === ""}>
          {isAgain ? "Write another" : "Write it"}
        </button>
      </div>
      {problem !== null && <Notice kind="bad">It could not be started: {problem}.</Notice>}
    </form>
  );
}

function Run({ run }: { run: Streaming }) {
  const { text, messages, tree, progress, status, state, nodes, prompts, gap, error } = run;
  const [attempt, isCancelling] = useAttempt();
  const card = useRef<HTMLElement>(null);
  const isOpen = status === "running" || status === "interrupted";
  const isWriting = messages.some((message) => !message.complete) && isOpen;
  const answer = async (prompt: Prompt, given: unknown) => {
    await run.respond(prompt.prompt_id, given);
    card.current?.focus({ preventScroll: true }); // the focused button is removed
  };
  useStayAtEnd(text, prompts.length);
  return (
    <>
      <section className="card run" aria-label="Run" ref={card} tabIndex={-1}>
        <div className="line">
          <span className="pill" data-status={prompts.length > 0 ? "interrupted" : status}>
            {prompts.length > 0 ? STATUS.interrupted : STATUS[status]}
          </span>
          <span className="soft">{CONNECTION[state]}</span>
          {isOpen && (
            <button className="quiet" disabled={isCancelling} onClick={() => attempt(() => run.cancel("from the page"))}>
              Cancel
            </button>
          )}
          {state === "failed" && <button onClick={run.retry}>Try again</button>}
        </div>
        <Steps nodes={nodes} />
        {progress !== null && isOpen && prompts.length === 0 && (
          <div className="line">
            <progress max={100} value={progress} aria-label="Progress" />
            <span className="soft figures">{Math.round(progress)} %</span>
          </div>
        )}
        {error !== null && <Notice kind="bad">{error.message}</Notice>}
        {gap !== null && <Notice kind="warn">{missing(gap)}</Notice>}
      </section>
      <section className="texts" aria-label="Text" aria-live="polite" aria-busy={isWriting}>
        {tree.map((branch) => (
          <Said key={branch.key} branch={branch} />
        ))}
      </section>
      {prompts.map((prompt) => (
        <Question key={prompt.prompt_id} prompt={prompt} onAnswer={(given) => answer(prompt, given)} />
      ))}
      <p role="status" className="unseen">
        {prompts[0]?.prompt ?? (status === "unknown" ? "" : `Run ${STATUS[status]}`)}
      </p>
    </>
  );
}

/** Messages of a node, and inside them those of its inner nodes. */
function Said({ branch, agent }: { branch: Branch; agent?: string }) {
  const { name, agentType, messages, inside } = branch;
  const label = agentType === undefined || agentType === agent || agentType === name ? name : `${agentType}: ${name}`;
  return (
    <article className={agent === undefined ? "card" : "inside"} aria-label={label}>
      <h2>{label}</h2>
      {messages.map((message) => (
        <p key={message.id} className="text" data-complete={message.complete}>
          {message.text}
        </p>
      ))}
      {inside.map((inner) => (
        <Said key={inner.key} branch={inner} agent={agentType ?? name} />
      ))}
    </article>
  );
}

function missing({ reason }: { reason: string }) {
  if (reason === "evicted") return "A part is missing here: the server no longer has it.";
  return "The server has begun anew: what was here before is lost.";
}

function Steps({ nodes }: { nodes: readonly NodeView[] }) {
  return (
    <ol className="steps">
      {nodes.map((node) => (
        <li key={node.key} data-state={node.state}>
          <span className="mark" aria-hidden="true" />
          {node.path.split("/").slice(0, -1).map((outer) => `${outer} / `)}
          {node.name}
          <span className="unseen">: {node.state}</span>
          {node.attempt > 1 && <span className="soft">attempt {node.attempt}</span>}
          {node.error !== null && <span className="bad">{node.error}</span>}
        </li>
      ))}
    </ol>
  );
}

function Question({ prompt, onAnswer }: { prompt: Prompt; onAnswer: (answer: unknown) => Promise<unknown> }) {
  const [text, setText] = useState("");
  const [attempt, isAnswering, problem] = useAttempt();
  const answer = (given: unknown) => attempt(() => onAnswer(given));
  const choices = prompt.choices ?? (prompt.type === "input" ? null : ["Yes", "No"]);
  return (
    <section className="card question" role="group" aria-labelledby={`q-${prompt.prompt_id}`}>
      <h2 id={`q-${prompt.prompt_id}`}>{prompt.prompt}</h2>
      {choices !== null ? (
        <div className="line">
          {choices.map((choice, index) => (
            <button
              key={choice}
              className={index === 0 ? "main" : ""}
              disabled={isAnswering}
              onClick={() => answer(prompt.choices ? choice : choice === "Yes")}
            >
              {choice}
            </button>
          ))}
        </div>
      ) : (
        <form
          className="line"
          onSubmit={(event) => {
            event.preventDefault();
            answer(text);
          }}
        >
          <input value={text} onChange={(event) => setText(event.target.value)} aria-label="Your answer" />
          <button className="main" disabled={isAnswering}>
            Answer
          </button>
        </form>
      )}
      {problem !== null && <Notice kind="bad">{problem}</Notice>}
    </section>
  );
}

function Notice({ kind, children }: { kind: "bad" | "warn"; children: ReactNode }) {
  return (
    <p role="alert" className={`notice ${kind}`}>
      {children}
    </p>
  );
}

/** Runs an action that may fail: `[attempt, whether it is running, its error]`. */
function useAttempt() {
  const [isUnderWay, setUnderWay] = useState(false);
  const [problem, setProblem] = useState<string | null>(null);
  const attempt = async (work: () => Promise<unknown>) => {
    setUnderWay(true);
    setProblem(null);
    try {
      await work();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      setUnderWay(false);
    }
  };
  return [attempt, isUnderWay, problem] as const;
}

/** Scrolls to the end while the text grows, unless the reader has scrolled up. */
function useStayAtEnd(...grows: unknown[]) {
  const isAtEnd = useRef(true);
  useEffect(() => {
    const page = document.documentElement;
    const look = () => (isAtEnd.current = page.scrollHeight - page.scrollTop - page.clientHeight < 48);
    addEventListener("scroll", look, { passive: true });
    return () => removeEventListener("scroll", look);
  }, []);
  useLayoutEffect(() => {
    if (isAtEnd.current) scrollTo({ top: document.documentElement.scrollHeight });
  }, grows);
}
