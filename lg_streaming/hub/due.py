"""Queue of objects by the time at which they are due."""

from __future__ import annotations

import heapq
import itertools
from typing import Any, Generic, TypeVar

__all__ = ["DueQueue", "Entry", "void"]

T = TypeVar("T")

Entry = list[Any]
"""``[time, number, object]``; the object is None after `void`."""


def void(entry: Entry | None) -> None:
    """Remove the object from ``entry``. The queue drops the entry when it is due."""
    if entry is not None:
        entry[2] = None


class DueQueue(Generic[T]):
    """A heap of entries. Each change is one step of the interpreter, so an interrupt cannot corrupt it."""

    __slots__ = ("_heap", "_numbers")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._numbers = itertools.count()

    def add(self, when: float, item: T) -> Entry:
        """Add ``item``; return its entry, for `void`."""
        entry: Entry = [when, next(self._numbers), item]
        heapq.heappush(self._heap, entry)
        return entry

    @property
    def first(self) -> float | None:
        """The time of the first entry; None if the queue is empty."""
        heap = self._heap
        while heap and heap[0][2] is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop(self, now: float) -> Entry | None:
        """Remove and return the first entry that is due, or return None."""
        first = self.first
        return heapq.heappop(self._heap) if first is not None and first <= now else None
