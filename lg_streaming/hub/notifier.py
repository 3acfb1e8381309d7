"""Notify waiting tasks of any event loop, from any thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lg_streaming.fork import bury, new_rlock, release_owned, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Notifier"]


class Notifier:
    """A generation counter that tasks can wait on.

    A reader takes `generation`, reads, and waits for a later generation if it found nothing. So it cannot miss a
    notification between the two. A notification costs one step per event loop with waiting tasks, not per task.
    """

    __slots__ = ("_lock", "_waiters", "generation", "readers")

    def __init__(self) -> None:
        self.generation: int = 0
        self.readers: int = 0
        """The number of subscriptions that use this notifier; kept by the `SubscriptionRegistry`."""
        self._lock = new_rlock()
        self._waiters: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}

    def notify(self) -> None:
        """Begin a new generation, and wake all waiting tasks."""
        try:
            with self._lock:
                self.generation += 1
                if not self._waiters:
                    return
                running = asyncio._get_running_loop()  # noqa: SLF001 (the documented function raises without a loop)
                for loop, futures in self._waiters.items():
                    if loop is not running:
                        _wakeups.add(loop, futures)
                    elif len(futures) > 1:
                        loop.call_soon(_release, futures)  # so that the publisher does not wait for many
                    elif not futures[0].done():
                        futures[0].set_result(None)
                self._waiters = {}
        except BaseException:
            release_owned(self._lock)
            raise

    async def wait(self, generation: int, at_most: float | None = None) -> None:
        """Wait until the generation is past ``generation``, for up to ``at_most`` seconds."""
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            if self.generation != generation:
                return
            self._waiters.setdefault(loop, []).append(future)
        timer = loop.call_later(at_most, _release, (future,)) if at_most is not None else None
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()
            if timer is not None or not future.done() or future.cancelled():  # a notification has removed it otherwise
                self._forget(loop, future)

    async def wait_for(self, condition: Callable[[], bool], at_most: float) -> bool:
        """Wait until `condition` holds, for up to `at_most` seconds; return whether it does.

        The condition is checked after each notification.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + at_most
        while True:
            generation = self.generation
            if condition():
                return True
            left = deadline - clock()
            if left <= 0:
                return False
            await self.wait(generation, left)

    def _forget(self, loop: asyncio.AbstractEventLoop, future: asyncio.Future[None]) -> None:
        with self._lock:
            futures = self._waiters.get(loop)
            if futures is not None and future in futures:
                futures.remove(future)
                if not futures:
                    del self._waiters[loop]


class _Wakeups:
    """Waiting tasks to wake on other event loops. One call of a loop wakes those of many notifications."""

    def __init__(self) -> None:
        self._lock = new_rlock()
        self._futures: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the tasks of the parent process."""
        bury(self._futures)
        self._futures = {}

    def add(self, loop: asyncio.AbstractEventLoop, futures: list[asyncio.Future[None]]) -> None:
        """Wake the tasks that wait for ``futures``, soon."""
        try:
            with self._lock:
                scheduled = self._futures.get(loop)
                if scheduled is not None and not loop.is_closed():
                    scheduled += futures
                    return
                self._futures[loop] = list(futures)
                loop.call_soon_threadsafe(self._wake, loop)
        except RuntimeError:  # that loop was closed, and its tasks with it
            self._futures.pop(loop, None)
        except BaseException:  # an interrupt: the waiters stay with their notifier
            self._futures.pop(loop, None)
            release_owned(self._lock)
            raise

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            futures = self._futures.pop(loop, ())
        _release(futures)


def _release(futures: Iterable[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


_wakeups: Final = _Wakeups()
