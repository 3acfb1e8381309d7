"""Executions in the order of when to look at them."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_streaming.hub.execution import Execution

__all__ = ["Due", "Entry", "void"]

Entry = list[Any]
"""``[when, number, execution]``; the execution is None once the entry is void."""


def void(entry: Entry | None) -> None:
    """Take the execution out of ``entry``. What is left goes when it is due."""
    if entry is not None:
        entry[2] = None


class Due:
    """A heap of entries. Each change is one step of the interpreter, so an interrupt leaves it whole."""

    __slots__ = ("_heap", "_numbers")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._numbers = itertools.count()

    def add(self, when: float, execution: Execution) -> Entry:
        """Add ``execution``; return its entry, to be made void."""
        entry: Entry = [when, next(self._numbers), execution]
        heapq.heappush(self._heap, entry)
        return entry

    @property
    def first(self) -> float | None:
        """When the first entry is due; None when the queue is empty."""
        heap = self._heap
        while heap and heap[0][2] is None:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def pop(self, now: float) -> Entry | None:
        """Remove and return the first entry that is due; None where nothing is."""
        first = self.first
        return heapq.heappop(self._heap) if first is not None and first <= now else None
