"""Which execution and which node the running code belongs to, and what publishes its updates.

Two context variables carry that: the execution block that was entered, and the node or tool that runs. They follow the
code wherever a context goes: into tasks, into ``asyncio.to_thread`` and into LangGraph's worker threads. A context may
outlive what it points to, in a worker that was started lazily inside a node: `current_frame` and `current_block` pass
over what has ended. An activated module is the process default for code outside any execution block.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import uuid_utils

from lg_streaming.events import FINAL_TYPES, NO_SCOPE, Delivery, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.events import Priority
    from lg_streaming.settings import NodeDefaults

__all__ = [
    "NO_FRAME",
    "NO_SCOPE",
    "TRACED",
    "Block",
    "Delivery",
    "ExecutionContext",
    "Frame",
    "FrameMark",
    "LargeUpdates",
    "LiveDefaults",
    "OnMissingRun",
    "Position",
    "Publisher",
    "RunOutcome",
    "Scope",
    "Trace",
    "UpdateRequest",
    "block_var",
    "current_block",
    "current_frame",
    "find_positions_with",
    "frame_var",
    "new_id",
    "position",
    "publishers",
    "reset_in_context",
]


OnMissingRun = Literal["open", "drop", "raise"]
"""What becomes of an update where no run is open: a run is opened, the update is dropped and counted, or it is refused
with `ExecutionNotFoundError`."""


LargeUpdates = Literal["refuse", "shorten"]
"""What becomes of an update over ``limits.update_bytes`` that is no text: it is refused with `UpdateTooLargeError`, or
leaves shortened. Text is split in any case."""


class UpdateRequest(NamedTuple):
    """An update on its way to a publisher."""

    type: str
    data: object
    scope: Scope = NO_SCOPE
    priority: Priority | None = None
    """None for the type's own, see `priority_of`."""
    delivery: Delivery = "at-least-once"
    key: str | None = None
    """The key of an update that is to be appended exactly once."""


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How a run, or one participant's part in it, came out."""

    type: str
    """A final type, or ``workflow_interrupted``: the run waits for a human and is not over."""
    data: Mapping[str, Any]


class LiveDefaults:
    """The decorators' defaults of one execution, which may change while it runs.

    Whoever works with them keeps `version` and looks again when it has changed; that is one comparison.
    """

    __slots__ = ("current", "version")

    def __init__(self, current: NodeDefaults) -> None:
        self.current: NodeDefaults = current
        self.version: int = 0

    def change(self, current: NodeDefaults) -> None:
        """From now on ``current`` holds."""
        self.current = current
        self.version += 1


class Trace(Protocol):
    """Follows runs and nodes from their start to their end. Nothing in it raises."""

    def see(self, execution_id: str, type: str, scope: Scope, error: Mapping[str, Any] | None) -> Scope:
        """An update of one of `TRACED` is about to be published.

        Args:
            execution_id: Its execution.
            type: Its type.
            scope: What it is about.
            error: What went wrong, as it may leave; None where nothing did.

        Returns:
            The scope to publish it with.
        """
        ...

    def enter(self, scope: Scope) -> Callable[[], None]:
        """The node of ``scope`` is in force in the present context, until what this returns is called there."""
        ...

    def close(self) -> None:
        """Nothing more will come. Harmless when repeated."""
        ...


TRACED: Final = FINAL_TYPES | {
    "workflow_start",
    "workflow_interrupted",
    "node_start",
    "node_complete",
    "node_error",
    "node_interrupted",
}
"""The types of updates that say where a run or a node starts and ends."""


