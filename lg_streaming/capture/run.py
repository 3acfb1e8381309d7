"""LangChain run: the graph call, node, model or tool that it is or belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from contextvars import Token
    from uuid import UUID

    from lg_streaming.capture.graph_call import GraphCall
    from lg_streaming.capture.model_call import ModelCall
    from lg_streaming.capture.node_frame import CapturedNode, NodeFrame
    from lg_streaming.capture.plan import GraphPlan
    from lg_streaming.capture.tool_call import ToolCall
    from lg_streaming.context import FrameMark

__all__ = ["Run"]


class Run:
    """LangChain run."""

    __slots__ = (
        "_model_handler",
        "_seen",
        "call",
        "capture_graph",
        "children_wrapped",
        "context_token",
        "copies",
        "decorated_nodes",
        "frame",
        "handler",
        "has_own_plan",
        "ids",
        "is_detached",
        "is_graph",
        "is_node",
        "model",
        "namespace",
        "node",
        "on_thread_id",
        "parent",
        "plan",
        "root_call",
        "root_handlers",
        "task",
        "tool",
        "tool_call_id",
        "unwatch",
    )

    task: asyncio.Task[Any] | None
    """Task in which it runs, if it is the run of a node and has one."""
    _model_handler: object

    def __init__(self, handler: object, parent: Run | None, frame: NodeFrame | None, namespace: str | None) -> None:
        self.handler: object = handler
        """Handler that publishes its events; other handlers get the same events."""
        self.root_call: GraphCall | None = None
        """Graph call whose root it is."""
        self.node: CapturedNode | None = None
        """Node that it is, captured without a decorator."""
        self.capture_graph: Callable[[], None] | None = None
        """Function that captures this run's graph as a node, called when all handlers have its start."""
        self.on_thread_id: Callable[[object], None] | None = None
        """Function that takes LangGraph's thread, which is certain only when the graph's loop starts."""
        self.unwatch: Callable[[], None] | None = None
        """Function that stops watching the task that started it, called once LangChain is sure to report its end."""
        self.parent: Run | None = parent
        """Run in which it was started, if that is registered."""
        self.is_detached: bool = parent is not None and parent.is_detached
        """True if its config names an unknown node: it belongs to no run around it."""
        self.tool: ToolCall | None = None
        """Tool call that it is."""
        self.tool_call_id: str | None = parent.tool_call_id if parent is not None else None
        """Id of the tool call that it is, or is inside of."""
        self.copies: int = 0
        """Number of further times that the handler is attached."""
        self.task = self._model_handler = None
        self._seen = 0
        self.context_token: Token[FrameMark | None] | None = None
        """Token that resets the context variable of frames, which the run has set."""
        self.model: ModelCall | None = None
        """Model call that it is."""
        self.call: GraphCall | None = parent.call if parent is not None else frame.call if frame is not None else None
        """Graph call that it is part of."""
        self.frame: NodeFrame | None = frame
        """Captured node or tool that it is part of."""
        self.namespace: str | None = namespace
        """LangGraph's checkpoint namespace."""
        self.is_node: bool = parent is not None and namespace is not None and namespace != parent.namespace
        """True if it is the run of a node of a graph."""
        self.is_graph: bool = False
        """True if it is the run of a graph, in which each node has a separate namespace."""
        self.plan: GraphPlan | None = parent.plan if parent is not None else None
        """Plan for the nodes below it; with None only decorated nodes are captured."""
        self.has_own_plan: bool = False
        """True if the plan begins with this run, that of a decorated graph."""
        self.children_wrapped: bool = False
        """True if the nodes right below it capture themselves, as those of a decorated graph do."""
        self.decorated_nodes: frozenset[str] = frozenset()
        """Names of the nodes right below it that are decorated themselves, and keep their own options."""
        self.root_handlers: tuple[object, ...] = parent.root_handlers if parent is not None else ()
        """Handlers for whose graph this run, or one above it, is the root."""
        self.ids: set[UUID] = frame.run_ids if frame is not None else parent.ids if parent is not None else set()
        """Ids of all runs that are unregistered with its frame, or without a frame with its root."""

    @property
    def is_outermost(self) -> bool:
        """True if no frame and no run is around it: then its end unregisters all runs inside it.

        Handlers that take no tokens get the starts of models, and not their ends.
        """
        return self.parent is None and self.frame is None

    def note_duplicate(self, handler: object) -> None:
        """Count a handler that is attached several times: it gets every event as often."""
        self.copies += handler is self.handler

    def stop_watching(self) -> None:
        """Stop watching its task: it has progressed, so that LangChain will report its end."""
        unwatch, self.unwatch = self.unwatch, None
        if unwatch is not None:
            unwatch()

    def claim_model(self, handler: object) -> bool:
        """Return whether ``handler`` publishes this model call; the first handler that asks does."""
        if self._model_handler is None:
            self._model_handler = handler
            self.handler = handler
            self.copies = 0
            return True
        return False

    def is_published_by(self, handler: object) -> bool:
        """Return whether ``handler`` publishes the event that it gets, so that each event is published once."""
        if handler is not self.handler:
            return False
        if not self.copies:
            return True
        self._seen = (self._seen + 1) % (self.copies + 1)
        return self._seen == 1
