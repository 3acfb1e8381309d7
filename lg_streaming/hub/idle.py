"""End open runs that have been idle too long."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import HubClosedError
from lg_streaming.fork import new_lock, restart_after_fork
from lg_streaming.hub.due import DueQueue, void
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.hub.execution import Execution

__all__ = ["IdleMonitor"]

logger: logging.Logger = logging.getLogger(__name__)

_CHECKS: Final = 10
"""Checks of a run within its idle timeout."""
_SHORTEST: Final = 0.01
_LONGEST: Final = 30.0
_SLICE: Final = 100
"""The most runs that one call of the timer checks."""
_TICK: Final = 1e-4
"""Seconds by which a timer may fire early: its times are rounded."""


def _interval(timeout: float) -> float:
    """Return the seconds between two checks: a tenth of the timeout, at most 30."""
    return min(max(timeout / _CHECKS, _SHORTEST), _LONGEST)


class IdleMonitor:
    """Checks open runs with an idle timeout, on the one timer of the process.

    The cost of a check does not depend on the number of runs. Runs without an idle timeout cost nothing.
    The monitor works without an event loop, uses no thread, and holds only a weak reference to the method `end`.
    Its clock is monotonic.

    Args:
        end: `end(execution, timeout, now)`, called on the timer's thread. It ends a run that was idle for `timeout`
            seconds, and returns whether it did.
    """

    def __init__(self, end: Callable[[Execution, float, float], bool]) -> None:
        self._end = weakref.WeakMethod(end)
        self._timer = current_timer()
        self._lock = new_lock()
        self._checks: DueQueue[Execution] = DueQueue()
        self._next: float | None = None  # the time at which the timer fires
        self._cancel: Callable[[], None] | None = None
        self._closed = False
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop all checks: the runs and the timer's entries belong to the parent process."""
        self._checks = DueQueue()
        self._next = self._cancel = None

    def _now(self) -> float:
        return self._timer.to_seconds(self._timer.now)

    def watch(self, execution: Execution, timeout: float) -> None:
        """Check the open run of `execution`, which may be idle for `timeout` seconds. Thread-safe."""
        at = self._now() + _interval(timeout)
        planned = execution.idle_check
        if planned is not None and planned[0] <= at:
            return
        with self._lock:
            if not self._closed:
                self._plan(execution, at)
                self._reschedule()

    @staticmethod
    def forget(execution: Execution) -> None:
        """Stop watching a run that has ended. Thread-safe."""
        void(execution.idle_check)
        execution.idle_check = None

    def _plan(self, execution: Execution, at: float) -> None:
        """Plan a check at this time, if none is planned earlier. Requires the lock."""
        planned = execution.idle_check
        if planned is None or planned[0] > at:
            void(planned)
            execution.idle_check = self._checks.add(at, execution)

    def _reschedule(self) -> None:
        """Set the timer to the first check. Requires the lock."""
        first = self._checks.first
        if first is None or (self._next is not None and self._next <= first):
            return
        if self._cancel is not None:
            self._cancel()
        self._next = first
        self._cancel = self._timer.schedule_relative(max(0.0, first - self._now()), self._tick).dispose

    def close(self) -> None:
        """Stop all checks. Harmless when repeated."""
        with self._lock:
            self._closed = True
            self._forget_all()

    def reopen(self) -> None:
        """Watch runs again, after `close`."""
        self._timer, self._closed = current_timer(), False

    def _forget_all(self) -> None:
        if self._cancel is not None:
            self._cancel()
        self._next = self._cancel = None
        self._checks = DueQueue()

    def _tick(self, *_args: object) -> None:
        now = self._now()
        with self._lock:
            self._next = self._cancel = None
        for _ in range(_SLICE):
            with self._lock:
                entry = self._checks.pop(now + _TICK)
            if entry is None:
                break
            execution = entry[2]
            if execution is None:
                continue
            execution.idle_check = None
            if not self._check(execution, now):
                with self._lock:
                    self._forget_all()
                return
        with self._lock:
            if not self._closed:
                self._reschedule()

    def _check(self, execution: Execution, now: float) -> bool:
        """End an idle run, or plan its next check; return whether the owner of the method `end` still exists."""
        end, timeout = self._end(), execution.idle_timeout
        if end is None:
            return False
        if timeout is None or not execution.running:
            return True
        try:
            if end(execution, timeout, now):
                return True
        except HubClosedError:
            return False
        except Exception:
            logger.exception("the idle run of execution %r could not be ended", execution.execution_id)
        with self._lock:
            if not self._closed:
                self._plan(execution, now + _interval(timeout))
        return True
