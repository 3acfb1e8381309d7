"""Context of the running code: its execution, its execution block, and its node.

Two context variables contain it: the entered execution block, and the node or tool that runs. A context is copied into
tasks, into ``asyncio.to_thread`` and into LangGraph's worker threads. In a worker that was started inside a node it may
outlive the node: `current_frame` and `current_block` skip what has ended.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from lg_streaming.events import Scope
    from lg_streaming.publisher import Publisher

__all__ = [
    "NO_FRAME",
    "Block",
    "CancelRequest",
    "CodePosition",
    "ExecutionContext",
    "Frame",
    "FrameMark",
    "block_var",
    "code_position",
    "current_block",
    "current_frame",
    "find_code_positions_with",
    "frame_var",
    "reset_in_context",
]


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """An execution, its run, and the publisher of its updates."""

    publisher: Publisher
    execution_id: str
    run_id: str


class Frame(Protocol):
    """A captured node or tool call: the context of the code inside it, until it has ended."""

    @property
    def context(self) -> ExecutionContext:
        """The execution."""
        ...

    @property
    def scope(self) -> Scope:
        """The scope of its updates."""
        ...

    @property
    def outer(self) -> Frame | None:
        """The frame around it in the same execution."""
        ...

    @property
    def block(self) -> Block | None:
        """The execution block in which it was entered."""
        ...

    @property
    def call(self) -> object | None:
        """The graph call that contains it."""
        ...

    @property
    def mark(self) -> FrameMark:
        """The mark that refers to it in contexts."""
        ...

    @property
    def ended(self) -> bool:
        """Return whether the node or tool has returned or raised. A context with an ended frame counts as empty."""
        ...

    @property
    def emitter(self) -> object:
        """The emitter of its updates; `current_emitter` returns it."""
        ...

    @property
    def progress(self) -> object | None:
        """The tracker of its progress; `current_progress` returns it. None before it has begun."""
        ...


class FrameMark:
    """Reference to a frame in contexts, which may outlive the frame. An ended frame is not kept.

    Args:
        frame: The frame; None for a mark that hides the frames of the context.
        outer: The mark of the frame around it.
    """

    __slots__ = ("caller", "frame", "outer", "stays")

    def __init__(self, frame: Frame | None, outer: FrameMark | None) -> None:
        self.frame: Frame | None = frame
        self.outer: FrameMark | None = outer
        self.stays: bool = False
        """True if it may stay in the context of the graph's caller, which nothing resets."""
        self.caller: object = None
        """The run in which the graph was called, where it stays; None for a call outside of a run."""


NO_FRAME: Final = FrameMark(None, None)
"""Mark of a node that is not captured, and whose graph has a separate execution. It hides the frames around that
graph."""


class CancelRequest(NamedTuple):
    """A request to cancel the run of an execution."""

    execution_id: str
    reason: str | None


class Block:
    """An ``execution(...)`` block that was entered.

    Args:
        context: Its execution and run.
        frame: The node or tool in which it was entered.
        call: The graph call in which it was entered.
        namespace: LangGraph's checkpoint namespace of the node in which it was entered, captured or not.
        outer: The block in which it was entered.
    """

    __slots__ = ("_mark", "call", "cancelled", "context", "left", "namespace", "outer")

    def __init__(
        self,
        context: ExecutionContext,
        *,
        frame: Frame | None = None,
        call: object | None = None,
        namespace: str | None = None,
        outer: Block | None = None,
    ) -> None:
        self.context: ExecutionContext = context
        self.namespace: str | None = namespace
        self._mark = frame.mark if frame is not None else None
        self.call = call
        self.outer: Block | None = outer
        self.left: bool = False
        """True after the block was left, in any task, thread or context."""
        self.cancelled: CancelRequest | None = None
        """The request to cancel its run."""

    @property
    def frame(self) -> Frame | None:
        """The node or tool in which it was entered, directly or in an outer block, until the node has ended."""
        if self._mark is not None:
            return self._mark.frame
        return self.outer.frame if self.outer is not None else None

    def leave(self) -> bool:
        """End the block; return False, without effect, if it was left before."""
        if self.left:
            return False
        self.left = True
        self.call = None
        return True

    @property
    def in_force(self) -> bool:
        """Return whether the block and its run are open."""
        context = self.context
        return not self.left and context.publisher.runs.current_run_id(context.execution_id) == context.run_id


frame_var: ContextVar[FrameMark | None] = ContextVar("lg_streaming_frame", default=None)
"""The innermost node or tool in this context. It may have ended: read it with `current_frame`."""


block_var: ContextVar[Block | None] = ContextVar("lg_streaming_block", default=None)
"""The innermost execution block in this context. It may have been left: read it with `current_block`."""


def current_frame() -> Frame | None:
    """Return the innermost node or tool of this context that has not ended, or None."""
    mark = frame_var.get()
    while mark is not None:
        frame = mark.frame
        if frame is not None and not frame.ended:
            return frame
        mark = mark.outer
    return None


def current_block() -> Block | None:
    """Return the innermost open execution block of this context, or None."""
    block = block_var.get()
    while block is not None and not block.in_force:
        block = block.outer
    return block


class CodePosition(NamedTuple):
    """The position of the running code: in a node or tool, or in an execution block that was entered inside one."""

    frame: Frame | None = None
    block: Block | None = None
    outlives: bool = False
    """True if the code was started in a node that has ended."""


def _position_in_context() -> CodePosition:
    frame, block = current_frame(), current_block()
    if block is not None and (frame is None or frame.block is not block):
        return CodePosition(block=block)
    return CodePosition(frame=frame, outlives=frame is None and frame_var.get() not in {None, NO_FRAME})


_finders: list[Callable[[], CodePosition]] = [_position_in_context]


def find_code_positions_with(finder: Callable[[], CodePosition]) -> None:
    """Use ``finder`` for `code_position`, in place of the context alone."""
    _finders.append(finder)


def code_position() -> CodePosition:
    """Return the position of the running code."""
    return _finders[-1]()


def reset_in_context(variable: ContextVar[Any], token: Token[Any]) -> bool:
    """Reset a context variable; return False, without effect, in another context than that of the setting.

    A generator may be closed, and a dependency left, in another task or thread than the one that entered it. The value
    of the variable there has ended by then, and counts as none.
    """
    try:
        variable.reset(token)
    except ValueError:
        return False
    return True
