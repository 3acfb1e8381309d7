"""Statistics of all processes that share a log."""

from __future__ import annotations

import importlib.metadata
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lg_streaming.log.fleet import ProcessInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lg_streaming.log.base import EventLog

__all__ = ["FleetReporter", "FleetStatistics"]

Counts = dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetStatistics:
    """Statistics of the processes that share a log, at one moment. Each process reports with its lease's renewals."""

    processes: Sequence[ProcessInfo]
    """The live processes, oldest first."""
    totals: Mapping[str, Mapping[str, int]]
    """Sums of the reports over the processes, by part (``hub``, ``gateway``) and count."""


class FleetReporter:
    """Reporter of this process's counts to the other processes.

    Args:
        log: The log, with its fleet.
        hub_id: Returns the id of the hub, which names the process in a log of one process.
        clock: Seconds since 1970.
    """

    def __init__(self, log: EventLog, hub_id: Callable[[], str], clock: Callable[[], float]) -> None:
        self._fleet = log.fleet
        self._hub_id = hub_id
        self._clock = clock
        self._started_at = clock()
        self._parts: dict[str, Callable[[], Counts]] = {}
        if self._fleet is not None:
            self._fleet.set_report(self.report)

    def add(self, part: str, counts: Callable[[], Counts]) -> None:
        """Include ``counts()`` in the reports, in place of an earlier part of that name. Called on any thread."""
        self._parts[part] = counts

    def report(self) -> dict[str, Counts]:
        """Return the present counts of this process."""
        return {part: counts() for part, counts in list(self._parts.items())}

    async def collect(self) -> FleetStatistics:
        """Return the statistics of all processes. See `HubMetrics.fleet`."""
        processes = [self._own()] if self._fleet is None else await self._fleet.processes()
        totals: dict[str, Counts] = {}
        for process in processes:
            for part, counts in process.report.items():
                _add(totals.setdefault(part, {}), counts)
        return FleetStatistics(processes=processes, totals=totals)

    def _own(self) -> ProcessInfo:
        return ProcessInfo(
            process_id=self._hub_id(),
            host=socket.gethostname(),
            pid=os.getpid(),
            version=importlib.metadata.version("lg-streaming"),
            started_at=self._started_at,
            seen_at=self._clock(),
            report=self.report(),
        )


def _add(total: Counts, counts: Any) -> None:
    """Add the numbers of a report, which a process of another version may have written."""
    if isinstance(counts, dict):
        for name, value in counts.items():  # pyright: ignore[reportUnknownVariableType]
            if isinstance(name, str) and isinstance(value, int):
                total[name] = total.get(name, 0) + value
