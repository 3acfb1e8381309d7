"""Interface of a publisher of updates, and the publishers of this process.

An activated module is the default of the process, for code outside of execution blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

import uuid_utils

from lg_streaming.events import FINAL_TYPES, NO_SCOPE, Delivery, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lg_streaming.events import Priority
    from lg_streaming.settings import NodeDefaults
    from lg_streaming.token_streams import OpenTokenStreams

__all__ = [
    "NO_SCOPE",
    "TRACED",
    "CancelTarget",
    "Delivery",
    "LargeUpdates",
    "LiveDefaults",
    "OnMissingRun",
    "Publisher",
    "RunOutcome",
    "RunTracker",
    "Scope",
    "Trace",
    "UpdateRequest",
    "new_id",
    "publishers",
]


OnMissingRun = Literal["open", "drop", "raise"]
"""The handling of an update without an open run: open a run, drop and count the update, or raise
`ExecutionNotFoundError`."""


LargeUpdates = Literal["refuse", "shorten"]
"""The handling of an update over ``limits.update_bytes`` that is no text: refuse it with `UpdateTooLargeError`, or
shorten it. Text is always split."""


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
    """The outcome of a run, or of one participant."""

    type: str
    """A final type, or ``workflow_interrupted``: the run waits for a human and has not ended."""
    data: Mapping[str, Any]


class LiveDefaults:
    """The decorators' defaults of one execution, which may change while it runs.

    A user keeps `version`, and reads `current` again after `version` has changed. That costs one comparison.
    """

    __slots__ = ("current", "version")

    def __init__(self, current: NodeDefaults) -> None:
        self.current: NodeDefaults = current
        self.version: int = 0

    def change(self, current: NodeDefaults) -> None:
        """Replace the defaults."""
        self.current = current
        self.version += 1


class Trace(Protocol):
    """Follows runs and nodes from start to end. Its methods never raise."""

    def on_update(self, execution_id: str, type: str, scope: Scope, error: Mapping[str, Any] | None) -> Scope:
        """Handle an update of one of `TRACED` before it is published.

        Args:
            execution_id: Its execution.
            type: Its type.
            scope: Its scope.
            error: The redacted error; None without one.

        Returns:
            The scope to publish it with.
        """
        ...

    def enter(self, scope: Scope) -> Callable[[], None]:
        """Put the node of ``scope`` in force in the present context; return a function that ends that."""
        ...

    def close(self) -> None:
        """End the trace. Harmless when repeated."""
        ...


TRACED: Final = FINAL_TYPES | {
    "workflow_start",
    "workflow_interrupted",
    "node_start",
    "node_complete",
    "node_error",
    "node_interrupted",
}
"""Types of updates that mark the start or the end of a run or a node."""


class CancelTarget(Protocol):
    """Code of a run that can be cancelled: a graph call, or an execution block."""

    def cancel(self, reason: str | None) -> None:
        """Stop the code as soon as possible. Called at most once for each run, on any thread; it must not block."""
        ...

    def still_running(self) -> Sequence[str]:
        """Return the ids of the nodes that are at work and could not be stopped."""
        ...


class RunTracker(Protocol):
    """Runs of executions, as emitters and captured graphs join and leave them. Synchronous and thread-safe."""

    def join_run(
        self,
        execution_id: str,
        *,
        owner: str | None = None,
        name: str | None = None,
        title: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        priority: Priority | None = None,
        parent: Mapping[str, Any] | None = None,
    ) -> str:
        """Join the execution's open run, or open one; return its id."""
        ...

    def resume_run(self, execution_id: str) -> str | None:
        """Join the open run if it is interrupted, and return its id; otherwise return None."""
        ...

    def begin_run(
        self, execution_id: str, *, name: str | None = None, metadata: Mapping[str, Any] | None = None
    ) -> str | None:
        """Open a run, join it and return its id; return None if a run is open."""
        ...

    def run_of(self, execution_id: str, missing: OnMissingRun | None = None) -> str | None:
        """Return the id of the open run. Without one: open a run, return None, or raise `ExecutionNotFoundError`."""
        ...

    def current_run_id(self, execution_id: str) -> str | None:
        """Return the id of the open run, or None."""
        ...

    def leave_run(self, execution_id: str, run_id: str, outcome: RunOutcome, *, joined: bool = True) -> None:
        """Leave a run; the last participant ends it with its outcome. A caller may leave that had not ``joined``."""
        ...

    def on_cancel(
        self, execution_id: str, run_id: str, target: CancelTarget, *, if_abandoned: bool = False
    ) -> Callable[[], None]:
        """Cancel ``target`` with the run, at once if that is cancelled already; return a function that undoes this.

        Args:
            execution_id: The execution.
            run_id: Its run.
            target: The code to cancel.
            if_abandoned: Whether to cancel it too when the log refuses the run.
        """
        ...

    def keep_alive(self, execution_id: str, run_id: str) -> Callable[[], None]:
        """Keep the run from ending as idle, until the returned function is called, once."""
        ...

    def pause(self, execution_id: str, run_id: str, task: str, interrupts: Sequence[Mapping[str, Any]] = ()) -> None:
        """Mark ``task`` as waiting for a human. The run cannot complete before the task is tried again."""
        ...

    def note_interrupted_tool(self, execution_id: str, tool_call_id: str, interrupt_ids: Iterable[str]) -> None:
        """Remember the tool call that asks at these interrupts."""
        ...

    def next_attempt(self, execution_id: str, task: str) -> int:
        """Count an attempt of ``task`` in the open run; return its number, from 1."""
        ...

    def note_message(self, execution_id: str, message_id: str, namespace: str | None) -> None:
        """Remember the namespace in which a message was streamed."""
        ...

    def is_streamed(self, execution_id: str, message_id: str, *, except_in: str | None) -> bool:
        """Return whether a message was streamed in another namespace than ``except_in``."""
        ...

    def is_silent(self, execution_id: str, run_id: str) -> bool:
        """Return whether the run has no update but its start."""
        ...


