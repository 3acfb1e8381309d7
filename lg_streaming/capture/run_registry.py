"""Registry of LangChain runs: find the graph call, node or tool that each belongs to.

A run is registered by its id from its start to its end. A call, a model or a tool belongs to the run in which it was
started. If that run is not registered, the context decides.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config

from lg_streaming.publisher import (
    NO_FRAME,
    Block,
    ExecutionContext,
    Frame,
    Position,
    current_block,
    current_frame,
    find_positions_with,
    frame_var,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextvars import Token
    from uuid import UUID

    from lg_streaming.capture.graph_call import GraphCall
    from lg_streaming.capture.model_call import ModelCall
    from lg_streaming.capture.node import NodeRun
    from lg_streaming.capture.node_frame import NodeFrame
    from lg_streaming.capture.plan import GraphPlan
    from lg_streaming.capture.run_follower import ToolCall
    from lg_streaming.publisher import FrameMark

__all__ = ["RUNS", "Place", "Run", "RunRegistry", "parent_run_id", "surrounding_namespace"]


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
        "tool",
        "tool_call_id",
        "unwatch",
    )

    def __init__(self, handler: object, parent: Run | None, frame: NodeFrame | None, namespace: str | None) -> None:
        self.handler: object = handler
        """Handler that publishes its events; other handlers get the same events."""
        self.root_call: GraphCall | None = None
        """Graph call whose root it is."""
        self.node: NodeRun | None = None
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
        self._seen = 0
        self._model_handler: object = None
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


class Place(NamedTuple):
    """Innermost frame, block or graph call that a call belongs to."""

    frame: NodeFrame | None = None
    block: Block | None = None
    call: GraphCall | None = None
    tool_call_id: str | None = None
    """Tool call in which it is made, if the node that calls the tool is not captured."""

    @property
    def binding(self) -> ExecutionContext | None:
        """Execution of the frame, the block, or the graph call if that has joined one."""
        if self.frame is not None:
            return self.frame.binding
        if self.block is not None:
            return self.block.binding
        return self.call.binding if self.call is not None else None

    @property
    def made_in_namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of the node in which the block or the graph call was made."""
        made = self.block or self.call
        return made.namespace if made is not None else None


