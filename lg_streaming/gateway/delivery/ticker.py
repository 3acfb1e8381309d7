"""The common pace of all readers of a gateway."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BatchTicker"]


class BatchTicker:
    """The common pace of all readers: one tick in an interval, and at most half of the event loop's time.

    While the readers of one tick write, publishers on the same event loop wait. So after each tick the readers rest for
    at least as long as they wrote. With many readers, frames become fewer and larger.

    Args:
        interval: Seconds; 0: no interval, but the event loop runs other tasks before each page.
        clock: Seconds, monotonic; the event loop's when absent.
    """

    def __init__(self, interval: float, clock: Callable[[], float] | None = None) -> None:
        self._interval = interval
        self._clock = clock
        self._ticks: dict[int, asyncio.Event] = {}
        self._rests_until = 0.0
        self._measures = False  # whether the time of readers that did not wait for a tick is being measured

    def restart(self) -> None:
        """Drop the ticks of a former event loop."""
        self._ticks, self._rests_until, self._measures = {}, 0.0, False

    async def next(self) -> None:
        """Return at the next tick that is at least half an interval away, or after the rest."""
        if not self._interval:
            await asyncio.sleep(0)
            return
        now = self._now()
        number = int(now / self._interval + 1.5)
        tick = self._ticks.get(number)
        if tick is None:
            tick = self._ticks[number] = asyncio.Event()
            self._schedule(number * self._interval, number)
        await tick.wait()

    async def turn(self, sent_at: float) -> None:
        """Return at once if `sent_at` is at least an interval ago and readers do not rest, else at the next tick."""
        now = (self._clock or asyncio.get_running_loop().time)()  # inlines `_now`, for each page
        if now - sent_at < self._interval or now < self._rests_until:
            await self.next()
        elif not self._measures:
            self._measures = True
            asyncio.get_running_loop().call_soon(self._rest, now)

    def _now(self) -> float:
        return (self._clock or asyncio.get_running_loop().time)()

    def _schedule(self, moment: float, number: int) -> None:
        asyncio.get_running_loop().call_later(moment - self._now(), self._tick, number)

    def _tick(self, number: int) -> None:
        now = self._now()
        if now < self._rests_until:
            self._schedule(self._rests_until, number)
            return
        self._ticks.pop(number).set()
        # The event loop calls in order: `_rest` runs after every reader of this tick has written.
        asyncio.get_running_loop().call_soon(self._rest, now)

    def _rest(self, began: float) -> None:
        """Begin a rest as long as the readers wrote since `began`."""
        self._measures = False
        now = self._now()
        self._rests_until = now + (now - began)
