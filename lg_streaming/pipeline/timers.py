"""One timer thread for the whole process: what has to happen later is scheduled here."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from reactivex.disposable import Disposable
from reactivex.scheduler.scheduler import Scheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from reactivex.abc import DisposableBase, SchedulerBase

__all__ = ["SharedTimer", "current_timer", "timed_by"]

logger = logging.getLogger(__name__)

_COMPACT: Final = 64
"""Cancelled entries that may lie in the queue beside as many live ones."""


class SharedTimer(Scheduler):
    """A reactivex scheduler on one daemon thread, started when needed and ended ``linger`` seconds after the last use.

    Thread-safe. Its clock never jumps, as the wall clock may. Actions must be short: they share the thread; one
    that raises is logged and ends nothing.
    """

    def __init__(self, *, linger: float = 0.2) -> None:
        self._linger = linger
        self._epoch = datetime.now(UTC) - timedelta(seconds=time.monotonic())
        self._queue: list[tuple[float, int, list[Callable[[], Any]]]] = []
        self._numbers = itertools.count()
        self._live = 0
        self._condition = threading.Condition()
        self._thread: threading.Thread | None = None

    @property
    def now(self) -> datetime:
        """The time, in UTC, counted on from when the timer was made."""
        return self._epoch + timedelta(seconds=time.monotonic())

    @property
    def waiting(self) -> int:
        """Actions that are scheduled."""
        return self._live

    def schedule(self, action: Any, state: Any = None) -> DisposableBase:
        """Runs ``action(scheduler, state)`` on the timer's thread, now."""
        return self.schedule_relative(0.0, action, state)

    def schedule_absolute(self, duetime: Any, action: Any, state: Any = None) -> DisposableBase:
        """Runs it at a time of this scheduler's clock."""
        return self.schedule_relative(self.to_datetime(duetime) - self.now, action, state)

    def schedule_relative(self, duetime: Any, action: Any, state: Any = None) -> DisposableBase:
        """Runs it in ``duetime`` seconds. Disposing of what is returned takes that back."""
        entry: list[Callable[[], Any]] = [lambda: action(self, state)]
        due = time.monotonic() + max(0.0, self.to_seconds(duetime))
        with self._condition:
            heapq.heappush(self._queue, (due, next(self._numbers), entry))
            self._live += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lg-streaming-timer", daemon=True)
                self._thread.start()
            elif self._queue[0][2] is entry:
                self._condition.notify()
        return Disposable(lambda: self._cancel(entry))

    def _cancel(self, entry: list[Callable[[], Any]]) -> None:
        with self._condition:
            if not entry:
                return
            entry.clear()
            self._live -= 1
            if len(self._queue) > 2 * self._live + _COMPACT or not self._live:
                self._queue = [kept for kept in self._queue if kept[2]]
                heapq.heapify(self._queue)
                self._condition.notify()

    def _run(self) -> None:
        while (action := self._next()) is not None:
            try:
                action()
            except Exception:
                logger.exception("a timed action failed")

    def _next(self) -> Callable[[], Any] | None:
        """The next action, when it is due; None when the thread is to end."""
        with self._condition:
            while True:
                while self._queue and not self._queue[0][2]:
                    heapq.heappop(self._queue)
                if self._queue:
                    left = self._queue[0][0] - time.monotonic()
                    if left <= 0:
                        self._live -= 1
                        return heapq.heappop(self._queue)[2].pop()
                    self._condition.wait(left)
                elif not self._condition.wait(self._linger) and not self._queue:
                    self._thread = None
                    return None


_in_force: list[SchedulerBase] = [SharedTimer()]


def current_timer() -> SchedulerBase:
    """The scheduler of everything timed in this process: its clock and its timers."""
    return _in_force[-1]


@contextlib.contextmanager
def timed_by(scheduler: SchedulerBase) -> Generator[None]:
    """For tests: ``scheduler`` (a ``reactivex.testing.TestScheduler``) in its place, for nodes that start inside."""
    _in_force.append(scheduler)
    try:
        yield
    finally:
        _in_force.remove(scheduler)
