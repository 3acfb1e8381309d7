"""The token updates of all executions, as one observable."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from reactivex import Observable
from reactivex.disposable import Disposable

from lg_streaming.eventloop import forbid_blocking_run
from lg_streaming.filters import UpdateFilter
from lg_streaming.fork import bury, new_lock, new_rlock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

    from lg_streaming.events import Position, StreamUpdate
    from lg_streaming.hub import StreamHub

__all__ = ["TOKENS", "GlobalTokenStream"]

TOKENS: Final = ("token", "thinking")
_FILTER: Final = UpdateFilter.of(types=TOKENS)
_REMEMBERED: Final = 10_000
"""Ended executions whose end is remembered, so that their next run is not preceded by the last one."""


class GlobalTokenStream:
    """The subscribers of the tokens of all executions.

    Args:
        hub: The source of updates.
        executions: Returns the executions that have an open token stream.
    """

    def __init__(self, hub: StreamHub, executions: Callable[[], list[str]]) -> None:
        self._hub = hub
        self._executions = executions
        self._followers: tuple[_Follower, ...] = ()
        self._lock = new_lock()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's subscribers, which are served there."""
        bury(self._followers)
        self._followers = ()

    def follow(self, execution_id: str) -> None:
        """Follow an execution that opens a token stream."""
        for follower in self._followers:
            follower.follow(execution_id)

    def observable(self) -> Observable[StreamUpdate]:
        """Return the updates of all open streams, from their beginning, and of streams that open later."""

        def subscribe(observer: ObserverBase[StreamUpdate], _: SchedulerBase | None = None) -> DisposableBase:
            forbid_blocking_run()
            follower = _Follower(self._hub, self._executions, observer)
            with self._lock:
                self._followers = (*self._followers, follower)

            def leave() -> None:
                with self._lock:
                    self._followers = tuple(each for each in self._followers if each is not follower)
                follower.stop()

            for execution_id in self._executions():
                follower.follow(execution_id)
            return Disposable(leave)

        return Observable(subscribe)


class _Follower:
    """One subscriber: one observation of each execution at a time."""

    def __init__(
        self, hub: StreamHub, executions: Callable[[], list[str]], observer: ObserverBase[StreamUpdate]
    ) -> None:
        self._hub = hub
        self._executions = executions
        self._observer = observer
        self._lock = new_rlock()
        self._following: dict[str, DisposableBase | None] = {}
        self._after: dict[str, Position] = {}
        self._again: set[str] = set()
        self._stopped = False
        self._loop: asyncio.AbstractEventLoop | None = None
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()

    def follow(self, execution_id: str) -> None:
        """Observe an execution, unless it is observed already. From any thread."""
        with self._lock:
            if self._stopped:
                return
            if execution_id in self._following:
                self._again.add(execution_id)  # a next run, perhaps, before the end of the last one was read
                return
            self._following[execution_id] = None
        if self._loop is None:
            self._start(execution_id)
        else:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the subscriber with it
                self._loop.call_soon_threadsafe(self._start, execution_id)

    def _start(self, execution_id: str) -> None:
        with self._lock:
            if self._stopped:
                return
            observable = self._hub.observe(
                execution_id, after=self._after.get(execution_id), filter=_FILTER, in_thread=self._loop is None
            )
        subscription = observable.subscribe(self._next, self._observer.on_error, lambda: self._ended(execution_id))
        with self._lock:
            if execution_id in self._following:
                self._following[execution_id] = subscription
        if self._stopped:
            subscription.dispose()

    def _next(self, update: StreamUpdate) -> None:
        with self._lock:
            if not self._stopped:
                self._after.pop(update.metadata.execution_id, None)
                self._after[update.metadata.execution_id] = update.position
                self._observer.on_next(update)

    def _ended(self, execution_id: str) -> None:
        with self._lock:
            self._following.pop(execution_id, None)
            again = execution_id in self._again
            self._again.discard(execution_id)
            while len(self._after) > _REMEMBERED:
                del self._after[next(iter(self._after))]
        if again or execution_id in self._executions():  # its next run has begun
            self.follow(execution_id)

    def stop(self) -> None:
        """End all observations."""
        with self._lock:
            self._stopped = True
            subscriptions = [each for each in self._following.values() if each is not None]
            self._following.clear()
        for subscription in subscriptions:
            subscription.dispose()
