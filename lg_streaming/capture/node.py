"""One try of a captured node: its identity, its updates, its outcome."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from langgraph.errors import GraphInterrupt, ParentCommand

from lg_streaming.capture.node_result import ids_in, messages_in, to_update, unpublished_parts
from lg_streaming.capture.outcome import CANCELLED, classify_ending, describe_failure, get_interrupts
from lg_streaming.capture.place import parent_run_id
from lg_streaming.capture.retries import will_retry
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.context import FrameMark, current_block, frame_var
from lg_streaming.emitter import Emitter, ScopedPublisher
from lg_streaming.errors import StreamingError
from lg_streaming.excerpt import excerpt
from lg_streaming.publisher import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

    from lg_streaming.capture.graph_call import GraphCall
    from lg_streaming.capture.node_frame import NodeFrame
    from lg_streaming.capture.place import Place
    from lg_streaming.capture.plan import NodePlan, NodeSink
    from lg_streaming.capture.run import Run
    from lg_streaming.context import Block, ExecutionContext

__all__ = ["Identity", "NodeRun", "agent_name", "identify", "open_node", "step_of", "task_name"]

logger: logging.Logger = logging.getLogger(__name__)

_MAX_INPUT: Final = 16_384
"""Most bytes of the input of a node that has failed."""
_OTHER_PIECES: Final = frozenset({"thinking", "tool_args"})


class Identity(NamedTuple):
    """The identity of a node."""

    name: str
    node_id: str
    scope: Scope
    """Without the node's id, which its options may replace."""
    graph_namespace: str | None
    """LangGraph's own name for this piece of work; the scope's namespace also distinguishes calls inside it."""


