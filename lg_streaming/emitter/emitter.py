"""The emitter: one method for each kind of update that a program can publish."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterable, Generator, Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar, cast, get_args, overload

from lg_streaming.checks import Number, count, seconds
from lg_streaming.context import code_position
from lg_streaming.emitter.spans import SpanEmitter
from lg_streaming.emitter.stream_relay import StreamRelay
from lg_streaming.errors import GraphCancelledError, leaf_errors
from lg_streaming.fork import new_event
from lg_streaming.prompts import PROMPT_TYPES, PromptType
from lg_streaming.publisher import NO_SCOPE, RunOutcome, Scope, new_id

if TYPE_CHECKING:
    from datetime import datetime

    from lg_streaming.events import Priority

__all__ = ["NO_EMITTER", "Emitter", "PromptType", "current_emitter"]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")


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
    """Publisher of updates of one execution and one scope. Thread-safe, never waits, works without an event loop too.

    Get one with `hub.emitter("exec-1", node_id="write")`, or inside a decorated node with `current_emitter`.

    An emitter belongs to one run: the run that was open when it was made. Where none was open, it belongs to the run
    that its first update opens or finds. When that run has ended, its updates are dropped and counted, since nothing
    may follow a run's final update; only `workflow_start` begins another.

    As a context manager, with `with` or `async with`, it begins the run where none is open. At its end it closes the
    messages, tool calls and nodes that are still open, and a run that it began. When an exception leaves the block,
    open spans end with the exception first, then the run does. In a run that others began, the exception is an `error`
    update, and the run continues. Exceptions are never swallowed. An emitter may be entered several times, nested or by
    several threads: the last of these blocks closes the spans and ends the run.

    In a node with `@stream_token` its text goes through the node's filter, processor and buffer, together with
    the text of the models. Its other updates come after the text before them.

    In a node with `@stream_event` its updates, other than text and progress, go through the node's filter, transformer
    and buffer, independent of `events`. Updates that the filter excludes are not sent.

    An emitter of a decorated node never raises into the node; one from `hub.emitter` raises `UpdateTooLargeError`,
    `BadRequestError` and `HubClosedError` to its caller. Text that is too large for one update becomes several.

    An argument `None` means not known, and is not sent. Details never replace the fields of a method's arguments.
    """

    __slots__ = ("_blocks", "_run_begun")

    _run_begun: str | None
    """The run that this emitter began and takes part in."""
    _blocks: int
    """The number of its open blocks, nested or parallel."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._run_begun = None
        self._blocks = 0

    # --- text ---------------------------------------------------------------------------------------------

    def token(self, content: str, *, role: str = "ai") -> None:
        """Publish one piece of text. Readers join the pieces of a message; an empty piece is not sent."""
        if content:
            message, output = self._message, self._output
            scope = output.scope if message is None else message.scope
            data = {"content": content, "index": next(self._index), "role": role}
            # inlines `publish_text` and `ScopedPublisher.publish`, for each token
            if self._direct is not None and scope.run_id is not None:
                self._direct.publish(output.execution_id, "token", data, scope=scope)
            elif self._pipeline is None or not self._pipeline.put("token", data, scope):
                output.publish("token", data, scope)

    def thinking(self, content: str) -> None:
        """Publish one piece of a model's reasoning."""
        if content:
            message = self._message
            scope = self._output.scope if message is None else message.scope
            self.publish_text("thinking", {"content": content, "index": next(self._index)}, scope)

    @overload
    def tokens(self, stream: AsyncIterable[T]) -> AsyncGenerator[T]: ...

    @overload
    def tokens(self, stream: Iterable[T]) -> Generator[T]: ...

    def tokens(self, stream: AsyncIterable[T] | Iterable[T]) -> AsyncGenerator[T] | Generator[T]:
        """Stream the text of a model's answer while you read it: `async for chunk in emitter.tokens(answer): …`.

        It yields the chunks of `stream`, unchanged. Chunks may be strings, or those of the clients of OpenAI,
        Anthropic, LangChain and Ollama, as objects or mappings. Text becomes `token`, reasoning `thinking`, pieces of
        tool calls `tool_args`. Other chunks are only yielded. In a decorated node LangChain models are captured anyway;
        their chunks are not published twice.

        Args:
            stream: Any iterable or async iterable. An async one gives an async generator.
        """
        scope = self._message.scope if self._message is not None else self._output.find_run()
        relay = StreamRelay(self, scope, self._captured_message_ids)
        if isinstance(stream, AsyncIterable):
            return relay.asynchronous(stream)
        return relay.synchronous(stream)

    def message(
        self, content: Any, *, role: str = "ai", created_at: datetime | str | None = None, item: object = None
    ) -> None:
        """Publish a whole message, of type `message`, as a chat shows it. For text that grows use `token`.

        Args:
            content: The text, or the content blocks.
            role: The role of the author.
            created_at: The time of its creation, if not now.
            item: The program's own object for it.
        """
        created = created_at.isoformat() if isinstance(created_at, date) else created_at
        self._emit_fields("message", role=role, content=content, created_at=created, item=item)

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
        """Publish the usage of a model.

        Args:
            input_tokens: Tokens it read.
            output_tokens: Tokens it wrote.
            total_tokens: The total; the sum of both when not given.
            model: The model's name.
            cost: The cost, in any currency.
            details: More fields, such as `input_token_details`.
        """
        if self._is_rejected("usage", input_tokens=(input_tokens, _TOKENS), output_tokens=(output_tokens, _TOKENS)):
            return
        if self._is_rejected("usage", total_tokens=(total_tokens, _MAYBE_TOKENS), cost=(cost, _COST)):
            return
        if total_tokens is None:
            total_tokens = input_tokens + output_tokens
        self._emit_fields(
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
        """Publish the progress of a piece of work: `current` of `total` in any unit, and the seconds that are left."""
        percent = _percent(current, total)
        if percent is None:
            self._reject("progress", f"current and total are numbers, not {current!r:.40} and {total!r:.40}")
            return
        if self._is_rejected("progress", eta_s=(eta_s, _ETA)):
            return
        self._emit_fields(
            "progress",
            progress=percent,
            current=current,
            total=total,
            status="running",
            text=text,
            eta_s=eta_s,
        )

    def milestone(self, milestone: float | str, progress: float | None = None) -> None:
        """Publish a milestone that was reached: a percentage, or a name with its percentage."""
        reached = progress if progress is not None or isinstance(milestone, str) else milestone
        if self._is_rejected("milestone", progress=(reached, _PERCENT)):
            return
        self._emit_fields("milestone", milestone=milestone, progress=reached)

    def workflow_progress(
        self,
        completed_nodes: int,
        total_nodes: int,
        *,
        current_node: str | None = None,
        current_node_name: str | None = None,
        eta_s: float | None = None,
    ) -> None:
        """Publish the number of nodes that are done, the node that runs, and the seconds that are left."""
        percent = _percent(completed_nodes, total_nodes)
        if percent is None:
            counts = f"{completed_nodes!r:.40} and {total_nodes!r:.40}"
            self._reject("workflow_progress", f"completed_nodes and total_nodes are numbers, not {counts}")
            return
        counts = {"completed_nodes": (completed_nodes, _NODES), "total_nodes": (total_nodes, _NODES)}
        if self._is_rejected("workflow_progress", **counts, eta_s=(eta_s, _ETA)):
            return
        self._emit_fields(
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
        """Begin a run, unless one is open: there is one `workflow_start` a run, and it is the run's first update.

        Args:
            name: The workflow's name.
            metadata: Sent with it.

        Raises:
            ExecutionLimitError: If `limits.max_executions` executions are running.
        """
        publisher, execution_id = self._output.publisher, self._output.execution_id
        if publisher is None or (self._output.scope.run_id is not None and self._is_open(self._output.scope.run_id)):
            return
        try:
            begun = publisher.runs.begin_run(execution_id, name=name, metadata=metadata)
        except Exception as error:
            if self._output.strict:
                raise
            self._output.note_refused(error, "workflow_start")
            return
        self._run_begun = begun
        self._output.scope = self._output.scope.derive(run_id=begun)
        if begun is None:
            self._output.find_run()

    def workflow_complete(self, result: object = None) -> None:
        """End the run well, with `result`; where others still take part in it, the last of them ends it.

        Unlike `await hub.close(…)` it does not wait until the log has it.
        """
        self._leave(RunOutcome("workflow_complete", {} if result is None else {"result": result}))

    def workflow_error(self, error: BaseException | str) -> None:
        """End the run with an error; otherwise like `workflow_complete`."""
        self._leave(RunOutcome("workflow_error", {"error": self._described(error)}))

    def _is_open(self, run_id: str) -> bool:
        output = self._output
        return output.publisher is not None and output.publisher.runs.current_run_id(output.execution_id) == run_id

    def _leave(self, outcome: RunOutcome) -> None:
        run_id = self._output.find_run().run_id
        if self._output.publisher is None or run_id is None:
            return
        self.flush()
        joined, self._run_begun = self._run_begun == run_id, None
        try:
            self._output.publisher.runs.leave_run(self._output.execution_id, run_id, outcome, joined=joined)
        except Exception as error:
            if self._output.strict:
                raise
            self._output.note_refused(error, outcome.type)

    # --- what was found and used --------------------------------------------------------------------------

    def source_documents(self, documents: Sequence[Any]) -> None:
        """Publish the sources of an answer; the data is the list itself."""
        self._emit("source_documents", documents, self._output.scope)

    def used_tools(self, tools: Sequence[Any]) -> None:
        """Publish the tools that were used: `{tool, input, output, duration_s?, error?}` each; the data is the list."""
        self._emit("used_tools", tools, self._output.scope)

    def artifacts(self, artifacts: Sequence[Any]) -> None:
        """Publish results such as files, images and code; the data is the list itself."""
        self._emit("artifacts", artifacts, self._output.scope)

    def metadata(self, **fields: Any) -> None:
        """Publish any other fields, such as ids and follow-up questions."""
        self._emit("metadata", fields, self._output.scope)

    # --- everything else ----------------------------------------------------------------------------------

    def status(self, status: str, **details: Any) -> None:
        """Publish the state of the work, in a word, with any details."""
        self._emit_fields("status", details, status=status)

    def log(self, level: str, message: str, context: Mapping[str, Any] | None = None) -> None:
        """Publish a line of a log, for people: `debug`, `info`, `warning`, `error` or a level of your own.

        A line of level `debug` has the priority `low`, one of `error` or `critical` `high`.
        """
        data = {"level": level, "message": message, **({"context": context} if context else {})}
        self._emit("log", data, self._output.scope, priority=_LOG_PRIORITY.get(str(level).lower()))

    def custom(self, name: str, data: object = None) -> None:
        """Publish an event of your own, of type `custom`: `{name, data}`."""
        self._emit("custom", {"name": name, "data": data}, self._output.scope)

    def error(self, error: BaseException | str, *, code: int | str | None = None) -> None:
        """Publish an error after which the run continues: its message and type, its stack only in debug mode.

        `workflow_error` and `hub.fail` end the run.
        """
        self._emit("error", self._described(error) | ({"code": code} if code is not None else {}), self._output.scope)

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
        """Ask the people who watch. A permitted reader answers with `respond`; `hub.on_response` calls the program.

        Args:
            prompt: The question.
            type: `approval`, `input`, `choice` or `confirmation`.
            choices: The choices.
            timeout_s: Seconds that the program is going to wait, above 0; readers may show it. None: not known.
            required: True if an answer is required.
            metadata: More fields for the page that asks.
            prompt_id: The prompt's id; one is made when not given.

        Returns:
            The prompt's id.

        Raises:
            BadRequestError: If there is no such type of prompts, or `timeout_s` cannot be used.
        """
        if type not in PROMPT_TYPES:
            self._reject(
                "human_prompt", f"a prompt's type is one of {', '.join(get_args(PromptType))}, not {type!r:.80}"
            )
        prompt_id = prompt_id or new_id()
        if self._is_rejected("human_prompt", timeout_s=(timeout_s, _TIMEOUT)):
            timeout_s = None
        self._emit_fields(
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
        """Publish the answer to a prompt that came another way than by `respond`. It closes the prompt."""
        self._emit("human_response", {"prompt_id": prompt_id, "response": response}, self._output.scope)

    # --- what it opened -----------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self.workflow_start()
        with self._spans.lock:
            self._blocks += 1
        return self

    def __exit__(self, _: object, exc: BaseException | None, __: object) -> None:
        with self._spans.lock:
            self._blocks -= 1
            if self._blocks:
                return  # the outer block, or a parallel one, closes
        error = None if exc is None else _CANCELLED if _is_cancelling(exc) else self._described(exc)
        strict = self._output.strict
        self._output.strict = strict and exc is None  # a refused update must not hide the block's exception
        for span in self._spans.drain():
            self._end_span(span, f"{span.kind}_complete" if error is None else f"{span.kind}_error", {}, error=error)
        self._message = None
        if self._run_begun is not None:
            self._leave(_outcome(error))
        elif error is not None and error is not _CANCELLED:
            self._emit("error", error, self._output.scope)
        self._output.strict = strict

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, _: object, exc: BaseException | None, __: object) -> None:
        self.__exit__(None, exc, None)


def _percent(current: float, total: float) -> float | None:
    """Return the percentage; None for values that are no numbers."""
    try:
        return 0.0 if total <= 0 else round(min(100.0, max(0.0, 100.0 * float(current) / float(total))), 1)
    except (TypeError, ValueError):
        return None


def _is_cancelling(error: BaseException) -> bool:
    return all(
        isinstance(leaf, (asyncio.CancelledError, GraphCancelledError, GeneratorExit, KeyboardInterrupt))
        for leaf in leaf_errors(error)
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
    """Return the emitter of the decorated node or tool that is running; outside, an emitter that does nothing.

    Inside an `execution(...)` block of another execution, entered in the node, it writes to that execution.
    A task or thread that outlives its node gets an emitter that does nothing, and the log has a
    warning: take the emitter while the node runs, and pass it on.
    """
    frame, block, outlives = code_position()
    if frame is not None:
        return cast("Emitter", frame.emitter)
    if block is not None:
        if block.frame is None:
            return NO_EMITTER
        context = block.context
        return Emitter(context.publisher, context.execution_id, Scope(run_id=context.run_id), strict=False)
    if outlives and not _no_node.is_set():
        _no_node.set()
        logger.warning(
            "current_emitter() was called after the node had returned: its updates are dropped. "
            "Take the emitter inside the node and pass it to the task or thread"
        )
    return NO_EMITTER
