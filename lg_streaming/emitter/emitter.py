"""The words an emitter knows: everything a program can say about an execution."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeVar, get_args, overload

from lg_streaming.checks import Number, count, seconds
from lg_streaming.emitter.spans import SpanEmitter
from lg_streaming.emitter.stream_relay import StreamRelay
from lg_streaming.errors import leaf_errors
from lg_streaming.fork import new_event
from lg_streaming.publisher import NO_SCOPE, RunOutcome, Scope, new_id, position

if TYPE_CHECKING:
    from datetime import datetime
    from types import TracebackType

    from lg_streaming.events import Priority

__all__ = ["NO_EMITTER", "Emitter", "PromptType", "current_emitter"]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

PromptType = Literal["approval", "input", "choice", "confirmation"]
_PROMPT_TYPES: Final = frozenset[str](get_args(PromptType))

_LOG_PRIORITY: Final[Mapping[str, Priority]] = {"debug": "low", "error": "high", "critical": "high", "fatal": "high"}
_TOKENS: Final = count("tokens", least=0)
_MAYBE_TOKENS: Final = count("tokens", least=0, none="for the sum")
_COST: Final = Number(none="where it is not known")
_ETA: Final = Number(unit="seconds", none="where it is not known")
_TIMEOUT: Final = seconds(none="where there is none")
_PERCENT: Final = Number(unit="percent", most=100, none="where it is not known")
_NODES: Final = count("nodes", least=0)

_CANCELLED: Final = {"message": "cancelled", "code": "cancelled"}


class Emitter(SpanEmitter):
    """Writes to one execution, about one scope. Thread-safe, never waits, works with and without an event loop.

    Get one with `hub.emitter("exec-1", node_id="write")`, or inside a decorated node with `current_emitter`.

    An emitter belongs to one run: the one that was open when it was made; where none was, the one its first update
    opens or finds. When that run has ended, what it writes is dropped and counted, since nothing may follow a run's
    final update; only `workflow_start` begins another.

    As a context manager, with `with` or `async with`, it begins the run where none is open, and closes what it opened:
    messages, tool calls and nodes that are still open, and a run it began. When an exception leaves the block, open
    parts end with it first, then the run does; in a run that others began the exception is an `error` update, and the
    run goes on. Exceptions are never swallowed. An emitter may be entered several times, in one another or by several
    threads: what it opened is closed, and the run ends, when the last of these blocks is left, by how that one ends.

    In a node with `@stream_token` its text goes through the node's filter, processor and buffer, together with
    the text of the models; whatever else it writes comes after the text before it.

    In a node with `@stream_event` what it writes beside text and progress goes through the node's filter,
    transformer and buffer, whatever `events` names; what that filter excludes is not sent.

    An emitter of a decorated node never raises into the node; one from `hub.emitter` raises `UpdateTooLargeError`,
    `BadRequestError` and `HubClosedError` to its caller. Text that is too large for one update leaves in several.

    Everywhere `None` means not known, and is left out of what is sent. Details never replace what a word says itself.
    """

    __slots__ = ("_begun", "_blocks")

    _begun: str | None
    """The run this emitter began and takes part in."""
    _blocks: int
    """How many blocks of it are open, one in another or side by side."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._begun = None
        self._blocks = 0

    # --- text ---------------------------------------------------------------------------------------------

    def token(self, content: str, *, role: str = "ai") -> None:
        """One piece of text. Readers join the pieces of a message; an empty piece is not sent."""
        if content:
            message = self._message
            scope = self._scope if message is None else message.scope
            data = {"content": content, "index": next(self._index), "role": role}
            if self._route is not None:
                self._route.take("token", data, scope)
            elif self._direct is not None and scope.run_id is not None:
                # inlines `say` and `send`, for each token
                self._direct.publish(self._execution_id, "token", data, scope=scope)
            else:
                self.send("token", data, scope)

    def thinking(self, content: str) -> None:
        """One piece of a model's reasoning."""
        if content:
            message = self._message
            scope = self._scope if message is None else message.scope
            self.say("thinking", {"content": content, "index": next(self._index)}, scope)

    @overload
    def tokens(self, stream: AsyncIterable[T]) -> AsyncGenerator[T]: ...

    @overload
    def tokens(self, stream: Iterable[T]) -> Generator[T]: ...

    def tokens(self, stream: AsyncIterable[T] | Iterable[T]) -> AsyncGenerator[T] | Generator[T]:
        """Streams the text of a model's answer while you read it: `async for chunk in emitter.tokens(answer): …`.

        It yields what `stream` yields, unchanged. Chunks may be strings, or what the clients of OpenAI, Anthropic,
        LangChain and Ollama give, as objects or mappings; text becomes `token`, reasoning `thinking`, pieces of
        tool calls `tool_args`. A chunk that is none of these just passes. In a decorated node a LangChain model is
        heard anyway, and its chunks are not said twice.

        Args:
            stream: Any iterable or async iterable. An async one gives an async generator.
        """
        scope = self._message.scope if self._message is not None else self._ready()
        saying = StreamRelay(self, scope, self._heard)
        if isinstance(stream, AsyncIterable):
            return saying.asynchronous(stream)
        return saying.synchronous(stream)

    def message(
        self, content: Any, *, role: str = "ai", created_at: datetime | str | None = None, item: object = None
    ) -> None:
        """A whole message, of type `message`: what a chat shows at once. For text that grows use `token`.

        Args:
            content: The text, or the content blocks.
            role: Who says it.
            created_at: When it was made, if not now.
            item: The program's own record of it.
        """
        created = created_at.isoformat() if isinstance(created_at, date) else created_at
        self._tell("message", role=role, content=content, created_at=created, item=item)

    def usage(
        self,
        input_tokens: int,
        output_tokens: int,
        *,
        total_tokens: int | None = None,
        model: str | None = None,
        cost: float | None = None,
        **details: Any,
    ) -> None:
        """What a model used.

        Args:
            input_tokens: Tokens it read.
            output_tokens: Tokens it wrote.
            total_tokens: Both; their sum when not given.
            model: Which model.
            cost: What that cost, in a currency of your own.
            details: More, such as `input_token_details`.
        """
        if self._refuses("usage", input_tokens=(input_tokens, _TOKENS), output_tokens=(output_tokens, _TOKENS)):
            return
        if self._refuses("usage", total_tokens=(total_tokens, _MAYBE_TOKENS), cost=(cost, _COST)):
            return
        if total_tokens is None:
            total_tokens = input_tokens + output_tokens
        self._tell(
            "usage",
            details,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            total_tokens=total_tokens,
            model=model,
            cost=cost,
        )

    # --- how far ------------------------------------------------------------------------------------------

    def progress(self, current: float, total: float, *, text: str | None = None, eta_s: float | None = None) -> None:
        """How far a piece of work is: `current` of `total` in any unit, and the seconds it will still take."""
        percent = _percent(current, total)
        if percent is None:
            self._refuse("progress", f"current and total are numbers, not {current!r:.40} and {total!r:.40}")
            return
        if self._refuses("progress", eta_s=(eta_s, _ETA)):
            return
        self._tell(
            "progress",
            progress=percent,
            current=current,
            total=total,
            status="running",
            text=text,
            eta_s=eta_s,
        )

    def milestone(self, milestone: float | str, progress: float | None = None) -> None:
        """A mark that was reached: a percentage, or a name with the percentage it stands for."""
        reached = progress if progress is not None or isinstance(milestone, str) else milestone
        if self._refuses("milestone", progress=(reached, _PERCENT)):
            return
        self._tell("milestone", milestone=milestone, progress=reached)

    def workflow_progress(
        self,
        completed_nodes: int,
        total_nodes: int,
        *,
        current_node: str | None = None,
        current_node_name: str | None = None,
        eta_s: float | None = None,
    ) -> None:
        """How many nodes of the workflow are done, which one is at work, and the seconds it will still take."""
        percent = _percent(completed_nodes, total_nodes)
        if percent is None:
            told = f"{completed_nodes!r:.40} and {total_nodes!r:.40}"
            self._refuse("workflow_progress", f"completed_nodes and total_nodes are numbers, not {told}")
            return
        counts = {"completed_nodes": (completed_nodes, _NODES), "total_nodes": (total_nodes, _NODES)}
        if self._refuses("workflow_progress", **counts, eta_s=(eta_s, _ETA)):
            return
        self._tell(
            "workflow_progress",
            total_nodes=total_nodes,
            completed_nodes=completed_nodes,
            current_node=current_node,
            current_node_name=current_node_name,
            progress=percent,
            eta_s=eta_s,
        )

    # --- the run ------------------------------------------------------------------------------------------

    def workflow_start(self, name: str | None = None, *, metadata: Mapping[str, Any] | None = None) -> None:
        """Begins a run, unless one is open: there is one `workflow_start` a run, and it is the run's first update.

        Args:
            name: The workflow's name.
            metadata: Sent with it.

        Raises:
            ExecutionLimitError: `limits.max_executions` executions are running.
        """
        publisher, execution_id = self._publisher, self._execution_id
        if publisher is None or (self._scope.run_id is not None and self._is_open(self._scope.run_id)):
            return
        try:
            begun = publisher.runs.begin_run(execution_id, name=name, metadata=metadata)
        except Exception as error:
            if self._strict:
                raise
            self._note(error, "workflow_start")
            return
        self._begun = begun
        self._scope = self._scope.derive(run_id=begun)
        if begun is None:
            self._ready()

    def workflow_complete(self, result: object = None) -> None:
        """Ends the run well, with `result`; where others take part in it still, the last of them ends it.

        Unlike `await hub.close(…)` it does not wait until the log has it.
        """
        self._leave(RunOutcome("workflow_complete", {} if result is None else {"result": result}))

    def workflow_error(self, error: BaseException | str) -> None:
        """Ends the run badly, with the error; otherwise like `workflow_complete`."""
        self._leave(RunOutcome("workflow_error", {"error": self._described(error)}))

    def _is_open(self, run_id: str) -> bool:
        return self._publisher is not None and self._publisher.runs.current_run_id(self._execution_id) == run_id

    def _leave(self, outcome: RunOutcome) -> None:
        run_id = self._ready().run_id
        if self._publisher is None or run_id is None:
            return
        self.flush()
        joined, self._begun = self._begun == run_id, None
        try:
            self._publisher.runs.leave_run(self._execution_id, run_id, outcome, joined=joined)
        except Exception as error:
            if self._strict:
                raise
            self._note(error, outcome.type)

    # --- what was found and used --------------------------------------------------------------------------

    def source_documents(self, documents: Sequence[Any]) -> None:
        """What the answer rests on; the data is the list itself."""
        self._emit("source_documents", documents, self._scope)

    def used_tools(self, tools: Sequence[Any]) -> None:
        """The tools that were used: `{tool, input, output, duration_s?, error?}` each; the data is the list itself."""
        self._emit("used_tools", tools, self._scope)

    def artifacts(self, artifacts: Sequence[Any]) -> None:
        """What was made: files, images, code; the data is the list itself."""
        self._emit("artifacts", artifacts, self._scope)

    def metadata(self, **fields: Any) -> None:
        """What else is to be known, such as ids and follow-up questions."""
        self._emit("metadata", fields, self._scope)

    # --- everything else ----------------------------------------------------------------------------------

    def status(self, status: str, **details: Any) -> None:
        """The state of what is going on, in a word, with any details."""
        self._tell("status", details, status=status)

    def log(self, level: str, message: str, context: Mapping[str, Any] | None = None) -> None:
        """A line of a log, for people: `debug`, `info`, `warning`, `error` or a level of your own.

        A line of level `debug` has the priority `low`, one of `error` or `critical` `high`.
        """
        data = {"level": level, "message": message, **({"context": context} if context else {})}
        self._emit("log", data, self._scope, priority=_LOG_PRIORITY.get(str(level).lower()))

    def custom(self, name: str, data: object = None) -> None:
        """An event of your own, of type `custom`: `{name, data}`."""
        self._emit("custom", {"name": name, "data": data}, self._scope)

    def error(self, error: BaseException | str, *, code: int | str | None = None) -> None:
        """Something went wrong, and the run goes on: the error's message and type, its stack only in debug mode.

        `workflow_error` and `hub.fail` end the run.
        """
        self._emit("error", self._described(error) | ({"code": code} if code is not None else {}), self._scope)

    # --- humans -------------------------------------------------------------------------------------------

    def human_prompt(
        self,
        prompt: str,
        *,
        type: PromptType = "input",
        choices: Sequence[Any] | None = None,
        timeout_s: float | None = None,
        required: bool | None = None,
        metadata: Mapping[str, Any] | None = None,
        prompt_id: str | None = None,
    ) -> str:
        """Asks the people who watch. A reader who may answers with `respond`; `hub.on_response` tells the program.

        Args:
            prompt: The question.
            type: `approval`, `input`, `choice` or `confirmation`.
            choices: What to choose from.
            timeout_s: How many seconds the program is going to wait, above 0; readers may show it. None: not known.
            required: Whether there has to be an answer.
            metadata: More for the page that asks.
            prompt_id: Names the prompt; a name is made when none is given.

        Returns:
            The prompt's id.

        Raises:
            BadRequestError: There is no such type of prompts, or `timeout_s` cannot be used.
        """
        if type not in _PROMPT_TYPES:
            self._refuse(
                "human_prompt", f"a prompt's type is one of {', '.join(get_args(PromptType))}, not {type!r:.80}"
            )
        prompt_id = prompt_id or new_id()
        if self._refuses("human_prompt", timeout_s=(timeout_s, _TIMEOUT)):
            timeout_s = None
        self._tell(
            "human_prompt",
            prompt_id=prompt_id,
            prompt=prompt,
            type=type,
            choices=choices,
            timeout_s=timeout_s,
            required=required,
            metadata=metadata,
        )
        return prompt_id

    def human_response(self, prompt_id: str, response: object) -> None:
        """The answer to a prompt that came another way than by `respond`: the prompt is open no more."""
        self._emit("human_response", {"prompt_id": prompt_id, "response": response}, self._scope)

    # --- what it opened -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.workflow_start()
        with self._parts.lock:
            self._blocks += 1
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._parts.lock:
            self._blocks -= 1
            if self._blocks:
                return  # the block around it, or the one beside it, is the one that closes
        error = None if exc is None else _CANCELLED if _is_cancelling(exc) else self._described(exc)
        strict = self._strict
        self._strict = strict and exc is None  # what cannot be said must not hide the exception that leaves the block
        for part in self._parts.drain():
            self._end(part, f"{part.kind}_complete" if error is None else f"{part.kind}_error", {}, error=error)
        self._message = None
        if self._begun is not None:
            self._leave(_outcome(error))
        elif error is not None and error is not _CANCELLED:
            self._emit("error", error, self._scope)
        self._strict = strict

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(exc_type, exc, traceback)