class RunRegistry:
    """Registry of runs by id, and of the nodes among them by namespace."""

    def __init__(self) -> None:
        self._runs: dict[UUID, Run] = {}
        self.find: Callable[[UUID], Run | None] = self._runs.get
        """Return the run of an id, with one call per token; None if it is unknown or has ended."""
        self._nodes: dict[str, Run] = {}
        """Runs of nodes, by namespace."""
        self._frames: dict[str, list[NodeRun]] = {}
        """Running captured nodes of graphs, by namespace."""

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: UUID | None) -> Run | None:
        """Return the run of this id; None if it is unknown or has ended."""
        return self._runs.get(run_id) if run_id is not None else None

    def start(
        self,
        handler: object,
        run_id: UUID,
        parent_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        *,
        root: bool = False,
    ) -> tuple[Run, bool]:
        """Return the run of this id, and True if it is new: several handlers may get the start of one run.

        A run that belongs to nothing is registered only as a `root`, of which a handler makes a graph call.
        """
        run = self._runs.get(run_id)
        if run is not None:
            run.note_duplicate(handler)
            return run, False
        namespace = metadata.get("langgraph_checkpoint_ns") if metadata else None
        parent, foreign = self._parent(parent_id, namespace)
        run = Run(handler, parent, None if foreign else self.frame_of_run(parent), namespace)
        run.is_detached = run.is_detached or foreign
        if parent is not None:
            parent.stop_watching()
        if run.frame is not None or parent is not None or root:
            self._register(run_id, run)
        return run, True

    def _parent(self, parent_id: UUID | None, namespace: str | None) -> tuple[Run | None, bool]:
        """Return the run in which a run was started, and True if its config names an unknown node.

        A graph that LangGraph calls in a worker has two configs, that of the worker's context and that of the call.
        LangGraph takes the parent's id from the context, and the namespace from the call. The call's decides.
        """
        parent = self.get(parent_id)
        frame = _context_frame() if parent is None else None
        around = parent.namespace if parent is not None else frame.graph_namespace if frame is not None else None
        if namespace is None or namespace == around or (parent is not None and parent.is_graph):
            return parent, False
        named = self._nodes.get(namespace)
        if around is None:
            return named or parent, False
        return (named, False) if named is not None else (parent, not namespace.startswith(f"{around}|"))

    def _register(self, run_id: UUID, run: Run) -> None:
        self._runs[run_id] = run
        run.ids.add(run_id)
        if run.is_node and run.namespace is not None:
            self._nodes[run.namespace] = run

    def register(self, handler: object, run_id: UUID, frame: NodeFrame, namespace: str | None) -> None:
        """Register the run of a node, so that calls in the run belong to the node even without a context."""
        run = self._runs.get(run_id)
        if run is None:
            run = Run(handler, None, frame, namespace)
            self._register(run_id, run)
        else:
            run.handler, run.frame = handler, frame

    def end(self, run_id: UUID) -> Run | None:
        """Unregister a run, and return it."""
        run = self._remove(run_id)
        if run is not None:
            run.ids.discard(run_id)
            run.stop_watching()
        return run

    def _remove(self, run_id: UUID) -> Run | None:
        run = self._runs.pop(run_id, None)
        if run is not None and run.namespace is not None and self._nodes.get(run.namespace) is run:
            del self._nodes[run.namespace]
        return run

    def unregister(self, ids: set[UUID]) -> None:
        """Unregister runs whose end was not reported."""
        for run_id in list(ids):
            self._remove(run_id)
        ids.clear()

    def register_frame(self, frame: NodeRun) -> None:
        """Register a running captured node of a graph."""
        if frame.is_graph_node and frame.graph_namespace is not None:
            self._frames.setdefault(frame.graph_namespace, []).append(frame)

    def unregister_frame(self, frame: NodeRun) -> None:
        """Unregister a captured node."""
        namespace = frame.graph_namespace
        found = self._frames.get(namespace) if namespace is not None else None
        if found is None or namespace is None:
            return
        if frame in found:
            found.remove(frame)
        if not found:
            self._frames.pop(namespace, None)

    def end_node(self, namespace: str, error: BaseException) -> None:
        """End the captured nodes of a namespace for which LangGraph no longer waits, and the calls in them."""
        for frame in list(self._frames.get(namespace, ())):
            self._cancel_in(frame)
            frame.fail(error)

    def cancel_calls_in(self, frame: NodeRun, tools_with: BaseException) -> None:
        """End the tools and models that a node has left running, before the node's end is published."""
        left = [self._runs.get(run_id) for run_id in list(frame.run_ids)]
        if any(run is not None and (run.tool is not None or run.model is not None) for run in left):
            self._cancel_in(frame, tools_with)

    def _cancel_in(self, frame: NodeRun, tools_with: BaseException | None = None) -> None:
        for run_id, run in reversed(list(self._runs.items())):
            if run.frame is not None and _is_at_or_in(run.frame, frame):
                self._cancel(run_id, run, frame, tools_with)

    def _cancel(self, run_id: UUID, run: Run, node: NodeRun, tools_with: BaseException | None) -> None:
        stopped = asyncio.CancelledError()
        frame: Any = run.frame
        inner = run.model or run.tool
        if inner is not None:
            if self.end(run_id) is run:  # it may end at this moment in its own thread
                inner.fail(tools_with if tools_with is not None and run.tool is not None else stopped)
        elif run.is_node and frame is not node:
            frame.fail(stopped)
            self.end(run_id)

    def frame_of_run(self, run: Run | None) -> NodeFrame | None:
        """Return the node or tool that a call in `run` belongs to; None if there is neither."""
        place = self.place_of_run(run)
        return place.frame if place is not None else None

    def place_of_call(self, parent_id: UUID | None) -> Place | None:
        """Return the place of a call that was started in the run of this id.

        The run decides first: the call's config names it. Then the inner one of the context's block and node decides,
        and last the activated module, which gets every graph call.
        """
        return self.place_of_run(self.get(parent_id))

    def place_of_run(self, run: Run | None) -> Place | None:
        """Return the place of a call in ``run``."""
        if run is not None and run.is_detached:
            return None
        frame, block = _context_frame(), current_block()
        if run is not None and (run.frame is not None or (run.call is not None and run.call.explicit)):
            inner = frame if frame is not None and _was_entered_in(frame, run) else _unless_ended(run.frame)
            if block is not None and _block_is_in(block, run, inner) and not _is_same_execution(block, inner):
                return Place(block=block)
            return Place(frame=inner) if inner is not None else Place(call=run.call, tool_call_id=run.tool_call_id)
        if block is not None and (frame is None or frame.block is not block) and not _is_same_execution(block, frame):
            is_around = run is not None and run.call is not None and run.call.block is block
            return Place(block=block, tool_call_id=run.tool_call_id if run is not None and is_around else None)
        if frame is not None or run is None or run.call is None:
            return Place(frame=frame) if frame is not None else None
        return Place(call=run.call, tool_call_id=run.tool_call_id)


