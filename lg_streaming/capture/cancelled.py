"""Find the request to cancel the code that runs, and raise it."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from langchain_core.callbacks import AsyncCallbackManager

from lg_streaming.capture.place import frame_in_context, outer_frame
from lg_streaming.context import block_var
from lg_streaming.errors import GraphCancelledError

if TYPE_CHECKING:
    from lg_streaming.capture.run import Run
    from lg_streaming.context import Block, CancelRequest, Frame

__all__ = ["raise_if_cancelled", "raise_request", "request_of_block"]


_MODEL_STARTS: Final = frozenset(
    {AsyncCallbackManager.on_llm_start.__code__, AsyncCallbackManager.on_chat_model_start.__code__}
)
_MAX_FRAMES: Final = 16


def raise_if_cancelled(run: Run | None) -> None:
    """Raise `GraphCancelledError` if the graph call, the node or the block of a run, or one around it, is cancelled.

    Args:
        run: The run of the code; None for code that is in no known run.
    """
    request = _request_of_run(run)
    if request is None and (run is None or not run.is_detached):
        request = _request_of_frame(frame_in_context()) or request_of_block(block_var.get())
    if request is not None:
        raise_request(request)


def raise_request(request: CancelRequest) -> NoReturn:
    """Raise the error of a cancelled graph in a callback."""
    _close_pending_callbacks()
    raise GraphCancelledError(request.reason, execution_id=request.execution_id)


def _close_pending_callbacks() -> None:
    """Close the callbacks of other handlers, which LangChain has made and will not await when this one raises."""
    frame = inspect.currentframe()
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return
        if frame.f_code in _MODEL_STARTS:
            for name in ("inline_tasks", "non_inline_tasks"):
                for each in cast("list[Any]", frame.f_locals.get(name, ())):
                    if inspect.getcoroutinestate(each) == inspect.CORO_CREATED:
                        each.close()
            return
        frame = frame.f_back


def request_of_block(block: Block | None) -> CancelRequest | None:
    """Return the request to cancel a block, or a block around it; None without one."""
    while block is not None:
        if block.cancelled is not None and not block.left:
            return block.cancelled
        block = block.outer
    return None


def _request_of_run(run: Run | None) -> CancelRequest | None:
    while run is not None:
        found = run.call.cancel_request if run.call is not None else None
        found = found or _request_of_frame(run.frame)
        if found is not None:
            return found
        run = run.parent
    return None


def _request_of_frame(frame: Frame | None) -> CancelRequest | None:
    while frame is not None:
        found: CancelRequest | None = getattr(frame.call, "cancel_request", None)
        found = found or request_of_block(frame.block)
        if found is not None:
            return found
        frame = outer_frame(frame)
    return None
