"""The executions a hub writes to: found, made, counted, and forgotten in time."""

from __future__ import annotations

import itertools
import secrets
import threading
from typing import TYPE_CHECKING, Final

from lg_streaming.events import ROOM_PREFIX, check_execution_id
from lg_streaming.hub.appender import Appender
from lg_streaming.hub.drafts import Drafts
from lg_streaming.hub.execution import Execution
from lg_streaming.hub.signal import Signal
from lg_streaming.hub.statistics import Tally, no_updates
from lg_streaming.scope import new_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.codec import Redact
    from lg_streaming.events import Kind
    from lg_streaming.log.base import EventLog
    from lg_streaming.pipeline import TokenStreamingService
    from lg_streaming.scope import Trace
    from lg_streaming.settings import StreamingSettings

__all__ = ["Executions"]

_SWEEP_INTERVAL: Final = 30.0
_SHORTEST_SWEEP: Final = 0.05


class Executions:
    """What a hub knows of its executions: see `Runs`, which adds how their runs begin and end."""

    tokens: TokenStreamingService
    """The token streams: open ones, their statistics, and streams of your own."""

    def __init__(
        self, settings: StreamingSettings, log: EventLog, redact: Redact | None, clock: Callable[[], float]
    ) -> None:
        self.settings = settings
        self.log = log
        limits = settings.limits
        self._clock = clock
        self._new_id = new_id
        self._producer = secrets.token_hex(8)
        self._lives = itertools.count()
        self._executions: dict[str, Execution] = {}
        self._lock = threading.Lock()
        self._tally = Tally()
        self._drops = self._tally.drops
        self._drafts = Drafts(limits, redact, clock, self._tally)
        self._appender = Appender(log, settings, self._drafts, self._tally)
        self._closed = False
        self._stopping = False  # runs may go on to their ends, and none begins
        self._ends = Signal()  # told of every end
        self._sweep_interval = min(_SWEEP_INTERVAL, max(_SHORTEST_SWEEP, settings.retention.ttl / 2))
        self._swept_at = clock()
        self._sweep_at = self._swept_at + self._sweep_interval
        self._running: int = 0
        self._forgotten = no_updates()  # published to executions that were swept

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
        with self._lock:
            known = self._executions.get(execution_id)
            if known is None:
                producer = f"{self._producer}-{next(self._lives)}"
                known = self._executions[execution_id] = Execution(execution_id, producer, self._clock())
                if not execution_id.startswith(ROOM_PREFIX):
                    known.idle_timeout = self.settings.limits.idle_timeout or None
            return known

    def _published(self) -> dict[Kind, int]:
        """Updates given to the log so far, by kind."""
        published = dict(self._forgotten)
        for execution in list(self._executions.values()):
            for kind, count in execution.published.items():
                published[kind] += count
        return published

    # --- keeping house ------------------------------------------------------------------------------------

    def _sweep_now_and_then(self) -> None:
        now = self._clock()
        if not self._swept_at <= now < self._sweep_at:  # it is due, or the clock was set back
            self.sweep()

    def sweep(self) -> None:
        """Forgets what is past its time.

        It happens by itself with any use of the hub, at most once in 30 seconds or in half of ``retention.ttl``,
        whichever is shorter; a server also calls it.
        """
        self._swept_at = now = self._clock()
        self._sweep_at = now + self._sweep_interval
        retention = self.settings.retention
        for execution_id, execution in list(self._executions.items()):
            with execution.lock:
                # one that is owned is known as long as the log knows it: nobody else may open it meanwhile
                ttl = retention.ttl if execution.owner is None else retention.record_ttl
                over = not execution.running and now - execution.touched_at >= ttl
                if over and self._executions.pop(execution_id, None) is not None:
                    with self._lock:
                        for kind, count in execution.published.items():
                            self._forgotten[kind] += count
        self.tokens.sweep()
        self.log.trim()