class Publisher(Protocol):
    """Where updates go; the hub is the one real implementation.

    Every method is synchronous, thread-safe and never waits for I/O.
    """

    @property
    def debug(self) -> bool:
        """Whether stack traces may leave."""
        ...

    @property
    def capture_plan(self) -> object | None:
        """What to capture beside decorated nodes; None for nothing."""
        ...

    @property
    def token_streams(self) -> Any:
        """The registry of the open token streams of its nodes, `pipeline.OpenTokenStreams`."""
        ...

    @property
    def trace(self) -> Trace | None:
        """Who follows its runs and nodes; None when nobody does."""
        ...

    def defaults(self, execution_id: str) -> LiveDefaults:
        """The decorators' defaults of an execution."""
        ...

    def publish(
        self,
        execution_id: str,
        type: str,
        data: object = None,
        *,
        scope: Scope = NO_SCOPE,
        priority: Priority | None = None,
        delivery: Delivery = "at-least-once",
        key: str | None = None,
        large: LargeUpdates | None = None,
    ) -> None:
        """Appends one update."""
        ...

    def publish_all(
        self, execution_id: str, updates: Sequence[UpdateRequest], *, large: LargeUpdates | None = None
    ) -> None:
        """Appends several updates in one go."""
        ...

    def note_refused(self, execution_id: str, type: str, error: Exception) -> None:
        """Counts and logs an update that was refused where nothing may be raised."""
        ...

    def encode(self, data: object) -> bytes:
        """``data`` as JSON, as it is now: for what is published later, when the object may have changed."""
        ...

    def note_failure(self) -> None:
        """Counts an exception of one of the user's own callables."""
        ...

    def enter_run(
        self,
        execution_id: str,
        *,
        owner: str | None = None,
        name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        parent: Mapping[str, Any] | None = None,
    ) -> str:
        """Joins the execution's open run, or starts one; returns the run id."""
        ...

    def resume_run(self, execution_id: str) -> str | None:
        """Joins the execution's open run if it waits for a human, and returns its id; else None."""
        ...

    def begin_run(
        self, execution_id: str, *, name: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> str | None:
        """Starts a run, joins it and returns its id; None, and nothing, where one is open."""
        ...

    def find_run(self, execution_id: str, missing: OnMissingRun) -> str | None:
        """The id of the open run; what is `missing` is opened, dropped (None) or an `ExecutionNotFoundError`."""
        ...

    def open_run(self, execution_id: str) -> str | None:
        """The id of the open run; None where none is."""
        ...

    def leave_run(self, execution_id: str, run_id: str, outcome: RunOutcome, *, joined: bool = True) -> None:
        """Leaves a run; the last one to leave ends it with its outcome. Whoever had not `joined` counts for nobody."""
        ...

    def hold(self, execution_id: str, run_id: str) -> Callable[[], None]:
        """Something is at work in the run, which does not end as idle until what this returns is called, once."""
        ...

    def pause(self, execution_id: str, run_id: str, task: str, interrupts: Sequence[Mapping[str, Any]] = ()) -> None:
        """Notes that ``task`` waits for a human; until it is tried again the run cannot complete."""
        ...

    def note_message(self, execution_id: str, message_id: str, namespace: str | None) -> None:
        """Remembers in which namespace a message of the execution was streamed."""
        ...

    def is_streamed(self, execution_id: str, message_id: str, *, except_in: str | None) -> bool:
        """Whether a message of the execution was streamed elsewhere than in the namespace ``except_in``."""
        ...

    def is_silent(self, execution_id: str, run_id: str) -> bool:
        """Whether the run has no update yet beside its start."""
        ...

    def next_attempt(self, execution_id: str, task: str) -> int:
        """1 when ``task`` is tried for the first time in the open run, 2 on its first retry, and so on."""
        ...


@dataclass(frozen=True, slots=True)
class ExecutionContext:
    """An execution, its run, and where its updates go."""

    publisher: Publisher
    execution_id: str
    run_id: str


class Frame(Protocol):
    """A captured node or tool call: what the code inside it belongs to, until it has ended."""

    @property
    def binding(self) -> ExecutionContext:
        """The execution."""
        ...

    @property
    def scope(self) -> Scope:
        """What its updates are about."""
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
        """The graph call that it is part of."""
        ...

    @property
    def mark(self) -> FrameMark:
        """The mark that refers to it in contexts."""
        ...

    @property
    def ended(self) -> bool:
        """Whether the node or tool has returned or raised: a context that points to it then counts as empty."""
        ...

    @property
    def emitter(self) -> Any:
        """Writes updates about it."""
        ...

    @property
    def progress(self) -> Any:
        """Reports its progress."""
        ...


class FrameMark:
    """Stands for a frame in contexts, which may outlive it: when the frame has ended, nothing of it is kept.

    Args:
        frame: The frame; None for a mark that hides the frames of the context.
        outer: The mark of the frame around it.
    """

    __slots__ = ("caller", "frame", "outer", "stays")

    def __init__(self, frame: Frame | None, outer: FrameMark | None) -> None:
        self.frame: Frame | None = frame
        self.outer: FrameMark | None = outer
        self.stays: bool = False
        """Whether it may stay in the context of the graph's caller, where nothing takes it back."""
        self.caller: object = None
        """The run in which the graph was called, where it stays; None where it was called in none."""


NO_FRAME: Final = FrameMark(None, None)
"""In the context of a node that is not captured, and whose graph is an execution of its own: what is around that graph
is none of the node's."""


class Block:
    """An ``execution(...)`` block that was entered.

    Args:
        binding: Its execution and run.
        frame: The node or tool in which it was entered.
        call: The graph call in which it was entered.
        namespace: LangGraph's checkpoint namespace of the node in which it was entered, captured or not.
        outer: The block in which it was entered.
    """

    __slots__ = ("_mark", "binding", "call", "left", "namespace", "outer")

    def __init__(
        self,
        binding: ExecutionContext,
        *,
        frame: Frame | None = None,
        call: object | None = None,
        namespace: str | None = None,
        outer: Block | None = None,
    ) -> None:
        self.binding: ExecutionContext = binding
        self.namespace: str | None = namespace
        self._mark = frame.mark if frame is not None else None
        self.call = call
        self.outer: Block | None = outer
        self.left: bool = False
        """True once the block was left, in whatever task, thread or context that happened."""

    @property
    def frame(self) -> Frame | None:
        """The node or tool in which it was entered, directly or in a block there, until that has ended."""
        if self._mark is not None:
            return self._mark.frame
        return self.outer.frame if self.outer is not None else None

    def leave(self) -> bool:
        """Ends the block; returns False, and does nothing, when it was left before."""
        if self.left:
            return False
        self.left = True
        self.call = None
        return True

    @property
    def in_force(self) -> bool:
        """Whether the block is still open, and its run too."""
        binding = self.binding
        return not self.left and binding.publisher.open_run(binding.execution_id) == binding.run_id


frame_var: ContextVar[FrameMark | None] = ContextVar("lg_streaming_frame", default=None)
"""The innermost node or tool in this context. It may have ended: read it with `current_frame`."""

block_var: ContextVar[Block | None] = ContextVar("lg_streaming_block", default=None)
"""The innermost execution block in this context. It may have been left: read it with `current_block`."""


def current_frame() -> Frame | None:
    """The innermost node or tool of this context that has not ended; None where there is none."""
    mark = frame_var.get()
    while mark is not None:
        frame = mark.frame
        if frame is not None and not frame.ended:
            return frame
        mark = mark.outer
    return None


def current_block() -> Block | None:
    """The innermost execution block of this context that is still open; None where there is none."""
    block = block_var.get()
    while block is not None and not block.in_force:
        block = block.outer
    return block


class Position(NamedTuple):
    """What the running code belongs to: a node or tool, or an execution block that was entered inside one."""

    frame: Frame | None = None
    block: Block | None = None
    outlives: bool = False
    """Whether it belongs to nothing, since the node in which it was started has ended."""


def _position_in_context() -> Position:
    frame, block = current_frame(), current_block()
    if block is not None and (frame is None or frame.block is not block):
        return Position(block=block)
    return Position(frame=frame, outlives=frame is None and frame_var.get() not in {None, NO_FRAME})


_finders: list[Callable[[], Position]] = [_position_in_context]


def find_positions_with(finder: Callable[[], Position]) -> None:
    """Makes ``finder`` answer `position`: it knows of more than the context."""
    _finders.append(finder)


def position() -> Position:
    """What the running code belongs to."""
    return _finders[-1]()


def reset_in_context(variable: ContextVar[Any], token: Token[Any]) -> bool:
    """Takes back the setting of a context variable; False, and no effect, in another context than that of the setting.

    A generator may be closed, and a dependency left, in another task or thread than the one that entered it. What the
    variable points to there has ended by then, and counts as none.
    """
    try:
        variable.reset(token)
    except ValueError:
        return False
    return True


def new_id() -> str:
    """An id that nothing else has: a UUID of version 7, so ids sort by the time at which they were made."""
    return str(uuid_utils.uuid7())


class PublisherRegistry:
    """The publishers of this process: how many there are, and which one is the default."""

    def __init__(self) -> None:
        self.count = 0
        """How many hubs are open. At 0 a decorated node is the plain node and looks no further."""
        self._defaults: list[Publisher] = []

    @property
    def default(self) -> Publisher | None:
        """The publisher that was activated last and is still active."""
        return self._defaults[-1] if self._defaults else None

    def activate(self, publisher: Publisher) -> None:
        """Makes ``publisher`` the default until it is deactivated."""
        self._defaults.append(publisher)

    def activations(self, publisher: Publisher) -> int:
        """How many activations of ``publisher`` there are."""
        return sum(each is publisher for each in self._defaults)

    def deactivate(self, publisher: Publisher) -> None:
        """Takes back one activation; a no-op when there is none."""
        for index in range(len(self._defaults) - 1, -1, -1):
            if self._defaults[index] is publisher:
                del self._defaults[index]
                return


publishers: Final = PublisherRegistry()
