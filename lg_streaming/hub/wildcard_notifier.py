"""Notifications of wildcard subscriptions about new updates of all executions."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, NamedTuple

from lg_streaming.fork import bury, new_lock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.events import Position
    from lg_streaming.log.base import EventLog, PositionListener

__all__ = ["WildcardNotifier"]

_MAX_WAKEUPS: Final = 1_000
"""Calls of listeners before other tasks of the event loop may run."""


class _Batch(NamedTuple):
    """Executions with new updates, and the listeners at the time of these updates."""

    listeners: tuple[PositionListener, ...]
    new: OrderedDict[str, Position | None]


class WildcardNotifier:
    """Notifier of wildcard subscriptions about executions with new updates: on their event loop, once for many appends.

    All listeners live on one event loop. The notifier listens to the log only while it has listeners.
    """

    def __init__(self, log: EventLog) -> None:
        self._log = log
        self._listeners: dict[PositionListener, None] = {}
        self._lock = new_lock()
        self._stop: Callable[[], None] | None = None
        self._reset(None)
        restart_after_fork(self)

    def _reset(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._new: OrderedDict[str, Position | None] = OrderedDict()
        self._batches: deque[_Batch] = deque()
        self._scheduled = False

    def after_fork(self) -> None:
        """Drop the subscriptions and the event loop of the parent process."""
        bury(self._listeners, self._loop)
        if self._stop is not None:
            self._stop()
        self._listeners, self._stop = {}, None
        self._reset(None)

    def listen(self, listener: PositionListener, loop: asyncio.AbstractEventLoop | None = None) -> Callable[[], None]:
        """Call `listener` for each execution that gets an update from now on; return a function that ends it.

        Args:
            listener: Called on the event loop, with the execution and the position before its new updates.
            loop: The event loop, which may start later; the running one when absent.
        """
        with self._lock:
            if self._stop is None:
                self._reset(loop or asyncio.get_running_loop())  # state of a former event loop has no owner
            else:
                self._close_batch()
            self._listeners[listener] = None
        if self._stop is None:
            self._stop = self._log.listen_positions(self._on_append)

        def unlisten() -> None:
            self._listeners.pop(listener, None)
            if not self._listeners and self._stop is not None:
                self._stop()
                self._stop = None

        return unlisten

    def _close_batch(self) -> None:
        """Close the batch, so that its updates go only to the present listeners. Requires the lock."""
        if self._new:
            self._batches.append(_Batch(tuple(self._listeners), self._new))
            self._new = OrderedDict()

    def _on_append(self, execution_id: str, before: Position | None) -> None:
        """Record that an execution has new updates. From any thread."""
        loop = self._loop
        with self._lock:
            self._new.setdefault(execution_id, before)
            schedules = not self._scheduled and loop is not None and not loop.is_closed()
            self._scheduled = self._scheduled or schedules
        if schedules and loop is not None:
            with contextlib.suppress(RuntimeError):  # closed since: the publisher must not get the error
                loop.call_soon_threadsafe(self._notify)

    def _notify(self) -> None:
        """Call listeners, `_MAX_WAKEUPS` at a time."""
        with self._lock:
            if not self._batches:
                self._close_batch()
        left = _MAX_WAKEUPS
        while self._batches and left > 0:
            listeners, new = self._batches[0]
            while new and left > 0:
                execution_id, before = new.popitem(last=False)
                for listener in listeners:
                    listener(execution_id, before)
                left -= max(1, len(listeners))
            if not new:
                self._batches.popleft()
        with self._lock:
            self._scheduled = bool(self._batches or self._new)
            again = self._scheduled
        if again:
            asyncio.get_running_loop().call_soon(self._notify)
