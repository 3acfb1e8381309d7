"""Parallel runs of one node, as LangGraph's ``Send`` makes them: their progress, combined."""

from __future__ import annotations

import threading
from typing import Any, Final
from weakref import WeakValueDictionary

from lg_streaming.fork import new_lock, new_rlock

__all__ = ["GROUPS", "ParallelBranches", "branches_of"]

_DONE: Final = 100.0


class ParallelBranches:
    """The parallel runs of one node in one run of an execution.

    Runs of one group overlap. A run that starts when all earlier ones have ended starts a new group, so the rounds of a
    loop are not added up. The combined progress is the mean over all runs of the group. A completed run counts as
    100 %. A failed run counts as the percentage that it had reached, until a new try takes its place. A run that joins
    late lowers the mean; the combined progress then stays until the mean has caught up.

    `lock` guards the group and the updates of its branches, so that readers see the combined progress in order.
    """

    def __init__(self) -> None:
        self.lock: threading.RLock = new_rlock()
        self._percent: dict[str | None, float] = {}
        self._running: set[str | None] = set()
        self._completed: set[str | None] = set()
        self._reached = 0.0

    def join(self, name: str | None) -> None:
        """Add a branch that starts, or is tried again."""
        if not self._running:
            self._percent.clear()
            self._completed.clear()
            self._reached = 0.0
        self._running.add(name)
        self._completed.discard(name)
        self._percent[name] = 0.0

    def note(self, name: str | None, percent: float) -> None:
        """Record the percentage that a branch has reached."""
        self._percent[name] = percent

    def leave(self, name: str | None, *, completed: bool) -> None:
        """Remove a branch that has ended."""
        self._running.discard(name)
        if completed:
            self._completed.add(name)

    @property
    def count(self) -> int:
        """The number of branches of the group, ended ones included."""
        return len(self._percent)

    def combined(self) -> float:
        """Return the mean of the branches, 0 to 100; never less than before."""
        mean = sum(self._percent.values()) / len(self._percent)
        self._reached = max(self._reached, _DONE if mean > _DONE - 1e-9 else mean)
        return self._reached

    def figures(self, progress: float) -> dict[str, Any]:
        """Return the fields of an update about the group."""
        return {"progress": progress, "branches": len(self._percent), "completed": len(self._completed)}


_lock: Final = new_lock()
GROUPS: Final[WeakValueDictionary[tuple[str, str], ParallelBranches]] = WeakValueDictionary()
"""The groups of nodes that run, by run and node."""


def branches_of(run_id: str | None, node_id: str | None) -> ParallelBranches:
    """Return the group of a node in a run. It lasts as long as a reference to it."""
    if run_id is None or node_id is None:
        return ParallelBranches()
    with _lock:
        group = GROUPS.get((run_id, node_id))
        if group is None:
            group = GROUPS[run_id, node_id] = ParallelBranches()
        return group
