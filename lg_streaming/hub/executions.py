"""The executions a hub writes to: found, made, counted, and forgotten in time."""

from __future__ import annotations

import itertools
import secrets
from typing import TYPE_CHECKING, Final

from lg_streaming.events import ROOM_PREFIX, check_execution_id
from lg_streaming.fork import new_rlock, release_owned
from lg_streaming.hub.appender import LogAppender
from lg_streaming.hub.drafts import UpdateEncoder
from lg_streaming.hub.due import Due, void
from lg_streaming.hub.execution import Execution
from lg_streaming.hub.notifier import Notifier
from lg_streaming.hub.statistics import Counters
from lg_streaming.log.memory import MemoryLog
from lg_streaming.publisher import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.codec import Redact
    from lg_streaming.hub.due import Entry
    from lg_streaming.log.base import EventLog
    from lg_streaming.pipeline import TokenStreamingService
    from lg_streaming.publisher import Trace
    from lg_streaming.settings import StreamingSettings

__all__ = ["Executions"]

_SWEEP_INTERVAL: Final = 30.0
_SHORTEST_SWEEP: Final = 0.05
_SLICE: Final = 64
"""Executions that one use of the hub looks at, at most."""


class Executions:
    """What a hub knows of its executions: see `Runs`, which adds how their runs begin and end."""

    tokens: TokenStreamingService
    """The token streams: open ones, their statistics, and streams of your own."""

    def __init__(
        self,
        settings: StreamingSettings,
        log: EventLog,
        redact: Redact | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.log = log
        limits = settings.limits
        self._clock = clock
        self._monotonic = monotonic
        self._new_id = new_id
        self._producer = secrets.token_hex(8)
        self._lives = itertools.count()
        self._executions: dict[str, Execution] = {}
        self._open_runs: dict[str, Execution] = {}
        self._due = Due()  # when each may be forgotten, at the soonest
        self._lock = new_rlock()
        self._tally = Counters()
        self._drops = self._tally.drops
        self._drafts = UpdateEncoder(limits, redact, clock, self._tally, monotonic)
        self._appender = LogAppender(log, settings, self._drafts, self._tally, monotonic)
        self._closed = False
        self._stopping = False  # runs may go on to their ends, and none begins
        self._ends = Notifier()  # told of every end
        self._sweep_interval = min(_SWEEP_INTERVAL, max(_SHORTEST_SWEEP, settings.retention.ttl / 2))
        self._sweep_at = monotonic() + self._sweep_interval
        self._knows_owners = isinstance(log, MemoryLog)

    def _forget_runs(self) -> None:
        """Forget the parent's runs, which go on there. This hub gets another id."""
        self._producer = secrets.token_hex(8)
        self._lives = itertools.count()
        self._executions.clear()
        self._open_runs.clear()
        self._due = Due()
        self._ends = Notifier()

    @property
    def debug(self) -> bool:
        """Whether stack traces may leave (``settings.debug``)."""
        return self.settings.debug

    @property
    def trace(self) -> Trace | None:
        """Who follows the runs and nodes of this hub; None when nobody does."""
        return self._drafts.trace

    @trace.setter
    def trace(self, trace: Trace | None) -> None:
        self._drafts.trace = trace

    @property
    def _running(self) -> int:
        """How many runs are open."""
        return len(self._open_runs)

    @property
    def id(self) -> str:
        """Names this hub; no other has the same."""
        return self._producer

    def open_run(self, execution_id: str) -> str | None:
        """The id of the open run; None where none is."""
        execution = self._executions.get(execution_id)
        return execution.run_id if execution is not None else None

    def is_running(self, execution_id: str) -> bool:
        """Whether a run of the execution is open."""
        execution = self._executions.get(execution_id)
        return execution is not None and execution.running

    def _execution(self, execution_id: str) -> Execution:
        known = self._executions.get(execution_id)
        if known is not None:
            return known
        check_execution_id(execution_id)
        self._sweep_now_and_then()
        try:
            return self._made(execution_id)
        except BaseException:
            release_owned(self._lock)
            raise

    def _made(self, execution_id: str) -> Execution:
        with self._lock:
            known = self._executions.get(execution_id)
            if known is None:
                producer = f"{self._producer}-{next(self._lives)}"
                known = Execution(execution_id, producer, self._clock(), self._monotonic())
                if not execution_id.startswith(ROOM_PREFIX):
                    known.idle_timeout = self.settings.limits.idle_timeout or None
                if isinstance(self.log, MemoryLog):
                    known.owner = self.log.get_owner(execution_id)
                known.due = self._due.add(known.used_at + self._keeps(known), known)
                self._executions[execution_id] = known
            return known

    def _forget(self, execution: Execution) -> None:
        """Under the hub's lock."""
        self._executions.pop(execution.execution_id, None)
        void(execution.due)
        execution.due = None

    def _keeps(self, execution: Execution) -> float:
        """Seconds after which an execution without an open run is forgotten.

        Another owner may not open it as long as the log knows it. Where the log cannot tell its owner at once, the hub
        remembers.
        """
        retention = self.settings.retention
        return retention.ttl if execution.owner is None or self._knows_owners else retention.record_ttl

    def _open_again(self) -> None:
        """Begins with no execution, as a new hub does. See `StreamHub.restart`."""
        before = list(self._executions.values())
        self._executions.clear()
        for execution in before:
            with execution.lock:  # a thread that still holds it finds its run ended
                execution.end("abandoned")
        with self._lock:
            self._open_runs.clear()
            self._due = Due()
            self._appender = LogAppender(self.log, self.settings, self._drafts, self._tally, self._monotonic)
            self._closed = self._stopping = False

    # --- keeping house ------------------------------------------------------------------------------------

    def _sweep_now_and_then(self) -> None:
        if self._monotonic() >= self._sweep_at:
            self._sweep_slice()

    def _sweep_slice(self) -> None:
        """Forgets some of what is past its time; the next use of the hub goes on where more is due."""
        self._sweep_at = self._monotonic() + self._sweep_interval  # other threads need not come as well
        if self.sweep(_SLICE):
            self._sweep_at = self._monotonic()

    def sweep(self, limit: int | None = None) -> bool:
        """Forgets what is past its time, and looks at nothing else.

        It happens by itself with any use of the hub, in slices of less than a millisecond, every 30 seconds or half of
        ``retention.ttl``, whichever is shorter; a server also calls it.

        Args:
            limit: The most executions to look at; None for all that are due.

        Returns:
            Whether more is due.
        """
        now = self._monotonic()
        if limit is None:
            self._sweep_at = now + self._sweep_interval
        left = itertools.repeat(None) if limit is None else itertools.repeat(None, limit)
        more = False
        for _ in left:
            with self._lock:
                entry = self._due.pop(now)
            more = entry is not None
            if entry is None:
                break
            self._sweep_one(entry, now)
        self.tokens.sweep()
        return self.log.trim(limit) or more

    def _sweep_one(self, entry: Entry, now: float) -> None:
        execution: Execution | None = entry[2]
        if execution is None or self._executions.get(execution.execution_id) is not execution:
            return
        with execution.lock:
            keeps = self._keeps(execution)
            due = now + keeps if execution.running else execution.used_at + keeps
            with self._lock:
                if execution.due is not entry:
                    return
                if due <= now:
                    self._forget(execution)
                else:
                    execution.due = self._due.add(due, execution)
