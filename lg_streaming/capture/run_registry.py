"""The LangChain runs of this process that matter here: which graph call, node or tool each belongs to.

A run is known by its id from its start to its end. What a call, a model or a tool belongs to follows from the run it
was started in, and only where that says nothing, from the context.
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
    """One LangChain run."""

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
        """The handler that publishes what happens in it; others see the same."""
        self.root_call: GraphCall | None = None
        """The graph call whose root it is."""
        self.node: NodeRun | None = None
        """The node that it is, captured without a decorator."""
        self.capture_graph: Callable[[], None] | None = None
        """Captures the node that this run's graph is, when all handlers have seen it start."""
        self.on_thread_id: Callable[[object], None] | None = None
        """Takes LangGraph's thread, which is known for sure only when the graph's loop starts."""
        self.unwatch: Callable[[], None] | None = None
        """Ends the watch over the task that started it, which lasts until LangChain is sure to report its end."""
        self.parent: Run | None = parent
        """The run that it was started in, as far as it is known."""
        self.is_detached: bool = parent is not None and parent.is_detached
        """Whether its config names a node that is not known: it belongs to nothing that is around it."""
        self.tool: ToolCall | None = None
        """The tool call that it is."""
        self.tool_call_id: str | None = parent.tool_call_id if parent is not None else None
        """The tool call inside which it is, or that it is."""
        self.copies: int = 0
        """How often the handler is attached beyond once."""
        self._seen = 0
        self._model_handler: object = None
        self.context_token: Token[FrameMark | None] | None = None
        """Takes back what it put into the context: its own node, or that the frames around it are hidden."""
        self.model: ModelCall | None = None
        """The model call that it is."""
        self.call: GraphCall | None = parent.call if parent is not None else frame.call if frame is not None else None
        """The graph call it is part of."""
        self.frame: NodeFrame | None = frame
        """The captured node or tool it is part of."""
        self.namespace: str | None = namespace
        """LangGraph's checkpoint namespace."""
        self.is_node: bool = parent is not None and namespace is not None and namespace != parent.namespace
        """Whether it is the run of a node of a graph."""
        self.is_graph: bool = False
        """Whether it is the run of a graph, in which each node has a namespace of its own."""
        self.plan: GraphPlan | None = parent.plan if parent is not None else None
        """What to capture of the nodes below it; None for nothing beside decorated nodes."""
        self.has_own_plan: bool = False
        """Whether the plan begins with this run: it is a decorated graph's."""
        self.children_wrapped: bool = False
        """Whether the nodes right below it capture themselves, as those of a decorated graph do."""
        self.decorated_nodes: frozenset[str] = frozenset()
        """Names of the nodes right below it that are decorated themselves, and keep their own options."""
        self.root_handlers: tuple[object, ...] = parent.root_handlers if parent is not None else ()
        """The handlers for whose graph this run, or one above it, is the root."""
        self.ids: set[UUID] = frame.run_ids if frame is not None else parent.ids if parent is not None else set()
        """The ids of all runs that are forgotten with its frame, or without one with its root."""

    @property
    def is_outermost(self) -> bool:
        """Whether its end is that of everything known inside it: no frame and no run is around it.

        Handlers that models' tokens pass by see models start, and do not see them end.
        """
        return self.parent is None and self.frame is None

    def note_duplicate(self, handler: object) -> None:
        """Notes that one handler is attached several times: it then sees everything as often."""
        self.copies += handler is self.handler

    def stop_watching(self) -> None:
        """Notes that it is under way, so that LangChain reports its end."""
        unwatch, self.unwatch = self.unwatch, None
        if unwatch is not None:
            unwatch()

    def claim_model(self, handler: object) -> bool:
        """Whether ``handler`` is to publish this call of a model; the first that asks is."""
        if self._model_handler is None:
            self._model_handler = handler
            self.handler = handler
            self.copies = 0
            return True
        return False

    def is_published_by(self, handler: object) -> bool:
        """Whether ``handler`` is to publish the event that it sees: each once, whichever handlers see it."""
        if handler is not self.handler:
            return False
        if not self.copies:
            return True
        self._seen = (self._seen + 1) % (self.copies + 1)
        return self._seen == 1


