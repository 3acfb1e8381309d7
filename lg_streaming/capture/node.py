"""One try of a captured node, and one call of a tool inside it: who it is, what happens in it, how it came out."""

from __future__ import annotations

import functools
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from langgraph.errors import ParentCommand

from lg_streaming.capture.outcome import ending_of, interrupts_of
from lg_streaming.capture.result import messages_of, update_of
from lg_streaming.capture.runs import RUNS
from lg_streaming.emitter import NO_EMITTER, Emitter
from lg_streaming.errors import StreamingError, describe_error
from lg_streaming.scope import FrameMark, Scope, current_block, frame_var

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

    from lg_streaming.capture.calls import GraphCall
    from lg_streaming.capture.plan import NodePlan, NodeStream
    from lg_streaming.capture.runs import Place, Run
    from lg_streaming.scope import Binding, Block

__all__ = ["Identity", "NodeFrame", "NodeRun", "ToolRun", "agent_of", "identify", "open_node", "step_of", "task_of"]

logger = logging.getLogger(__name__)

CANCELLED: Final = {"message": "cancelled", "code": "cancelled"}

_PATIENCE: Final = 0.01
"""Seconds until the start of a node is published whose function may still turn out to be decorated itself."""


class NodeFrame(Protocol):
    """A captured node or a tool call in it: where what happens inside goes."""

    @property
    def binding(self) -> Binding:
        """The execution."""
        ...

    @property
    def scope(self) -> Scope:
        """What its updates are about."""
        ...

    @property
    def outer(self) -> NodeFrame | None:
        """The frame around it in the same execution."""
        ...

    @property
    def block(self) -> Block | None:
        """The execution block in which it was entered."""
        ...

    @property
    def call(self) -> GraphCall | None:
        """The graph call that it is part of."""
        ...

    @property
    def ended(self) -> bool:
        """Whether it has returned or raised."""
        ...

    @property
    def mark(self) -> FrameMark:
        """What stands for it in contexts."""
        ...

    @property
    def emitter(self) -> Emitter:
        """Writes updates about it."""
        ...

    @property
    def progress(self) -> Any:
        """Reports its progress."""
        ...

    @property
    def listens(self) -> bool:
        """Whether models inside it are made to stream."""
        ...

    @property
    def graph_namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of the node."""
        ...

    @property
    def run_ids(self) -> set[UUID]:
        """The LangChain runs inside it; forgotten when it ends."""
        ...

    @property
    def message_ids(self) -> set[str]:
        """The messages that models inside it wrote."""
        ...

    def hear(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Takes one thing that happened. Never raises."""
        ...

    def release(self) -> None:
        """Publishes what is held: something inside begins."""
        ...


class Identity(NamedTuple):
    """Who a node is."""

    name: str
    node_id: str
    scope: Scope
    """Without the node's id, which its options may replace."""
    graph_namespace: str | None
    """LangGraph's own name for this piece of work; the scope's namespace also tells calls inside it apart."""


