"""Looks at open runs now and then, so that those in which nothing happens any more come to an end."""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import HubClosedError
from lg_streaming.pipeline.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lg_streaming.hub.execution import Execution

__all__ = ["IdleWatch"]

logger: logging.Logger = logging.getLogger(__name__)

_LOOKS: Final = 10
_SHORTEST: Final = 0.01
_LONGEST: Final = 30.0


def _interval(timeout: float) -> float:
    """Seconds between two looks: a tenth of the timeout, at most 30."""
    return min(max(timeout / _LOOKS, _SHORTEST), _LONGEST)


class IdleWatch:
    """Looks at open runs on the one timer of the process, as long as there are some that may end so.

    It works with and without an event loop, costs no thread of its own, and does not keep the hub alive. Its time never
    goes back and does not jump when the computer's clock is set.

    Args:
        executions: What to look at; it may change at any time.
        end: `end(execution, timeout, now)`, called on the timer's thread: ends the run if nothing has happened in it
            for `timeout` seconds, and says whether it did.
    """

    def __init__(self, executions: Mapping[str, Execution], end: Callable[[Execution, float, float], bool]) -> None:
        self._executions = executions
        self._end = weakref.WeakMethod(end)
        self._timer = current_timer()
        self._lock = threading.Lock()
        self._interval: float | None = None  # of the look that is to come
        self._cancel: Callable[[], None] | None = None
        self._closed = False

    def watch(self, timeout: float) -> None:
        """There is a run that may end so after `timeout` seconds. From any thread."""
        interval = _interval(timeout)
        if self._comes_within(interval):
            return
        with self._lock:
            if not (self._closed or self._comes_within(interval)):
                self._forget()
                self._interval = interval
                self._cancel = self._timer.schedule_relative(interval, self._turn).dispose

    def _comes_within(self, interval: float) -> bool:
        return self._interval is not None and self._interval <= interval

    def close(self) -> None:
        """Nothing is looked at any more. Harmless when repeated."""
        with self._lock:
            self._closed = True
            self._forget()

    def _forget(self) -> None:
        if self._cancel is not None:
            self._cancel()
        self._interval = self._cancel = None

    def _turn(self, *_: object) -> None:
        with self._lock:
            self._interval = self._cancel = None
        shortest = self._look()
        if shortest is not None:
            self.watch(shortest)

    def _look(self) -> float | None:
        """Looks at all runs; returns the shortest timeout of those that stay open, None where there is none."""
        end = self._end()
        if end is None:
            return None
        shortest: float | None = None
        now = self._timer.to_seconds(self._timer.now)
        for execution in list(self._executions.values()):
            timeout = execution.idle_timeout
            if timeout is None or not execution.running:
                continue
            try:
                if end(execution, timeout, now):
                    continue
            except HubClosedError:
                return None
            except Exception:
                logger.exception("the idle run of execution %r could not be ended", execution.execution_id)
            shortest = timeout if shortest is None else min(shortest, timeout)
        return shortest