class Place(NamedTuple):
    """What a call belongs to: a frame, a block or a graph call; of several the innermost."""

    frame: NodeFrame | None = None
    block: Block | None = None
    call: GraphCall | None = None
    tool_call_id: str | None = None
    """The tool call in which it is made, where no frame knows it: the node that calls the tool is not captured."""

    @property
    def binding(self) -> ExecutionContext | None:
        """The execution of the frame or the block, or that of the graph call where it is known already."""
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
    """The table of runs."""

    def __init__(self) -> None:
        self._runs: dict[UUID, Run] = {}
        self.find: Callable[[UUID], Run | None] = self._runs.get
        """Return the run of an id, as each token needs it; None where it is not known or has ended."""
        self._nodes: dict[str, Run] = {}
        """The runs of nodes that run, by their namespaces."""
        self._frames: dict[str, list[NodeRun]] = {}
        """The captured nodes of graphs that run, by their namespaces."""

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: UUID | None) -> Run | None:
        """The run of this id; None where it is not known or has ended."""
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
        """The run of this id, and whether it is new: several handlers may see one run start.

        A run that belongs to nothing is remembered only as a `root`, which a handler makes something of.
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
        """The run in which a run was started; and whether what its config names is not known.

        A graph that LangGraph calls in a worker has two configs, that of the worker's context and its own. Of these
        LangGraph takes the parent's id from the context, and the namespace from the call: the call's counts.
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

    def register_node(self, handler: object, run_id: UUID, frame: NodeFrame, namespace: str | None) -> None:
        """Makes what is started in the run of a node belong to that node, also where no context reaches."""
        run = self._runs.get(run_id)
        if run is None:
            run = Run(handler, None, frame, namespace)
            self._register(run_id, run)
        else:
            run.handler, run.frame = handler, frame

    def end(self, run_id: UUID) -> Run | None:
        """Forgets a run, and returns it."""
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
        """Forgets runs that did not report their end."""
        for run_id in list(ids):
            self._remove(run_id)
        ids.clear()

    def register_frame(self, frame: NodeRun) -> None:
        """Notes that a captured node of a graph runs."""
        if frame.is_graph_node and frame.graph_namespace is not None:
            self._frames.setdefault(frame.graph_namespace, []).append(frame)

    def unregister_frame(self, frame: NodeRun) -> None:
        """Forgets it."""
        namespace = frame.graph_namespace
        found = self._frames.get(namespace) if namespace is not None else None
        if found is None or namespace is None:
            return
        if frame in found:
            found.remove(frame)
        if not found:
            self._frames.pop(namespace, None)

    def end_node(self, namespace: str, error: BaseException) -> None:
        """Ends the captured nodes of this namespace, which LangGraph no longer waits for, and what runs in them."""
        for frame in list(self._frames.get(namespace, ())):
            self._cancel_in(frame)
            frame.fail(error)

    def cancel_calls_in(self, frame: NodeRun, tools_with: BaseException) -> None:
        """Ends tools and models that a node leaves behind, and what runs in them: their end would come too late."""
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
        """The node or tool that a run started in `run` belongs to; None where it belongs to none."""
        place = self.place_of_run(run)
        return place.frame if place is not None else None

    def place_of_call(self, parent_id: UUID | None) -> Place | None:
        """What a call belongs to that was started in the run of this id.

        The run's id comes first: the config that the call was given names it. Then the block and the node of the
        context, of which the inner one counts, and last the activated module, which sees every graph call.
        """
        return self.place_of_run(self.get(parent_id))

    def place_of_run(self, run: Run | None) -> Place | None:
        """The same for the run itself."""
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
    """Whether a frame was entered in what `run` belongs to, also through blocks in between."""
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
    """The frame around one, in the same execution or around the block in which the frame was entered."""
    if frame.outer is not None:
        return frame.outer
    return frame.block.frame if frame.block is not None else None


def _block_is_in(block: Block, run: Run, frame: NodeFrame | None) -> bool:
    """Whether a block was entered in the frame, or without one in the graph call, of `run`."""
    if frame is not None:
        return _is_at_or_in(block.frame, frame)
    return block.call is not None and block.call is run.call


def _is_same_execution(block: Block, frame: Frame | None) -> bool:
    """Whether a block is of the execution that the frame is part of, so that it changes nothing."""
    if frame is None:
        return False
    ours, theirs = frame.binding, block.binding
    return ours.publisher is theirs.publisher and ours.execution_id == theirs.execution_id


def surrounding_namespace() -> str | None:
    """LangGraph's checkpoint namespace of the node in whose context the code runs; None outside of any."""
    config = var_child_runnable_config.get()
    return ((config or {}).get("metadata") or {}).get("langgraph_checkpoint_ns")


def parent_run_id() -> UUID | None:
    """The id of the LangChain run in whose context the code runs; None outside of any."""
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
