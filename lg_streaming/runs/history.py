"""History of a graph's runs: the times of their nodes, in memory and in the fleet's store."""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from lg_streaming.errors import StreamingError
from lg_streaming.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lg_streaming.log.fleet import Fleet

__all__ = ["NodeTimes", "RunHistory", "RunTrace", "Visit"]

logger: logging.Logger = logging.getLogger(__name__)

_KIND: Final = "run_history"
_TTL: Final = 30 * 86_400.0
_MAX_GRAPHS: Final = 100
_MAX_RUNS: Final = 10
_MAX_VISITS: Final = 1_000
"""Visits that are kept of one graph, over all its runs."""
MAX_TRACE: Final = 200
"""Visits that are kept of one run: the first ones."""


class Visit(NamedTuple):
    """One time that a run was at a node, in seconds of work since the beginning of the run."""

    node: str
    start: float
    """Start of the last attempt."""
    end: float
    seconds: float
    """Work on it: the last attempt, and attempts that an interrupt ended."""


class NodeTimes(NamedTuple):
    """Visits of one node in a run, in order."""

    visits: Sequence[Visit]
    starts: Sequence[float]
    last_start: Sequence[float]
    """Latest start of the first visits: of one, of two, and so on."""
    last_end: Sequence[float]
    """Latest end of the first visits."""

    @classmethod
    def of(cls, visits: Sequence[Visit]) -> NodeTimes:
        """Return the times of a node's visits."""
        starts = [each.start for each in visits]
        ends = accumulate((each.end for each in visits), max)
        return cls(visits, sorted(starts), list(accumulate(starts, max)), list(ends))


@dataclass(frozen=True)
class RunTrace:
    """Times of a completed run."""

    seconds: float
    """Time during which nodes ran: waits for a human do not count."""
    total: int
    """Number of visits, also of those that are not kept."""
    visits: tuple[Visit, ...]
    """Visits in the order of their starts."""

    @property
    def mean(self) -> float:
        """Mean of the seconds for each visit."""
        return self.seconds / self.total if self.total else 0.0

    @cached_property
    def by_node(self) -> Mapping[str, NodeTimes]:
        """Times of each node."""
        found = defaultdict[str, list[Visit]](list)
        for each in self.visits:
            found[each.node].append(each)
        return {node: NodeTimes.of(visits) for node, visits in found.items()}

    def to_json(self) -> list[Any]:
        """Return the trace as a JSON value."""
        return [round(self.seconds, 3), self.total, [[v.node, *(round(t, 3) for t in v[1:])] for v in self.visits]]

    @classmethod
    def from_json(cls, value: Any) -> RunTrace:
        """Return the trace of a value of `to_json`. Raises ValueError, TypeError or IndexError for another one."""
        seconds, total, visits = value
        return cls(float(seconds), int(total), tuple(Visit(str(v[0]), *map(float, v[1:4])) for v in visits))


def started_until(times: NodeTimes, moment: float) -> int:
    """Return the number of visits that started at a moment or before."""
    return bisect_right(times.starts, moment)


class RunHistory:
    """Newest completed runs of each graph of one hub.

    It keeps up to 10 runs and 1,000 visits of a graph, and the 100 graphs that ran last. In a log that processes share,
    the history is in the fleet's store too, for 30 days after the last run. Of two processes that end a run of one
    graph at the same moment, one may lose its run there. Thread-safe.

    Args:
        fleet: The processes that share the log; None for a log of one process.
        ttl: Seconds that the store keeps the history of a graph.
    """

    def __init__(self, fleet: Fleet | None = None, *, ttl: float = _TTL) -> None:
        self._fleet = fleet
        self._ttl = ttl
        self._traces: OrderedDict[str, tuple[RunTrace, ...]] = OrderedDict()
        self._lock = new_lock()

    def get(self, graph: str) -> Sequence[RunTrace]:
        """Return the known runs of a graph, oldest first, without a request."""
        with self._lock:
            return self._traces.get(graph, ())

    def load(self, graph: str, on_loaded: Callable[[Sequence[RunTrace]], None]) -> None:
        """Read the history of a graph from the store, and call ``on_loaded`` with it. Returns at once.

        Without a fleet, or if the log cannot be reached, ``on_loaded`` is not called.
        """
        fleet = self._fleet
        if fleet is None:
            return

        async def load() -> None:
            try:
                found = _from_json(await fleet.get(_KIND, graph))
            except StreamingError as error:
                logger.debug("the history of graph %r cannot be read: %s", graph, error)
                return
            if found:
                self._keep(graph, found)
                on_loaded(found)

        fleet.spawn(load)

    def add(self, graph: str, trace: RunTrace) -> None:
        """Add a completed run. Returns at once; the store has it a moment later."""
        with self._lock:
            known = self._traces.get(graph, ())
        self._keep(graph, (*known, trace))
        fleet = self._fleet
        if fleet is None:
            return

        async def add() -> None:
            try:
                traces = _bounded((*_from_json(await fleet.get(_KIND, graph)), trace))
                await fleet.put(_KIND, graph, [each.to_json() for each in traces], ttl=self._ttl)
            except StreamingError as error:
                logger.debug("a run of graph %r is not added to its history: %s", graph, error)

        fleet.spawn(add)

    def _keep(self, graph: str, traces: Iterable[RunTrace]) -> None:
        with self._lock:
            self._traces[graph] = _bounded(traces)
            self._traces.move_to_end(graph)
            if len(self._traces) > _MAX_GRAPHS:
                self._traces.popitem(last=False)


def _bounded(traces: Iterable[RunTrace]) -> tuple[RunTrace, ...]:
    """Return the newest traces within the limits, oldest first; the newest one in any case."""
    newest = list(traces)[: -_MAX_RUNS - 1 : -1]
    sizes = accumulate(len(each.visits) for each in newest)
    kept = [each for each, size in zip(newest, sizes, strict=True) if size <= _MAX_VISITS]
    return tuple(reversed(kept))


def _from_json(value: Any) -> tuple[RunTrace, ...]:
    """Return the stored traces; none for a value of another version."""
    try:
        return tuple(RunTrace.from_json(each) for each in cast("list[Any]", value or []))
    except (ValueError, TypeError, IndexError):
        return ()
