"""The one timer of the process: a scheduler for the delayed work of pipelines, activities and hubs.

Any number of nodes share one thread. It starts with the first action and ends when none has been scheduled for a while.
Actions must be short: they are the library's own work, never a user's.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import logging
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from reactivex.disposable import Disposable
from reactivex.scheduler.periodicscheduler import PeriodicScheduler

from lg_streaming.fork import new_condition, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from reactivex.abc import DisposableBase, ScheduledAction, SchedulerBase
    from reactivex.typing import AbsoluteTime, RelativeTime

__all__ = ["TIMER", "TimerScheduler", "current_timer", "use_scheduler"]

logger: logging.Logger = logging.getLogger(__name__)

State = TypeVar("State")

_LINGER: Final = 1.0
"""Seconds until the thread ends when no action is scheduled."""
_FEW: Final = 64


class _Entry:
    """A scheduled action. When it is cancelled, it holds no reference."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], object]) -> None:
        self.action: Callable[[], object] | None = action


class TimerScheduler(PeriodicScheduler):
    """A reactivex scheduler on one daemon thread, named ``lg-streaming-timer``.

    Its clock never goes back: a wait of 0.1 s takes 0.1 s, even when the computer's time changes.
    An action that raises is logged and disturbs no other.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._origin = datetime.now(UTC) - timedelta(seconds=clock())
        self._condition = new_condition()
        self.after_fork()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Start without entries: a forked process has those of its parent but not the thread."""
        self._heap: list[tuple[float, int, _Entry]] = []
        self._numbers = itertools.count()
        self._cancelled = 0
        self._thread: threading.Thread | None = None

    @property
    def now(self) -> datetime:
        """The present time in UTC, as far as it has come since the process began."""
        return self._origin + timedelta(seconds=self._clock())

    @property
    def waiting(self) -> int:
        """The number of scheduled actions."""
        with self._condition:
            return len(self._heap) - self._cancelled

    def schedule(self, action: ScheduledAction[State], state: State | None = None) -> DisposableBase:
        """Run ``action`` on the timer's thread as soon as possible."""
        return self._at(self._clock(), action, state)

    def schedule_relative(
        self, duetime: RelativeTime, action: ScheduledAction[State], state: State | None = None
    ) -> DisposableBase:
        """Run ``action`` after ``duetime`` seconds."""
        return self._at(self._clock() + max(0.0, self.to_seconds(duetime)), action, state)

    def schedule_absolute(
        self, duetime: AbsoluteTime, action: ScheduledAction[State], state: State | None = None
    ) -> DisposableBase:
        """Run ``action`` at ``duetime``."""
        return self._at((self.to_datetime(duetime) - self._origin).total_seconds(), action, state)

    def _at(self, due: float, action: ScheduledAction[Any], state: Any) -> DisposableBase:
        entry = _Entry(lambda: self.invoke_action(action, state))
        with self._condition:
            heapq.heappush(self._heap, (due, next(self._numbers), entry))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lg-streaming-timer", daemon=True)
                self._thread.start()
            elif self._heap[0][2] is entry:
                self._condition.notify()
        return Disposable(lambda: self._cancel(entry))

    def _cancel(self, entry: _Entry) -> None:
        with self._condition:
            if entry.action is None:
                return
            entry.action = None
            self._cancelled += 1
            if self._cancelled > _FEW and 2 * self._cancelled > len(self._heap):
                self._heap = [each for each in self._heap if each[2].action is not None]
                heapq.heapify(self._heap)
                self._cancelled = 0

    def _run(self) -> None:
        while self._do_next():
            pass

    def _do_next(self) -> bool:
        """Run the action that is due next, and drop it. Return False when the thread is to end."""
        action = self._next()
        if action is None:
            return False
        try:
            action()
        except Exception:
            logger.exception("an action of the timer failed")
        return True

    def _next(self) -> Callable[[], object] | None:
        """Return the action that is due next, when it is due; None when the thread is to end."""
        idle_since = self._clock()
        with self._condition:
            while True:
                now = self._clock()
                while self._heap and self._heap[0][2].action is None:
                    heapq.heappop(self._heap)
                    self._cancelled -= 1
                if not self._heap:
                    if now - idle_since >= _LINGER:
                        self._thread = None
                        return None
                    self._condition.wait(idle_since + _LINGER - now)
                elif self._heap[0][0] > now:
                    self._condition.wait(self._heap[0][0] - now)
                    idle_since = self._clock()
                else:
                    entry = heapq.heappop(self._heap)[2]
                    action, entry.action = entry.action, None
                    return action


TIMER: Final = TimerScheduler()
"""The timer of this process."""

_in_place: Final[list[SchedulerBase]] = [TIMER]


def current_timer() -> SchedulerBase:
    """Return the scheduler of pipelines: the process's timer, or a test's replacement."""
    return _in_place[-1]


@contextlib.contextmanager
def use_scheduler(scheduler: SchedulerBase) -> Generator[None]:
    """Let pipelines that begin in the block use ``scheduler``. With a ``TestScheduler``, time is virtual."""
    _in_place.append(scheduler)
    try:
        yield
    finally:
        _in_place.remove(scheduler)
