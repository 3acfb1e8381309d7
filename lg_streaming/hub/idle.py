"""Looks at open runs now and then, so that those in which nothing happens any more come to an end."""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import HubClosedError
from lg_streaming.fork import new_lock, restart_after_fork
from lg_streaming.hub.due import Due, void
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.hub.execution import Execution

__all__ = ["IdleMonitor"]

logger: logging.Logger = logging.getLogger(__name__)

_LOOKS: Final = 10
_SHORTEST: Final = 0.01
_LONGEST: Final = 30.0
_SLICE: Final = 100
"""Runs that the timer looks at in one go, before it does what else is due."""
_TICK: Final = 1e-4
"""Seconds by which a timer may come early: its times are rounded."""


def _interval(timeout: float) -> float:
    """Seconds between two looks: a tenth of the timeout, at most 30."""
    return min(max(timeout / _LOOKS, _SHORTEST), _LONGEST)


class IdleMonitor:
    """Looks at each open run now and then, on the one timer of the process, as long as there are some that may end so.

    A look costs as much among ten runs as among a million, and runs that may not end so, or have ended, cost nothing.
    It works with and without an event loop, needs no thread of its own, and does not keep the hub alive. Its time never
    goes back and does not jump when the computer's clock is set.

    Args:
        end: `end(execution, timeout, now)`, called on the timer's thread: ends the run if nothing has happened in it
            for `timeout` seconds, and returns whether it did.
    """

    def __init__(self, end: Callable[[Execution, float, float], bool]) -> None:
        self._end = weakref.WeakMethod(end)
        self._timer = current_timer()
        self._lock = new_lock()
        self._looks = Due()
        self._next: float | None = None  # when the timer comes
        self._cancel: Callable[[], None] | None = None
        self._closed = False
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget all looks: the runs and the timer's entries are the parent's."""
        self._looks = Due()
        self._next = self._cancel = None

    def _now(self) -> float:
        return self._timer.to_seconds(self._timer.now)

    def watch(self, execution: Execution, timeout: float) -> None:
        """The open run of `execution` may end so after `timeout` seconds. From any thread."""
        at = self._now() + _interval(timeout)
        known = execution.look
        if known is not None and known[0] <= at:
            return
        with self._lock:
            if not self._closed:
                self._put(execution, at)
                self._schedule()

    @staticmethod
    def forget(execution: Execution) -> None:
        """Stop watching a run that has ended. Thread-safe."""
        void(execution.look)
        execution.look = None

    def _put(self, execution: Execution, at: float) -> None:
        """Looks at `execution` at this time, or sooner where that is planned. Under the lock."""
        known = execution.look
        if known is None or known[0] > at:
            void(known)
            execution.look = self._looks.add(at, execution)

    def _schedule(self) -> None:
        """Has the timer come for the first look. Under the lock."""
        first = self._looks.first
        if first is None or (self._next is not None and self._next <= first):
            return
        if self._cancel is not None:
            self._cancel()
        self._next = first
        self._cancel = self._timer.schedule_relative(max(0.0, first - self._now()), self._turn).dispose

    def close(self) -> None:
        """Nothing is looked at any more. Harmless when repeated."""
        with self._lock:
            self._closed = True
            self._forget_all()

    def _forget_all(self) -> None:
        if self._cancel is not None:
            self._cancel()
        self._next = self._cancel = None
        self._looks = Due()

    def _turn(self, *_args: object) -> None:
        now = self._now()
        with self._lock:
            self._next = self._cancel = None
        for _look in range(_SLICE):
            with self._lock:
                entry = self._looks.pop(now + _TICK)
            if entry is None:
                break
            execution = entry[2]
            if execution is None:
                continue
            execution.look = None
            if not self._look(execution, now):
                with self._lock:
                    self._forget_all()
                return
        with self._lock:
            if not self._closed:
                self._schedule()

    def _look(self, execution: Execution, now: float) -> bool:
        """Ends the run where it is idle, else plans the next look; whether the hub is still there."""
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
                self._put(execution, now + _interval(timeout))
        return True
