"""How long things took: counts by size, cheap to keep and exact in number."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from lg_streaming.fork import new_lock

__all__ = ["Durations", "Histogram"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """What a histogram held at one moment. Seconds."""

    bounds: tuple[float, ...]
    """The upper bound of each bucket but the last, which has none."""
    counts: tuple[int, ...]
    """How many durations fell into each bucket: above the bound before it, up to its own; one more than bounds."""
    total: float
    """All durations together."""

    @property
    def count(self) -> int:
        """How many durations there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float:
        """The average duration; 0 where there was none."""
        count = self.count
        return self.total / count if count else 0.0

    def cumulative(self) -> tuple[int, ...]:
        """How many durations were at most each bound, and, last, how many there were."""
        return tuple(accumulate(self.counts))


class Histogram:
    """Counts durations by size. Thread-safe: none is lost.

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
        """Counts one duration. Below 0, as when a clock was set back, it counts as 0."""
        seconds = max(seconds, 0.0)
        bucket = bisect_left(self._bounds, seconds)
        with self._lock:
            self._counts[bucket] += 1
            self._total += seconds

    def snapshot(self) -> Durations:
        """What it holds now."""
        with self._lock:
            return Durations(bounds=self._bounds, counts=tuple(self._counts), total=self._total)
