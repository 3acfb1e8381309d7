"""The executions that a hub writes to: look up, create, sweep and forget."""

from __future__ import annotations

import itertools
import secrets
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import HubClosedError
from lg_streaming.events import ROOM_PREFIX, check_execution_id
from lg_streaming.fork import new_rlock, release_owned, restart_after_fork
from lg_streaming.hub.due import DueQueue, void
from lg_streaming.hub.execution import Execution
from lg_streaming.hub.notifier import Notifier
from lg_streaming.hub.run_listeners import RunListeners
from lg_streaming.log.memory import MemoryLog

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from lg_streaming.hub.due import Entry
    from lg_streaming.log.base import EventLog
    from lg_streaming.settings import StreamingSettings

__all__ = ["ExecutionRegistry"]

_SWEEP_INTERVAL: Final = 30.0
_SHORTEST_SWEEP: Final = 0.05
_SLICE: Final = 64
"""The most executions that one use of the hub checks."""


class ExecutionRegistry:
    """A hub's executions by id, their lock, and the sweep that forgets them.

    Args:
        settings: Retention, and the idle timeout of new executions.
        log: The log, which is trimmed with each sweep.
        clock: Seconds since 1970.
        monotonic: Seconds that never go back, for retention and sweeps.
    """

    def __init__(
        self,
        settings: StreamingSettings,
        log: EventLog,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.log = log
        self.clock = clock
        self.monotonic = monotonic
        self.lock: threading.RLock = new_rlock()
        """Guards `executions`, `open_runs`, `closed` and `stopping`. An execution's own lock is taken first."""
        self.executions: dict[str, Execution] = {}
        """The executions by id; always the same dictionary."""
        self.open_runs: dict[str, Execution] = {}
        """The executions with an open run, by id; always the same dictionary."""
        self.run_ended: Notifier = Notifier()
        """Notified of each end of a run."""
        self.run_listeners: RunListeners = RunListeners()
        """Listeners above the hub: see `RunListener`."""
        self.closed: bool = False
        self.stopping: bool = False
        """True if no run may begin. Open runs may still end."""
        self._sweep_interval = min(_SWEEP_INTERVAL, max(_SHORTEST_SWEEP, settings.retention.ttl / 2))
        self.sweep_at: float = monotonic() + self._sweep_interval
        """The time of the next sweep."""
        self._has_owners = isinstance(log, MemoryLog)
        self._start_empty()
        restart_after_fork(self)

    def _start_empty(self) -> None:
        self.hub_id: str = secrets.token_hex(8)
        """The id of the hub; unique across processes."""
        self._lives = itertools.count()
        self._due: DueQueue[Execution] = DueQueue()  # the earliest time at which each execution may be forgotten

    def after_fork(self) -> None:
        """Drop the runs of the parent process, which continue there. The hub gets a new id."""
        self.executions.clear()
        self.open_runs.clear()
        self.run_ended = Notifier()
        self._start_empty()

    def ensure_open(self) -> None:
        """Check that the hub is open.

        Raises:
            HubClosedError: If it was closed.
        """
        if self.closed:
            raise HubClosedError

    def is_running(self, execution_id: str) -> bool:
        """Return whether a run of the execution is open."""
        execution = self.executions.get(execution_id)
        return execution is not None and execution.running

    def get_or_create(self, execution_id: str) -> Execution:
        """Return the execution, which is created if needed.

        Raises:
            BadRequestError: If the id cannot name an execution.
        """
        existing = self.executions.get(execution_id)
        if existing is not None:
            return existing
        check_execution_id(execution_id)
        self.maybe_sweep()
        try:
            return self._create(execution_id)
        except BaseException:
            release_owned(self.lock)
            raise

    def _create(self, execution_id: str) -> Execution:
        with self.lock:
            execution = self.executions.get(execution_id)
            if execution is None:
                producer = f"{self.hub_id}-{next(self._lives)}"
                execution = Execution(execution_id, producer, self.clock(), self.monotonic())
                if not execution_id.startswith(ROOM_PREFIX):
                    execution.idle_timeout = self.settings.limits.idle_timeout or None
                if isinstance(self.log, MemoryLog):
                    execution.owner = self.log.get_owner(execution_id)
                execution.due = self._due.add(execution.used_at + self._retention(execution), execution)
                self.executions[execution_id] = execution
            return execution

    def forget(self, execution: Execution) -> None:
        """Remove an execution. Requires `lock`."""
        self.executions.pop(execution.execution_id, None)
        void(execution.due)
        execution.due = None

    def _retention(self, execution: Execution) -> float:
        """Return the seconds after which an execution without an open run is forgotten.

        Another owner may not open it while the log still has it. A log that cannot return the owner at once makes the
        hub remember the owner for as long.
        """
        retention = self.settings.retention
        return retention.ttl if execution.owner is None or self._has_owners else retention.record_ttl

    def reopen(self) -> None:
        """Start without executions, as a new hub does."""
        before = list(self.executions.values())
        self.executions.clear()
        for execution in before:
            with execution.lock:  # a thread that still holds the execution finds its run ended
                execution.end("abandoned")
        with self.lock:
            self.open_runs.clear()
            self._due = DueQueue()
            self.closed = self.stopping = False

    # --- sweeping -----------------------------------------------------------------------------------------

    def maybe_sweep(self) -> None:
        """Sweep a slice if it is time; the next call continues where more is due."""
        if self.monotonic() < self.sweep_at:
            return
        self.sweep_at = self.monotonic() + self._sweep_interval  # keeps other threads from sweeping too
        if self.sweep(_SLICE):
            self.sweep_at = self.monotonic()

    def sweep(self, limit: int | None = None) -> bool:
        """Forget executions that are past their retention.

        Each use of the hub may sweep a slice, which takes less than a millisecond. The interval is 30 seconds, or half
        of ``retention.ttl`` if that is shorter. A server calls this method as well.

        Args:
            limit: The most executions to check; None for all that are due.

        Returns:
            Whether more is due.
        """
        now = self.monotonic()
        if limit is None:
            self.sweep_at = now + self._sweep_interval
        more = False
        for _ in itertools.repeat(None) if limit is None else itertools.repeat(None, limit):
            with self.lock:
                entry = self._due.pop(now)
            more = entry is not None
            if entry is None:
                break
            self._sweep_one(entry, now)
        self.run_listeners.sweep()
        return self.log.trim(limit) or more

    def _sweep_one(self, entry: Entry, now: float) -> None:
        execution: Execution | None = entry[2]
        if execution is None or self.executions.get(execution.execution_id) is not execution:
            return
        with execution.lock:
            retention = self._retention(execution)
            in_use = execution.running or execution.queue is not None
            due = now + retention if in_use else execution.used_at + retention
            with self.lock:
                if execution.due is not entry:
                    return
                if due <= now:
                    self.forget(execution)
                else:
                    execution.due = self._due.add(due, execution)