def _percent(current: float, total: float) -> float | None:
    """None where that cannot be said of what was given."""
    try:
        return 0.0 if total <= 0 else round(min(100.0, max(0.0, 100.0 * float(current) / float(total))), 1)
    except (TypeError, ValueError):
        return None


def _is_cancelling(error: BaseException) -> bool:
    return all(
        isinstance(leaf, (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)) for leaf in leaf_errors(error)
    )


def _outcome(error: Mapping[str, Any] | None) -> RunOutcome:
    if error is None:
        return RunOutcome("workflow_complete", {})
    if error is _CANCELLED:
        return RunOutcome("workflow_cancelled", {})
    return RunOutcome("workflow_error", {"error": error})


NO_EMITTER: Final = Emitter(None, "", NO_SCOPE)

_no_node = new_event()


def current_emitter() -> Emitter:
    """The emitter of the decorated node, or of the tool in it, that is running; outside, an emitter that does nothing.

    Inside an `execution(...)` block of another execution, entered in the node, it writes to that execution.
    A task or thread that goes on after its node has returned gets an emitter that does nothing, and the log has a
    warning: take the emitter while the node runs, and hand it over.
    """
    frame, block, outlives = position()
    if frame is not None:
        return frame.emitter
    if block is not None:
        if block.frame is None:
            return NO_EMITTER
        binding = block.binding
        return Emitter(binding.publisher, binding.execution_id, Scope(run_id=binding.run_id), strict=False)
    if outlives and not _no_node.is_set():
        _no_node.set()
        logger.warning(
            "current_emitter() was called where the node has returned already: what it writes goes nowhere. "
            "Take the emitter inside the node and hand it to the task or thread that goes on"
        )
    return NO_EMITTER
