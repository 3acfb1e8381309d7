"""What there is in a hub: its executions, and how it is itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from lg_streaming.codec import to_datetime
from lg_streaming.errors import BadRequestError
from lg_streaming.hub.attachments import Sinks
from lg_streaming.hub.control import Control
from lg_streaming.log.base import ExecutionState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from lg_streaming.events import Priority
    from lg_streaming.hub.execution import Execution

__all__ = ["ExecutionInfo", "HubHealth", "Overview"]


_STATES: Final = frozenset[str](get_args(ExecutionState))
_OPEN: Final = frozenset({"running", "interrupted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionInfo:
    """What a hub knows of an execution that it writes to, at one moment."""

    execution_id: str
    state: ExecutionState
    """How its open run is, or its last one ended. ``interrupted``: it waits for a human, and nobody is at work."""
    owner: str | None
    priority: Priority
    """Of updates for which neither their publisher nor their type names one."""
    metadata: Mapping[str, Any]
    """What the open run, or the last one, was opened with; as it was given, not redacted."""
    run_id: str | None
    """The open run; None when none is."""
    idle_timeout: float | None
    """Seconds after which a run ends in which nothing happens; None for never."""
    started_at: datetime
    """When the open run, or the last one, was opened; in UTC."""
    updated_at: datetime
    """When it had its last update, in UTC."""
    updates: int
    """Updates published to it through this hub, over all its runs."""
    readers: int
    """Subscriptions that read it now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubHealth:
    """How a hub is, at one moment."""

    status: Literal["ok", "log_unavailable", "closed"]
    """``log_unavailable``: updates wait, because the log did not take the last one it was given."""
    hub_id: str
    executions: int
    """Executions it has written to and not forgotten."""
    running: int
    """Of these, the ones with an open run."""
    max_executions: int | None
    """How many may be running; None for no limit."""
    subscriptions: int


class Overview(Control, Sinks):
    """Both sides of a hub, seen together: see `StreamHub`."""

    def _before_reading(self) -> None:
        self._sweep_now_and_then()

    def executions(self, state: ExecutionState | Iterable[ExecutionState] | None = None) -> list[ExecutionInfo]:
        """The executions this hub has written to and not forgotten, the one that was first first.

        An execution is forgotten `retention.ttl` seconds after its last update, when no run of it is open; what the log
        still has of it is told by `describe`, and the executions in the log by ``hub.log.executions()``.

        It takes time for each execution that it looks at: for the open ones alone where ``state`` asks for no others.

        Args:
            state: Only those in this state, or in one of these; None for all.

        Raises:
            BadRequestError: There is no such state.
        """
        wanted = {state} if isinstance(state, str) else None if state is None else set(state)
        if unknown := (wanted or set()) - _STATES:
            states = ", ".join(get_args(ExecutionState))
            raise BadRequestError(f"{', '.join(map(repr, unknown))} is no state: use some of {states}")
        self._sweep_now_and_then()
        running = wanted is not None and wanted <= _OPEN
        infos = (self._info(each) for each in list((self._open_runs if running else self._executions).values()))
        return [info for info in infos if info is not None and (wanted is None or info.state in wanted)]

    def info(self, execution_id: str) -> ExecutionInfo | None:
        """What this hub knows of an execution it writes to; None where it has written nothing, or forgotten it."""
        self._sweep_now_and_then()
        execution = self._executions.get(execution_id)
        return None if execution is None else self._info(execution)

    def _info(self, execution: Execution) -> ExecutionInfo | None:
        signal = self._signals.get(execution.execution_id)
        with execution.lock:
            state = execution.state
            if state is None:
                return None
            return ExecutionInfo(
                execution_id=execution.execution_id,
                state=state,
                owner=execution.owner,
                priority=execution.priority,
                metadata=dict(execution.metadata),
                run_id=execution.run_id,
                idle_timeout=execution.idle_timeout,
                started_at=to_datetime(execution.started_at),
                updated_at=to_datetime(execution.touched_at),
                updates=execution.updates,
                readers=0 if signal is None else signal.readers,
            )

    def health(self) -> HubHealth:
        """How the hub is. It asks nobody, so it is quick; whether the log can be read is for `describe` to find out."""
        self._sweep_now_and_then()
        writer = self._appender.writer
        failing = writer is not None and writer.failing
        return HubHealth(
            status="closed" if self._closed else "log_unavailable" if failing else "ok",
            hub_id=self.id,
            executions=len(self._executions),
            running=self._running,
            max_executions=self.settings.limits.max_executions,
            subscriptions=len(self._subscriptions),
        )
