"""Place of a call: the innermost frame, block or graph call that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.runnables.config import var_child_runnable_config

from lg_streaming.context import Block, ExecutionContext, Frame, current_block, current_frame

if TYPE_CHECKING:
    from uuid import UUID

    from lg_streaming.capture.graph_call import GraphCall
    from lg_streaming.capture.node_frame import NodeFrame
    from lg_streaming.capture.run import Run

__all__ = [
    "Place",
    "frame_in_context",
    "frame_of_run",
    "is_at_or_in",
    "outer_frame",
    "parent_run_id",
    "place_of_run",
    "surrounding_namespace",
]


class Place(NamedTuple):
    """Innermost frame, block or graph call that a call belongs to."""

    frame: NodeFrame | None = None
    block: Block | None = None
    call: GraphCall | None = None
    tool_call_id: str | None = None
    """Tool call in which it is made, if the node that calls the tool is not captured."""

    @property
    def context(self) -> ExecutionContext | None:
        """Execution of the frame, the block, or the graph call if that has joined one."""
        if self.frame is not None:
            return self.frame.context
        if self.block is not None:
            return self.block.context
        return self.call.context if self.call is not None else None

    @property
    def made_in_namespace(self) -> str | None:
        """LangGraph's checkpoint namespace of the node in which the block or the graph call was made."""
        made = self.block or self.call
        return made.namespace if made is not None else None


def frame_of_run(run: Run | None) -> NodeFrame | None:
    """Return the node or tool that a call in `run` belongs to; None if there is neither."""
    place = place_of_run(run)
    return place.frame if place is not None else None


def place_of_run(run: Run | None) -> Place | None:
    """Return the place of a call in ``run``."""
    if run is not None and run.is_detached:
        return None
    frame, block = frame_in_context(), current_block()
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


def frame_in_context() -> NodeFrame | None:
    """Return the innermost node or tool of this context that has not ended, or None."""
    return cast("NodeFrame | None", current_frame())  # only this package makes frames


def _unless_ended(frame: NodeFrame | None) -> NodeFrame | None:
    return frame if frame is not None and not frame.ended else None


def _was_entered_in(frame: NodeFrame, run: Run) -> bool:
    """Return whether a frame was entered in the frame or the graph call of `run`, also through blocks in between."""
    if run.frame is not None:
        return is_at_or_in(frame, run.frame)
    found: Frame | None = frame
    while found is not None:
        if run.call is not None and found.call is run.call:
            return True
        found = outer_frame(found)
    return False


def is_at_or_in(frame: Frame | None, outer: Frame) -> bool:
    """Return whether ``frame`` is ``outer``, or was entered in it."""
    while frame is not None and frame is not outer:
        frame = outer_frame(frame)
    return frame is outer


def outer_frame(frame: Frame) -> Frame | None:
    """Return the frame around a frame, in the same execution or around the block in which it was entered."""
    if frame.outer is not None:
        return frame.outer
    return frame.block.frame if frame.block is not None else None


def _block_is_in(block: Block, run: Run, frame: NodeFrame | None) -> bool:
    """Return whether a block was entered in ``frame``, or without a frame in the graph call of `run`."""
    if frame is not None:
        return is_at_or_in(block.frame, frame)
    return block.call is not None and block.call is run.call


def _is_same_execution(block: Block, frame: Frame | None) -> bool:
    """Return whether a block and a frame belong to the same execution, so that the block changes nothing."""
    if frame is None:
        return False
    ours, theirs = frame.context, block.context
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
