"""Histogram of durations."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from lg_streaming.fork import new_lock

__all__ = ["Durations", "Histogram"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """The content of a histogram at one moment, in seconds."""

    bounds: tuple[float, ...]
    """The upper bound of each bucket but the last, which is unbounded."""
    counts: tuple[int, ...]
    """The number of durations of each bucket: above the previous bound, up to its own. One more than `bounds`."""
    total: float
    """The sum of the durations."""

    @property
    def count(self) -> int:
        """The number of durations."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The average duration; 0 without durations."""
        count = self.count
        return self.total / count if count else 0.0

    def cumulative(self) -> tuple[int, ...]:
        """Return the number of durations up to each bound, and last the number of all."""
        return tuple(accumulate(self.counts))


class Histogram:
    """Histogram of durations. Thread-safe.

    Args:
        bounds: The upper bounds of the buckets in seconds, ascending; above the last there is one more bucket.
    """

    __slots__ = ("_bounds", "_counts", "_lock", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0
        self._lock = new_lock()

    def observe(self, seconds: float) -> None:
        """Count one duration. A negative one counts as 0: a clock may have been set back."""
        seconds = max(seconds, 0.0)
        bucket = bisect_left(self._bounds, seconds)
        with self._lock:
            self._counts[bucket] += 1
            self._total += seconds

    def snapshot(self) -> Durations:
        """Return the present content."""
        with self._lock:
            return Durations(bounds=self._bounds, counts=tuple(self._counts), total=self._total)