class NodeRun:
    """One try of a captured node."""

    __slots__ = (
        "_lock",
        "_pieces",
        "_plan",
        "_started",
        "_state",
        "_stream",
        "block",
        "call",
        "config",
        "context",
        "echo",
        "emitter",
        "ended",
        "graph_namespace",
        "is_own",
        "listener",
        "mark",
        "message_ids",
        "name",
        "outer",
        "run_ids",
        "scope",
        "texts",
    )

    def __init__(
        self,
        plan: NodePlan,
        context: ExecutionContext,
        identity: Identity,
        *,
        outer: NodeFrame | None,
        call: GraphCall | None,
        is_own: bool = True,
    ) -> None:
        self.context: ExecutionContext = context
        self.block: Block | None = current_block()
        self.outer: NodeFrame | None = outer
        self.mark: FrameMark = FrameMark(self, outer.mark if outer is not None else None)
        self.call: GraphCall | None = call
        self.name: str = identity.name
        self.scope: Scope = identity.scope.derive(node_id=plan.node_id or identity.node_id)
        self.graph_namespace: str | None = identity.graph_namespace
        self.run_ids: set[UUID] = set()
        self.message_ids: set[str] = set()
        self.texts: set[str] = set()
        self.listener: object = None
        """The handler of its custom events, where it is a function in a run that another handler follows."""
        self.config: RunnableConfig | None = None
        """The config for the node's own calls; None where the node has none."""
        self.echo: list[str] | None = None
        """The text of models since the node yielded last; None in a node that does not yield."""
        self.is_own: bool = is_own
        """True if the options are those of the node's own decorator, not of its graph's."""
        self.ended: bool = False
        self.emitter: Emitter = self._new_emitter(None)
        self._pieces = 0
        """The number of pieces that came from models, of text, reasoning and the arguments of tools."""
        self._plan = plan
        self._state: object = None
        self._started = time.perf_counter()
        self._lock = threading.Lock()
        self._stream: NodeSink | None = None

    # --- its beginning ---------------------------------------------------------------------------------------

    @property
    def listens(self) -> bool:
        """True if models inside it are made to stream."""
        return self._plan.listens

    @property
    def is_graph_node(self) -> bool:
        """True if LangGraph runs it as a node, and not another node calls it as a function."""
        return self.graph_namespace is not None and self.graph_namespace == self.scope.namespace

    def begin(self, start: tuple[object, Mapping[str, Any]] | None = None) -> None:
        """Publish the start, after the buffered updates of the node around it. Raise the errors of its options.

        Args:
            start: The node's input, and the reason of the graph's call.
        """
        stream = self._open_stream()
        if self.outer is not None:
            self.outer.release()
        RUNS.register_frame(self)
        if self.call is not None:
            self.call.captured_nodes += 1
        self._put(stream, "node_start", self._identified(attempt=self.scope.attempt), self.scope)
        if start is not None:
            state, step = start
            self._state = state
            if step:
                self._put(stream, "debug", self._identified(**step), self.scope)
            self._put(stream, "values", {"state": state}, self.scope)

    def adopt(self, plan: NodePlan) -> bool:
        """Replace the options of the graph's decorator with those of the node's own, once. Return whether it did."""
        if self.is_own or self.ended or self._stream is None:
            return False
        self.is_own = True
        self._plan = plan
        self._stream.close()
        self._open_stream().begin()
        return True

    def _open_stream(self) -> NodeSink:
        """Open the pipeline of the options; the node's emitter writes to it from now on."""
        context = self.context
        self._stream = stream = self._plan.open(ScopedPublisher(context.publisher, context.execution_id, self.scope))
        self.emitter = self._new_emitter(stream)
        return stream

    def _new_emitter(self, pipeline: NodeSink | None) -> Emitter:
        return Emitter(
            self.context.publisher,
            self.context.execution_id,
            self.scope,
            strict=False,
            pipeline=pipeline,
            captured_message_ids=self.message_ids,
        )

    @property
    def progress(self) -> object:
        """Its progress; None before it has begun."""
        return self._stream.progress if self._stream is not None else None

    # --- what happens in it ----------------------------------------------------------------------------------

    def record(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Pass an event to the pipeline. Never raises."""
        if type == "token":
            self._pieces += 1
            if self.echo is not None:
                self.echo.append(data["content"])
        elif type in _OTHER_PIECES:
            self._pieces += 1
        stream = self._stream
        if stream is None:
            return
        try:
            stream.put(type, data, scope)
        except Exception as error:  # noqa: BLE001 (streaming must never change what a node does)
            self._note_lost(type, error)

    def _put(self, stream: NodeSink, type: str, data: dict[str, Any], scope: Scope) -> None:
        try:
            stream.put(type, data, scope)
        except Exception as error:  # noqa: BLE001 (streaming must never change what a node does)
            self._note_lost(type, error)

    def release(self) -> None:
        """Publish all buffered updates, before a node or a tool inside begins."""
        if self._stream is None:
            return
        try:
            self._stream.release()
        except Exception as error:  # noqa: BLE001 (streaming must never change what a node does)
            self._note_lost("token", error)

    def _note_lost(self, type: str, error: Exception) -> None:
        """Count an update that its pipeline could not accept; the hub warns once for each reason and execution."""
        logger.debug("an update of type %r of node %r is lost", type, self.name, exc_info=error)
        self.context.publisher.note_refused(self.context.execution_id, type, error)

    def _identified(self, **data: Any) -> dict[str, Any]:
        return {"node_id": self.scope.node_id, "node_name": self.name, **data}

    def report(self, type: str, **data: Any) -> None:
        """Publish an update about the node itself."""
        self.record(type, self._identified(**data), self.scope)

    def warn_unreadable(self, error: Exception) -> None:
        """Log that an item could not be read."""
        logger.warning("what node %r yielded could not be read: %r", self.name, error, exc_info=error)

    # --- its end ---------------------------------------------------------------------------------------------

    def _end(self, error: BaseException | None = None) -> bool:
        with self._lock:
            ended = self.ended
            self.ended = True
        if not ended and self.run_ids:
            is_paused = error is not None and classify_ending(error) == "interrupted"
            RUNS.cancel_calls_in(self, GraphInterrupt() if is_paused else asyncio.CancelledError())
        return not ended

    def succeed(self, result: object) -> None:
        """Publish that the node returned. A no-op when it has ended already."""
        if self._end():
            self._emit_result(result)
            self._leave_frame()

    def _emit_result(self, result: object) -> None:
        self.record("returned", {"read": functools.partial(self._unpublished, result)}, self.scope)
        self.record("updates", {"read": functools.partial(to_update, result)}, self.scope)
        self.record("messages", {"read": functools.partial(messages_in, result)}, self.scope)
        self.report("node_complete", result=result, duration_s=self._elapsed())

    def fail(self, error: BaseException) -> None:
        """Publish the end of the node that raised. A no-op when it has ended already."""
        if not self._end(error):
            return
        match classify_ending(error):
            case "complete":
                handed = cast("tuple[object, ...]", error.args) if isinstance(error, ParentCommand) else ()
                self._emit_result(handed[0] if handed else None)
            case "interrupted":
                interrupts = get_interrupts(error, self.scope.namespace)
                context, task = self.context, task_name(self.scope.namespace, self.scope.node_id)
                context.publisher.runs.pause(context.execution_id, context.run_id, task, interrupts)
                self.report("node_interrupted", interrupts=interrupts, duration_s=self._elapsed())
            case "cancelled":
                self._report_error(CANCELLED, will_retry=False)
            case "failed":
                failure = describe_failure(error, debug=self.context.publisher.debug)
                retried = will_retry(error, self.graph_namespace) if self.is_graph_node else False
                facts = {} if retried is None else {"will_retry": retried}
                self._report_error(failure, **facts, **self._input_for_debugging())
        self._leave_frame()

    def _report_error(self, error: dict[str, Any], **facts: Any) -> None:
        self.report("node_error", error=error, attempt=self.scope.attempt, **facts, duration_s=self._elapsed())

    def _input_for_debugging(self) -> dict[str, Any]:
        """Return the node's input, redacted like a state and in part if it is large; nothing without ``debug``."""
        publisher = self.context.publisher
        if not publisher.debug or self._state is None:
            return {}
        shown = publisher.redact("state", {"values": self._state})
        if not isinstance(shown, dict):
            return {}
        value, cut = excerpt(cast("dict[str, Any]", shown).get("values"), _MAX_INPUT, "input")
        return {"input": value, **({"truncated": {"input": sum(cut.values())}} if cut else {})}

    def cancel(self) -> None:
        """Publish the end of the node as cancelled. A no-op when it has ended already."""
        self.fail(asyncio.CancelledError())

    def note_message(self, message_id: str, namespace: str | None) -> None:
        """Remember a message whose text is streamed in this namespace."""
        self.message_ids.add(message_id)
        self.context.publisher.runs.note_message(self.context.execution_id, message_id, namespace)

    def _is_published(self, message_id: str) -> bool:
        """Return whether readers have a message: of this try, or of another node in an interrupted earlier one."""
        context = self.context
        return message_id in self.message_ids or context.publisher.runs.is_streamed(
            context.execution_id, message_id, except_in=self.scope.namespace
        )

    def _unpublished(self, result: object, received: int) -> Iterator[tuple[str, dict[str, Any], Scope]]:
        if self.echo is not None:
            return  # it yielded its text
        parts = unpublished_parts(
            result,
            self._state,
            is_known=self._is_published,
            texts=self.texts,
            received=received,
            from_models=self._pieces,
        )
        for kind, data, message_id in parts:
            if message_id is None:
                yield kind, data, self.scope
            else:
                self.note_message(message_id, self.scope.namespace)
                yield kind, data, self.scope.derive(message_id=message_id)

    def _leave_frame(self) -> None:
        state, self._state = self._state, None
        if self.outer is not None:  # a node around this one may return what was written here, or before it was resumed
            self.outer.message_ids.update(self.message_ids, ids_in(state))
            self.outer.texts.update(self.texts)
        self.mark.frame = None
        RUNS.unregister(self.run_ids)
        RUNS.unregister_frame(self)

    def _elapsed(self) -> float:
        return round(time.perf_counter() - self._started, 6)


def task_name(namespace: str | None, node_id: str | None) -> str:
    """Return the name of a piece of work of a run; the same for all its tries."""
    return f"{namespace}\n{node_id}"


def agent_name(metadata: Mapping[str, Any]) -> str | None:
    """Return the name of the agent in which a run of this metadata works."""
    name = metadata.get("lc_agent_name")
    return name if isinstance(name, str) and name else None


def identify(
    name: str, own_id: str | None, metadata: Mapping[str, Any], context: ExecutionContext, place: Place
) -> Identity | None:
    """Return the identity of a node. None for the node that is in force, wrapped twice.

    A node with a checkpoint namespace is a graph's node. If its block or its graph call was made in a node of this
    namespace, it is a function that was called there.

    The namespace distinguishes ``Send`` branches and is the same for every try of a node.
    """
    outer, namespace = place.frame, metadata.get("langgraph_checkpoint_ns")
    number = functools.partial(context.publisher.runs.next_attempt, context.execution_id)
    agent, tool = agent_name(metadata), outer.scope.tool_call_id if outer is not None else place.tool_call_id
    if namespace is not None and namespace != (outer.graph_namespace if outer is not None else place.made_in_namespace):
        node_id = str(metadata.get("langgraph_node") or name)
        attempt = number(task_name(namespace, own_id or node_id))
        scope = Scope(run_id=context.run_id, namespace=namespace, attempt=attempt, agent_type=agent, tool_call_id=tool)
        return Identity(name, node_id, scope, namespace)
    around = node_around(outer)
    if around is not None and around.name == name:
        return None
    # called as a function: each call is a new piece of work, not another try of the one before
    path = name if outer is None else f"{outer.scope.namespace}/{name}"
    scope = Scope(
        run_id=context.run_id, namespace=f"{path}:{number(path)}", attempt=1, agent_type=agent, tool_call_id=tool
    )
    return Identity(name, name, scope, namespace)


def node_around(frame: NodeFrame | None) -> NodeRun | None:
    """Return the node of a frame; None for the frame of a tool call, which is not a node."""
    return frame if isinstance(frame, NodeRun) else None


def open_node(run: Run, place: Place, plan: NodePlan, *, name: str, metadata: Mapping[str, Any], state: object) -> None:
    """Capture the node whose run starts, without a decorator on it. It is in force in the present context."""
    try:
        context = place.context or (place.call.join_run(None) if place.call is not None else None)
        identity = identify(name, plan.node_id, metadata, context, place) if context is not None else None
        if context is None or identity is None:
            return
        frame = NodeRun(plan, context, identity, outer=place.frame, call=run.call, is_own=False)
        frame.begin((state, step_of(metadata)))
    except Exception as error:  # streaming must never change what a node does
        expected = isinstance(error, StreamingError)
        logger.warning("node %r runs without streaming: %s", name, error, exc_info=None if expected else error)
        return
    run.frame = run.node = frame
    frame.mark.stays, frame.mark.caller = True, parent_run_id()
    in_force = frame_var.set(frame.mark)
    if run.context_token is None:
        run.context_token = in_force


_STEP: Final = {"langgraph_step": "step", "langgraph_triggers": "triggers", "langgraph_path": "path"}


def step_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return LangGraph's step, path and triggers of a node's call, from its metadata."""
    return {ours: metadata[theirs] for theirs, ours in _STEP.items() if theirs in metadata}