class Publisher(Protocol):
    """Publishes the updates of emitters. Every method is synchronous and thread-safe, and never waits for I/O."""

    @property
    def runs(self) -> RunTracker:
        """The runs of its executions."""
        ...

    @property
    def debug(self) -> bool:
        """Return whether stack traces may be published."""
        ...

    @property
    def capture_plan(self) -> object | None:
        """The plan of nodes to capture in addition to decorated ones, see `capture.configured_plan`; None: none."""
        ...

    @property
    def token_streams(self) -> OpenTokenStreams:
        """The registry of the open token streams of its nodes."""
        ...

    @property
    def trace(self) -> Trace | None:
        """The trace of runs and nodes; None without tracing."""
        ...

    def defaults(self, execution_id: str) -> LiveDefaults:
        """Return the decorators' defaults of an execution."""
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
        """Append one update."""
        ...

    def publish_all(
        self, execution_id: str, updates: Sequence[UpdateRequest], *, large: LargeUpdates | None = None
    ) -> None:
        """Append several updates, without other updates between them."""
        ...

    def encode(self, data: object) -> bytes:
        """Return ``data`` as JSON, as it is now. A later publish is not affected by changes of the object."""
        ...

    def redact(self, type: str, data: object) -> Any:
        """Return an update's data as the application's ``redact`` leaves it, as plain JSON values if it has one."""
        ...

    def note_refused(self, execution_id: str, type: str, error: Exception) -> None:
        """Count and log an update that was refused where no error may be raised."""
        ...

    def note_failure(self) -> None:
        """Count an exception of one of the user's own callables."""
        ...


def new_id() -> str:
    """Return a UUID of version 7. Such ids sort by the time of their making."""
    return str(uuid_utils.uuid7())


class PublisherRegistry:
    """The publishers of this process, and the activated ones among them."""

    def __init__(self) -> None:
        self.count = 0
        """The number of open hubs. At 0 a decorated node is the plain node and does no lookup."""
        self._activated: list[tuple[Publisher, object]] = []

    @property
    def default(self) -> Publisher | None:
        """The publisher that was activated last and is still active."""
        return self._activated[-1][0] if self._activated else None

    @property
    def default_owner(self) -> object:
        """The owner of the default publisher; None without one."""
        return self._activated[-1][1] if self._activated else None

    def activate(self, publisher: Publisher, owner: object = None) -> None:
        """Make ``publisher`` the default until it is deactivated.

        Args:
            publisher: The publisher.
            owner: The object that `default_owner` returns.
        """
        self._activated.append((publisher, owner))

    def owners(self, publisher: Publisher) -> list[object]:
        """Return the owner of each activation of ``publisher``, oldest first."""
        return [owner for each, owner in self._activated if each is publisher]

    def deactivate(self, publisher: Publisher) -> None:
        """Undo the last activation of ``publisher``; a no-op without one."""
        for index in range(len(self._activated) - 1, -1, -1):
            if self._activated[index][0] is publisher:
                del self._activated[index]
                return


publishers: Final = PublisherRegistry()
