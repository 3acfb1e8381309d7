"""Order of the runs of one execution."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from lg_streaming.fork import new_lock, restart_after_fork

if TYPE_CHECKING:
    from lg_streaming.runs.driver import RunDriver

__all__ = ["RunOrder"]


class RunOrder:
    """Order of the runs of each execution in this process: one is open at a time, the others follow as they came."""

    def __init__(self) -> None:
        self._lock = new_lock()
        self._start_empty()
        restart_after_fork(self)

    def _start_empty(self) -> None:
        self._drivers: dict[str, deque[RunDriver]] = {}

    def after_fork(self) -> None:
        """Drop the runs of the parent process."""
        self._start_empty()

    def enter(self, driver: RunDriver, *, only_if_first: bool = False) -> bool:
        """Add a run; return whether it is the first of its execution. With ``only_if_first`` no other is added."""
        execution_id = driver.run.execution_id
        with self._lock:
            drivers = self._drivers.get(execution_id)
            if drivers is None:
                self._drivers[execution_id] = deque((driver,))
                return True
            if not only_if_first:
                drivers.append(driver)
            return False

    def enter_open(self, driver: RunDriver) -> None:
        """Add a run that is open already, before those that wait."""
        with self._lock:
            self._drivers.setdefault(driver.run.execution_id, deque()).appendleft(driver)

    def leave(self, driver: RunDriver) -> None:
        """Remove a run, and let the next one begin. Harmless when repeated."""
        execution_id = driver.run.execution_id
        following = None
        with self._lock:
            drivers = self._drivers.get(execution_id)
            if drivers is None or driver not in drivers:
                return
            was_first = drivers[0] is driver
            drivers.remove(driver)
            if not drivers:
                del self._drivers[execution_id]
            elif was_first:
                following = drivers[0]
        if following is not None and not following.begin_first():
            self.leave(following)  # its event loop was closed, and its run with it

    def first(self, execution_id: str) -> RunDriver | None:
        """Return the run of an execution that is open, or opens next; None without one."""
        drivers = self._drivers.get(execution_id)
        return drivers[0] if drivers is not None else None

    def before(self, driver: RunDriver) -> list[RunDriver]:
        """Return the runs of the execution that were added before this one."""
        with self._lock:
            drivers = list(self._drivers.get(driver.run.execution_id, ()))
        return drivers[: drivers.index(driver)] if driver in drivers else drivers

    def all(self) -> list[RunDriver]:
        """Return all runs."""
        with self._lock:
            return [driver for drivers in self._drivers.values() for driver in drivers]
