"""One try of a decorated node: which execution it belongs to, who it is, and how it came out."""

from __future__ import annotations

import asyncio
import functools
import logging
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand

from lg_streaming.capture.graph import RunTracker, binding_of, tracker_var
from lg_streaming.capture.idle import keep_idle_clock
from lg_streaming.capture.result import messages_of, update_of
from lg_streaming.capture.tap import TAP, listening_var, tap_var
from lg_streaming.emitter import Emitter, emitter_var
from lg_streaming.errors import StreamingError, describe_error
from lg_streaming.scope import Scope, execution_var

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from contextvars import Token
    from uuid import UUID

    from langchain_core.runnables import RunnableConfig

    from lg_streaming.scope import Binding

__all__ = ["NodePlan", "NodeRun", "NodeStream", "enter_node"]

logger: logging.Logger = logging.getLogger(__name__)


class NodeStream(Protocol):
    """What is made of what a node does; one for each try of a node."""

    def take(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """One thing that happened in the node, from its ``node_start`` to what ended it.

        What is seldom asked for comes as something to ask: of ``values`` the data is ``{state}``, of ``updates`` and
        ``messages`` ``{read}``, a function that gives them.
        """
        ...

    def activate(self) -> Callable[[], None]:
        """Sets the stream's own context variables; returns what takes that back, called in the same context."""
        ...


class NodePlan(Protocol):
    """What a decorated node asks for."""

    @property
    def node_id(self) -> str | None:
        """The node's id; None for its name in the graph, or the function's name."""
        ...

    @property
    def listens(self) -> bool:
        """Whether it wants to hear the models and tools inside the node, which makes models stream."""
        ...

    @property
    def enabled(self) -> bool:
        """Whether it wants anything at all."""
        ...

    def open(self, emitter: Emitter) -> NodeStream:
        """Starts the stream of one try of the node."""
        ...


class Identity(NamedTuple):
    """Who a node is."""

    name: str
    scope: Scope
    graph_namespace: str | None
    """LangGraph's own name for this piece of work; the scope's namespace also tells calls inside it apart."""


class NodeRun:
    """One try of a decorated node."""

    __slots__ = (
        "_listens",
        "_started",
        "_stream",
        "binding",
        "block",
        "config",
        "echo",
        "emitter",
        "ended",
        "graph_namespace",
        "message_ids",
        "name",
        "run_ids",
        "scope",
    )

    def __init__(
        self,
        plan: NodePlan,
        binding: Binding,
        identity: Identity,
        *,
        block: Binding | None,
        config: RunnableConfig | None,
    ) -> None:
        self.binding: Binding = binding
        self.block: Binding | None = block
        """The ``execution(...)`` block that was in force when the node was entered."""
        self.name: str = identity.name
        self.scope = scope = identity.scope
        self.graph_namespace: str | None = identity.graph_namespace
        self.run_ids: set[UUID] = set()
        self.message_ids: set[str] = set()
        self.emitter: Emitter = Emitter(binding.publisher, binding.execution_id, scope, strict=False)
        self.emitter.through(heard=self.message_ids)
        self._stream = plan.open(self.emitter)
        self._listens = plan.listens
        self.config: RunnableConfig | None = self._config_inside(config)
        """What the node's own calls get as their config; None where the node has none."""
        self.echo: list[str] | None = None
        """What models said since the node yielded last; None in a node that does not yield."""
        self.ended: bool = False
        self._started = time.perf_counter()

    def _config_inside(self, config: RunnableConfig | None) -> RunnableConfig | None:
        """``config`` with the tap, and without trackers: they have done their work, and each costs every token."""
        callbacks = config.get("callbacks") if config is not None else None
        if config is None or not isinstance(callbacks, BaseCallbackManager):
            return None
        manager = callbacks.copy()
        manager.handlers = [each for each in manager.handlers if not isinstance(each, RunTracker)]
        manager.inheritable_handlers = [
            each for each in manager.inheritable_handlers if not isinstance(each, RunTracker)
        ]
        if self._listens:
            if TAP not in manager.handlers:
                manager.add_handler(TAP, inherit=True)
            keep_idle_clock(manager, TAP)
            if manager.parent_run_id is not None:
                TAP.adopt(manager.parent_run_id, self)
        return {**config, "callbacks": manager}

    def hear(self, type: str, data: dict[str, Any], scope: Scope) -> None:
        """Gives the stream one thing that happened. Never raises."""
        if self.echo is not None and type == "token":
            self.echo.append(data["content"])
        try:
            self._stream.take(type, data, scope)
        except Exception:
            logger.exception("an update of type %r of node %r is lost", type, self.name)

    def report(self, type: str, **data: Any) -> None:
        """Says something about the node itself."""
        self.hear(type, {"node_id": self.scope.node_id, "node_name": self.name, **data}, self.scope)

    def start(self, arguments: Sequence[object], step: Mapping[str, Any]) -> None:
        """The node begins, called with ``arguments``; ``step`` says why the graph calls it."""
        self.report("node_start", attempt=self.scope.attempt)
        if step:
            self.report("debug", **step)
        if arguments:
            self.hear("values", {"state": arguments[-1]}, self.scope)

    def odd(self, error: Exception) -> None:
        """Something could not be read."""
        logger.warning("what node %r yielded could not be read: %r", self.name, error, exc_info=error)

    def succeed(self, result: object) -> None:
        """The node returned. A no-op when it has ended already."""
        if self.ended:
            return
        self.ended = True
        self._say_result(result)
        TAP.forget(self)

    def _say_result(self, result: object) -> None:
        self.hear("updates", {"read": functools.partial(update_of, result)}, self.scope)
        self.hear("messages", {"read": functools.partial(messages_of, result)}, self.scope)
        self.report("node_complete", result=result, duration_s=self._elapsed())

    def fail(self, error: BaseException) -> None:
        """The node raised: sorts out what that means. A no-op when it has ended already."""
        if self.ended:
            return
        self.ended = True
        match error:
            case ParentCommand():
                self._say_result(cast("object", error.args[0]) if error.args else None)
            case GraphInterrupt():
                self.binding.publisher.pause(
                    self.binding.execution_id, self.binding.run_id, _task(self.scope.namespace, self.scope.node_id)
                )
                self.report("node_interrupted", interrupts=_interrupts(error), duration_s=self._elapsed())
            case asyncio.CancelledError() | GeneratorExit() | KeyboardInterrupt() | GraphBubbleUp():
                self.report(
                    "node_error", error={"message": "cancelled", "code": "cancelled"}, duration_s=self._elapsed()
                )
            case _:
                described = describe_error(error, debug=self.binding.publisher.debug)
                self.report("node_error", error=described, duration_s=self._elapsed())
        TAP.forget(self)

    def _elapsed(self) -> float:
        return round(time.perf_counter() - self._started, 6)

    def activate(self) -> Callable[[], None]:
        """Puts the node in force in the present context; returns what takes that back."""
        run: Token[NodeRun | None] = _run_var.set(self)
        listening = listening_var.set(self)
        tap = tap_var.set(TAP if self._listens else None)
        tracker = tracker_var.set(None)
        config = var_child_runnable_config.set(self.config) if self.config is not None else None
        emitter = emitter_var.set(self.emitter)
        undo_stream = self._stream.activate()
        trace = self.binding.publisher.trace
        undo_trace = trace.enter(self.scope) if trace is not None else None

        def undo() -> None:
            if undo_trace is not None:
                undo_trace()
            undo_stream()
            emitter_var.reset(emitter)
            if config is not None:
                var_child_runnable_config.reset(config)
            tracker_var.reset(tracker)
            tap_var.reset(tap)
            listening_var.reset(listening)
            _run_var.reset(run)

        return undo


_run_var: ContextVar[NodeRun | None] = ContextVar("lg_streaming_node", default=None)


def _interrupts(error: GraphInterrupt) -> list[dict[str, Any]]:
    interrupts = error.args[0] if error.args else ()
    return [{"id": getattr(each, "id", None), "value": getattr(each, "value", None)} for each in interrupts]


def _task(namespace: str | None, node_id: str | None) -> str:
    return f"{namespace}\n{node_id}"


_STEP: Final = {"langgraph_step": "step", "langgraph_triggers": "triggers", "langgraph_path": "path"}


def _step(config: RunnableConfig | None) -> dict[str, Any]:
    metadata: dict[str, Any] = (config.get("metadata") if config is not None else None) or {}
    return {ours: metadata[theirs] for theirs, ours in _STEP.items() if theirs in metadata}


def enter_node(
    plan: NodePlan, name: str, config: RunnableConfig | None, arguments: Sequence[object] = ()
) -> NodeRun | None:
    """A run of the node, started; None when nobody listens or streaming cannot."""
    try:
        if not plan.enabled:
            return None
        config = config or var_child_runnable_config.get()
        outer, block = _run_var.get(), execution_var.get()
        inside = outer is not None and outer.block is block  # else a block was opened inside the outer node
        binding = outer.binding if outer is not None and inside else block or binding_of(config)
        identity = _identify(plan, name, config, binding, outer) if binding is not None else None
        if binding is None or identity is None:
            return None
        run = NodeRun(plan, binding, identity, block=block, config=config)
        run.start(arguments, _step(config))
    except StreamingError as error:
        logger.warning("node %r runs without streaming: %s", name, error)
        return None
    except Exception as error:  # streaming must never change what a node does
        logger.warning("node %r runs without streaming: %s", name, error, exc_info=error)
        return None
    return run


def _identify(
    plan: NodePlan, name: str, config: RunnableConfig | None, binding: Binding, outer: NodeRun | None
) -> Identity | None:
    """Who the node is. None for the node that is in force, wrapped twice.

    The namespace tells ``Send`` branches apart and is the same for every try of a node.
    """
    metadata: dict[str, Any] = (config.get("metadata") if config is not None else None) or {}
    graph_namespace: str | None = metadata.get("langgraph_checkpoint_ns")
    number = functools.partial(binding.publisher.next_attempt, binding.execution_id)
    if graph_namespace is not None and (outer is None or outer.graph_namespace != graph_namespace):
        node_id = plan.node_id or metadata.get("langgraph_node") or name
        attempt = number(_task(graph_namespace, node_id))
        scope = Scope(run_id=binding.run_id, node_id=node_id, namespace=graph_namespace, attempt=attempt)
        return Identity(name, scope, graph_namespace)
    if outer is not None and outer.name == name:
        return None
    # called as a function: each call is a piece of work of its own, not another try of the one before
    namespace = name if outer is None else f"{outer.scope.namespace}/{name}"
    call = number(namespace)
    scope = Scope(run_id=binding.run_id, node_id=plan.node_id or name, namespace=f"{namespace}:{call}", attempt=1)
    return Identity(name, scope, graph_namespace)