class NodeRun:
    """One try of a captured node.

    It begins at once where the node is decorated. One that a graph's options cover begins a moment later: until then
    its function may turn out to be decorated itself, with options of its own.
    """

    __slots__ = (
        "_begun",
        "_cancel_timer",
        "_emitter",
        "_identity",
        "_lock",
        "_plan",
        "_start",
        "_started",
        "_stream",
        "binding",
        "block",
        "call",
        "config",
        "echo",
        "ended",
        "graph_namespace",
        "mark",
        "message_ids",
        "name",
        "outer",
        "run_ids",
        "scope",
    )

    def __init__(
        self,
        plan: NodePlan,
        binding: Binding,
        identity: Identity,
        *,
        outer: NodeFrame | None,
        call: GraphCall | None,
        start: tuple[object, Mapping[str, Any]] | None = None,
    ) -> None:
        self.binding = binding
        self.block = current_block()
        self.outer = outer
        self.mark = FrameMark(self, outer.mark if outer is not None else None)
        self.call = call
        self.name = identity.name
        self.scope = identity.scope.derive(node_id=plan.node_id or identity.node_id)
        self.graph_namespace = identity.graph_namespace
        self.run_ids: set[UUID] = set()
        self.message_ids: set[str] = set()
        self.config: RunnableConfig | None = None
        """What the node's own calls get as their config; None where the node has none."""
        self.echo: list[str] | None = None
        """What models said since the node yielded last; None in a node that does not yield."""
        self.ended = False
        self._plan = plan
        self._identity = identity
        self._start = start
        """The node's input and why the graph calls it."""
        self._started = time.perf_counter()
        self._lock = threading.Lock()
        self._begun = False
        self._stream: NodeStream | None = None
        self._emitter: Emitter | None = None
        self._cancel_timer: Callable[[], None] | None = None

    # --- its beginning ---------------------------------------------------------------------------------------

    @property
    def pending(self) -> bool:
        """Whether its start was not published yet, so that it can take other options."""
        return not self._begun and not self.ended

    @property
    def listens(self) -> bool:
        """Whether models inside it are made to stream."""
        return self._plan.listens

    @property
    def is_graph_node(self) -> bool:
        """Whether LangGraph runs it as a node, and not another node calls it as a function."""
        return self.graph_namespace is not None and self.graph_namespace == self.scope.namespace

    def wait_for_options(self) -> None:
        """Begins in a moment, unless something happens in the node before."""
        self._cancel_timer = self._plan.later(_PATIENCE, self._begin_late)

    def _begin_late(self) -> None:
        if not self.ended:
            self._open()

    def adopt(self, plan: NodePlan) -> bool:
        """Takes a decorator's options in place of the graph's; returns whether it was early enough."""
        with self._lock:
            if self._begun or self.ended:
                return False
            self._plan = plan
            self.scope = self._identity.scope.derive(node_id=plan.node_id or self._identity.node_id)
        self.begin()
        return True

    def discard(self) -> bool:
        """Ends without a word: the node's own decorator is off. Returns whether it was early enough."""
        with self._lock:
            if self._begun or self.ended:
                return False
            self._begun = self.ended = True
        self._forget()
        return True

    def _open(self) -> NodeStream | None:
        """The node's stream; None where it was discarded, or could not begin."""
        if not self._begun:
            try:
                self.begin()
            except Exception as error:
                logger.warning("node %r runs without streaming: %s", self.name, error, exc_info=error)
        return self._stream

    def begin(self) -> None:
        """Publishes the start, once; what the node around it holds leaves before. Raises what its options raise."""
        with self._lock:
            if self._begun:
                return
            self._begun = True
            self._emitter = Emitter(self.binding.publisher, self.binding.execution_id, self.scope, strict=False)
            self._emitter.through(heard=self.message_ids)
            self._stream = self._plan.open(self._emitter)
            if self._cancel_timer is not None:
                self._cancel_timer()
            if self.outer is not None:
                self.outer.release()
            if self.call is not None:
                self.call.captured += 1
            self._report_start(self._stream)

    def _report_start(self, stream: NodeStream) -> None:
        state, step = self._start or (None, {})
        self._take(stream, "node_start", self._about(attempt=self.scope.attempt), self.scope)
        if step:
            self._take(stream, "debug", self._about(**step), self.scope)
        if self._start is not None:
            self._take(stream, "values", {"state": state}, self.scope)
        self._start = None

    @property
    def emitter(self) -> Emitter:
        """Writes updates about it."""
        return self._emitter if self._open() is not None and self._emitter is not None else NO_EMITTER

    @property
    def progress(self) -> Any:
        """Reports its progress; None where it could not begin."""
        stream = self._open()
        return stream.progress if stream is not None else None

    # --- what happens in it ----------------------------------------------------------------------------------

    def hear(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Gives the stream one thing that happened. Never raises."""
        if self.echo is not None and type == "token":
            self.echo.append(data["content"])
        stream = self._stream
        if stream is None:
            stream = self._open()
            if stream is None:
                return
        try:  # as `_take` does, without another call at every token
            stream.take(type, data, scope)
        except Exception:
            logger.exception("an update of type %r of node %r is lost", type, self.name)

    def _take(self, stream: NodeStream, type: str, data: dict[str, Any], scope: Scope) -> None:
        try:
            stream.take(type, data, scope)
        except Exception:
            logger.exception("an update of type %r of node %r is lost", type, self.name)

    def release(self) -> None:
        """Publishes what is held: something inside begins."""
        stream = self._stream or self._open()
        if stream is None:
            return
        try:
            stream.release()
        except Exception:
            logger.exception("what node %r holds is lost", self.name)

    def _about(self, **data: Any) -> dict[str, Any]:
        return {"node_id": self.scope.node_id, "node_name": self.name, **data}

    def report(self, type: str, **data: Any) -> None:
        """Publishes something about the node itself."""
        self.hear(type, self._about(**data), self.scope)

    def odd(self, error: Exception) -> None:
        """Logs that something could not be read."""
        logger.warning("what node %r yielded could not be read: %r", self.name, error, exc_info=error)

    # --- its end ---------------------------------------------------------------------------------------------

    def _end(self) -> bool:
        with self._lock:
            ended, self.ended = self.ended, True
        return not ended

    def succeed(self, result: object) -> None:
        """Publishes that the node returned. A no-op when it has ended already."""
        if self._end():
            self._report_result(result)
            self._forget()

    def _report_result(self, result: object) -> None:
        self.hear("updates", {"read": functools.partial(update_of, result)}, self.scope)
        self.hear("messages", {"read": functools.partial(messages_of, result)}, self.scope)
        self.report("node_complete", result=result, duration_s=self._elapsed())

    def fail(self, error: BaseException) -> None:
        """Publishes how the node ended that raised. A no-op when it has ended already."""
        if not self._end():
            return
        match ending_of(error):
            case "complete":
                handed = cast("tuple[object, ...]", error.args) if isinstance(error, ParentCommand) else ()
                self._report_result(handed[0] if handed else None)
            case "interrupted":
                interrupts = interrupts_of(error, self.scope.namespace)
                binding, task = self.binding, task_of(self.scope.namespace, self.scope.node_id)
                binding.publisher.pause(binding.execution_id, binding.run_id, task, interrupts)
                self.report("node_interrupted", interrupts=interrupts, duration_s=self._elapsed())
            case "cancelled":
                self.report("node_error", error=CANCELLED, duration_s=self._elapsed())
            case "failed":
                described = describe_error(error, debug=self.binding.publisher.debug)
                self.report("node_error", error=described, duration_s=self._elapsed())
        self._forget()

    def _forget(self) -> None:
        if self._cancel_timer is not None:
            self._cancel_timer()
        self.mark.frame = None
        RUNS.forget(self.run_ids)

    def _elapsed(self) -> float:
        return round(time.perf_counter() - self._started, 6)


class ToolRun:
    """One call of a tool in a captured node: what happens in it carries the call's id."""

    __slots__ = ("_emitter", "ended", "mark", "outer", "run_ids", "scope")

    def __init__(self, outer: NodeFrame, scope: Scope) -> None:
        self.outer = outer
        self.mark = FrameMark(self, outer.mark)
        self.scope = scope
        self.run_ids: set[UUID] = set()
        self.ended = False
        self._emitter: Emitter | None = None

    @property
    def binding(self) -> Binding:
        """The execution."""
        return self.outer.binding

    @property
    def block(self) -> Block | None:
        """The execution block in which the node was entered."""
        return self.outer.block

    @property
    def call(self) -> GraphCall | None:
        """The graph call that it is part of."""
        return self.outer.call

    @property
    def listens(self) -> bool:
        """Whether models inside it are made to stream."""
        return self.outer.listens

    @property
    def graph_namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of the node."""
        return self.outer.graph_namespace

    @property
    def message_ids(self) -> set[str]:
        """The messages that models inside the node wrote."""
        return self.outer.message_ids

    @property
    def progress(self) -> Any:
        """Reports the node's progress."""
        return self.outer.progress

    @property
    def emitter(self) -> Emitter:
        """Writes updates about the tool call."""
        if self._emitter is None:
            self._emitter = self.outer.emitter.scoped(tool_call_id=self.scope.tool_call_id)
        return self._emitter

    def hear(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Takes one thing that happened. Never raises."""
        self.outer.hear(type, data, scope)

    def release(self) -> None:
        """Publishes what the node holds: something inside begins."""
        self.outer.release()

    def end(self) -> None:
        """Ends the call."""
        self.ended = True
        self.mark.frame = None
        RUNS.forget(self.run_ids)


def task_of(namespace: str | None, node_id: str | None) -> str:
    """Names a piece of work of a run; the same for all its tries."""
    return f"{namespace}\n{node_id}"


def agent_of(metadata: Mapping[str, Any]) -> str | None:
    """The name of the agent in which a run of this metadata works."""
    name = metadata.get("lc_agent_name")
    return name if isinstance(name, str) and name else None


def identify(
    name: str, own_id: str | None, metadata: Mapping[str, Any], binding: Binding, outer: NodeFrame | None
) -> Identity | None:
    """Who a node is. None for the node that is in force, wrapped twice.

    The namespace tells ``Send`` branches apart and is the same for every try of a node.
    """
    namespace: str | None = metadata.get("langgraph_checkpoint_ns")
    number = functools.partial(binding.publisher.next_attempt, binding.execution_id)
    agent, tool = agent_of(metadata), outer.scope.tool_call_id if outer is not None else None
    if namespace is not None and (outer is None or outer.graph_namespace != namespace):
        node_id = str(metadata.get("langgraph_node") or name)
        attempt = number(task_of(namespace, own_id or node_id))
        scope = Scope(run_id=binding.run_id, namespace=namespace, attempt=attempt, agent_type=agent, tool_call_id=tool)
        return Identity(name, node_id, scope, namespace)
    around = node_around(outer)
    if around is not None and around.name == name:
        return None
    # called as a function: each call is a piece of work of its own, not another try of the one before
    path = name if outer is None else f"{outer.scope.namespace}/{name}"
    scope = Scope(
        run_id=binding.run_id, namespace=f"{path}:{number(path)}", attempt=1, agent_type=agent, tool_call_id=tool
    )
    return Identity(name, name, scope, namespace)


def node_around(frame: NodeFrame | None) -> NodeRun | None:
    """The innermost node of a frame; None where a tool call lies between, so that its name means nothing."""
    return frame if isinstance(frame, NodeRun) else None


def open_node(run: Run, place: Place, plan: NodePlan, *, name: str, metadata: Mapping[str, Any], state: object) -> None:
    """Captures the node whose run starts, without a decorator on it. The node is in force in the present context."""
    try:
        binding = place.binding or (place.call.enter(None) if place.call is not None else None)
        identity = identify(name, plan.node_id, metadata, binding, place.frame) if binding is not None else None
        if binding is None or identity is None:
            return
        frame = NodeRun(plan, binding, identity, outer=place.frame, call=run.call, start=(state, step_of(metadata)))
    except StreamingError as error:
        logger.warning("node %r runs without streaming: %s", name, error)
        return
    run.frame = run.opened = frame
    frame_var.set(frame.mark)
    frame.wait_for_options()


_STEP: Final = {"langgraph_step": "step", "langgraph_triggers": "triggers", "langgraph_path": "path"}


def step_of(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Why the graph calls a node."""
    return {ours: metadata[theirs] for theirs, ours in _STEP.items() if theirs in metadata}
