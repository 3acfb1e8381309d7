"""Registry of LangChain runs: find the graph call, node or tool that each belongs to.

A run is registered by its id from its start to its end. A call, a model or a tool belongs to the run in which it was
started. If that run is not registered, the context decides.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.capture.cancelled import raise_if_cancelled, raise_request
from lg_streaming.capture.place import frame_in_context, frame_of_run, is_at_or_in, parent_run_id, place_of_run
from lg_streaming.capture.run import Run
from lg_streaming.context import NO_FRAME, CodePosition, find_code_positions_with, frame_var
from lg_streaming.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from lg_streaming.capture.node_frame import CapturedNode, NodeFrame
    from lg_streaming.capture.place import Place
    from lg_streaming.context import CancelRequest

__all__ = ["RUNS", "RunRegistry"]


class RunRegistry:
    """Registry of runs by id, and of the nodes among them by namespace."""

    def __init__(self) -> None:
        self._runs: dict[UUID, Run] = {}
        self.find: Callable[[UUID], Run | None] = self._runs.get
        """Return the run of an id, with one call per token; None if it is unknown or has ended. Raise
        `GraphCancelledError` in a run that is cancelled."""
        self.is_cancelling: bool = False
        """True while a cancelled graph call or block is at work."""
        self._cancelled: dict[object, Mapping[UUID, CancelRequest]] = {}
        """Cancelled graph calls and blocks, and the runs in threads that they have left."""
        self._lock = new_lock()
        self._nodes: dict[str, Run] = {}
        """Runs of nodes, by namespace."""
        self._frames: dict[str, list[CapturedNode]] = {}
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
        if self.is_cancelling:
            self.check(parent_id)
        namespace = metadata.get("langgraph_checkpoint_ns") if metadata else None
        parent, foreign = self._parent(parent_id, namespace)
        run = Run(handler, parent, None if foreign else frame_of_run(parent), namespace)
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
        frame = frame_in_context() if parent is None else None
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

    def register_frame(self, frame: CapturedNode) -> None:
        """Register a running captured node of a graph."""
        if frame.is_graph_node and frame.graph_namespace is not None:
            self._frames.setdefault(frame.graph_namespace, []).append(frame)

    def unregister_frame(self, frame: CapturedNode) -> None:
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

    def cancel_calls_in(self, frame: CapturedNode, tools_with: BaseException) -> None:
        """End the tools and models that a node has left running, before the node's end is published."""
        left = [self._runs.get(run_id) for run_id in list(frame.run_ids)]
        if any(run is not None and (run.tool is not None or run.model is not None) for run in left):
            self._cancel_in(frame, tools_with)

    def _cancel_in(self, frame: CapturedNode, tools_with: BaseException | None = None) -> None:
        for run_id, run in reversed(list(self._runs.items())):
            if run.frame is not None and is_at_or_in(run.frame, frame):
                self._cancel(run_id, run, frame, tools_with)

    def _cancel(self, run_id: UUID, run: Run, node: CapturedNode, tools_with: BaseException | None) -> None:
        inner = run.model or run.tool
        if inner is not None:
            if self.end(run_id) is run:  # it may end at this moment in its own thread
                cause = tools_with if run.tool is not None else None
                inner.fail(cause if cause is not None else asyncio.CancelledError())
        elif run.is_node and run.frame is not None and run.frame is not node:
            run.frame.cancel()
            self.end(run_id)

    # --- cancels ---------------------------------------------------------------------------------------------

    def begin_cancelling(self, owner: object, left: Mapping[UUID, CancelRequest] | None = None) -> None:
        """Check every callback, because a graph call or a block is cancelled: until `end_cancelling`.

        Args:
            owner: The call or the block.
            left: Runs in threads that its end leaves behind.
        """
        with self._lock:
            self._cancelled = {**self._cancelled, owner: left or {}}
            self.is_cancelling = True
            self.find = self._find_unless_cancelled

    def end_cancelling(self, owner: object) -> None:
        """Note that a graph call or a block has ended."""
        with self._lock:
            self._cancelled = {each: left for each, left in self._cancelled.items() if each is not owner}
            if not self._cancelled:
                self.is_cancelling = False
                self.find = self._runs.get

    def check(self, run_id: UUID | None) -> None:
        """Raise `GraphCancelledError` if the code in a run, or in the present context, is cancelled."""
        self._raise_if_left(run_id)
        raise_if_cancelled(self.get(run_id))

    def _find_unless_cancelled(self, run_id: UUID) -> Run | None:
        self.check(run_id)
        return self._runs.get(run_id)

    def _raise_if_left(self, run_id: UUID | None) -> None:
        for left in self._cancelled.values():
            if run_id is not None and (request := left.get(run_id)) is not None:
                raise_request(request)

    def running(self) -> list[tuple[UUID, Run]]:
        """Return all runs, by id."""
        return list(self._runs.items())

    def place_of_call(self, parent_id: UUID | None) -> Place | None:
        """Return the place of a call that was started in the run of this id.

        The run decides first: the call's config names it. Then the inner one of the context's block and node decides,
        and last the activated module, which gets every graph call.
        """
        return place_of_run(self.get(parent_id))


RUNS: Final = RunRegistry()


def _position() -> CodePosition:
    run_id = parent_run_id()
    place = RUNS.place_of_call(run_id)
    if place is not None:
        return CodePosition(place.frame, place.block)
    mark = frame_var.get()
    is_left = mark is not None and mark.stays and mark.caller == run_id
    return CodePosition(outlives=mark not in {None, NO_FRAME} and not is_left)


find_code_positions_with(_position)