def _context_frame() -> Any:
    return current_frame()


def _unless_ended(frame: NodeFrame | None) -> NodeFrame | None:
    return frame if frame is not None and not frame.ended else None


def _was_entered_in(frame: NodeFrame, run: Run) -> bool:
    """Return whether a frame was entered in the frame or the graph call of `run`, also through blocks in between."""
    if run.frame is not None:
        return _is_at_or_in(frame, run.frame)
    found: Frame | None = frame
    while found is not None:
        if run.call is not None and found.call is run.call:
            return True
        found = _outer_frame(found)
    return False


def _is_at_or_in(frame: Frame | None, outer: Frame) -> bool:
    while frame is not None and frame is not outer:
        frame = _outer_frame(frame)
    return frame is outer


def _outer_frame(frame: Frame) -> Frame | None:
    """Return the frame around a frame, in the same execution or around the block in which it was entered."""
    if frame.outer is not None:
        return frame.outer
    return frame.block.frame if frame.block is not None else None


def _block_is_in(block: Block, run: Run, frame: NodeFrame | None) -> bool:
    """Return whether a block was entered in ``frame``, or without a frame in the graph call of `run`."""
    if frame is not None:
        return _is_at_or_in(block.frame, frame)
    return block.call is not None and block.call is run.call


def _is_same_execution(block: Block, frame: Frame | None) -> bool:
    """Return whether a block and a frame belong to the same execution, so that the block changes nothing."""
    if frame is None:
        return False
    ours, theirs = frame.binding, block.binding
    return ours.publisher is theirs.publisher and ours.execution_id == theirs.execution_id


def surrounding_namespace() -> str | None:
    """Return LangGraph's checkpoint namespace of the current node; None outside of nodes."""
    config = var_child_runnable_config.get()
    return ((config or {}).get("metadata") or {}).get("langgraph_checkpoint_ns")


def parent_run_id() -> UUID | None:
    """Return the id of the current LangChain run; None outside of runs."""
    config = var_child_runnable_config.get()
    manager = config.get("callbacks") if config else None
    return manager.parent_run_id if isinstance(manager, BaseCallbackManager) else None


RUNS: Final = RunRegistry()


def _position() -> Position:
    run_id = parent_run_id()
    place = RUNS.place_of_call(run_id)
    if place is not None:
        return Position(place.frame, place.block)
    mark = frame_var.get()
    is_left = mark is not None and mark.stays and mark.caller == run_id
    return Position(outlives=mark not in {None, NO_FRAME} and not is_left)


find_positions_with(_position)
