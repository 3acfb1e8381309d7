"""The rate limiter of one execution, connection or caller."""

from __future__ import annotations

__all__ = ["TokenBucket"]


class TokenBucket:
    """A budget of `burst` tokens that refills at `rate` a second.

    It has no lock and no clock: the caller passes the time, which may be read once for several tokens.

    Args:
        rate: Tokens a second; `math.inf` fills the bucket whenever time has passed.
        burst: The most tokens in the bucket. It begins full.
        now: Seconds, monotonic.
    """

    __slots__ = ("_burst", "_left", "_rate", "_refilled_at")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = self._left = burst
        self._refilled_at = now

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take `amount` tokens; return False, and take none, where fewer are left."""
        elapsed, self._refilled_at = now - self._refilled_at, now
        if elapsed > 0:
            self._left = min(self._burst, self._left + elapsed * self._rate)
        if self._left < amount:
            return False
        self._left -= amount
        return True

    def seconds_until(self, amount: float = 1.0) -> float:
        """Return the seconds from the last `take` until `amount` tokens are there."""
        return max(0.0, amount - self._left) / self._rate
