"""Counting what callers use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lg_streaming.errors import TooManyConnectionsError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Census", "TokenBucket"]


class TokenBucket:
    """Lets ``burst`` through at once and ``rate`` a second on average.

    Args:
        rate: Per second; None lets everything through.
        burst: At once.
        clock: Seconds, monotonic.
    """

    __slots__ = ("_burst", "_clock", "_left", "_rate", "_seen")

    def __init__(self, rate: float | None, burst: int, clock: Callable[[], float]) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = float(burst)
        self._seen = clock()

    def take(self) -> float:
        """Takes one; returns 0, or the seconds until one is there."""
        if self._rate is None:
            return 0.0
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._seen) * self._rate)
        self._seen = now
        if self._left < 1:
            return (1 - self._left) / self._rate
        self._left -= 1
        return 0.0


class Census:
    """How many connections are open, over all transports of a gateway.

    Args:
        limit: The most there may be; None for no limit.
    """

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.connections = 0

    def enter(self) -> None:
        """Counts one more.

        Raises:
            TooManyConnectionsError: There are as many as there may be.
        """
        if self._limit is not None and self.connections >= self._limit:
            raise TooManyConnectionsError(retry_after=1.0)
        self.connections += 1

    def leave(self) -> None:
        """Counts one less."""
        self.connections -= 1
