"""Estimate the progress of a run: nodes that are done, percentage and time left."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from lg_streaming.pipeline.eta import EtaEstimator
from lg_streaming.runs.history import MAX_TRACE, RunTrace, Visit, started_until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.capture import Ending
    from lg_streaming.runs.structure import GraphStructure

__all__ = ["RunEstimate", "RunFigures"]

_ALL: Final = 100.0
_MOST: Final = 99.9
"""Highest percentage of a run that has not ended."""
_RECENCY: Final = 0.95
"""Weight of a run, relative to that of the next newer one."""
_OTHER_WAY: Final = 1e-4
"""Weight of a run that has begun other visits up to this point; such runs count only where no run has the same ones."""
_OVERDUE: Final = 0.1
"""Expected rest of a node that takes longer than in an earlier run, as a part of its time so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFigures:
    """Progress of a run at one moment."""

    total_nodes: int
    """Expected number of visits of nodes, with those that are done. It changes while the run shows its way."""
    completed_nodes: int
    current: str | None
    """Visit that began last, of those that run or wait; None if there is no such visit."""
    progress: float
    """0 to 100; 100 only after the end."""
    eta_s: float | None
    """Expected seconds of work that are left; None while no node runs, as in a wait for a human."""


@dataclass(slots=True, kw_only=True)
class _OpenVisit:
    """Visit that has not ended: it runs, waits for a human, or has failed and may be tried again."""

    node: str
    number: int
    """Number of the visit among those of its node, from 1."""
    index: int
    """Number of the visit in the run, from 0."""
    start: float
    running: bool = True
    spent: float = 0.0
    """Seconds of work in attempts that an interrupt ended."""
    live: EtaEstimator | None = None
    percent: float = 0.0

    def seconds(self, worked: float) -> float:
        return self.spent + (worked - self.start if self.running else 0.0)


class _Outlook(NamedTuple):
    """Share of the work that is done, and work that is left."""

    share: float
    """0 to 1."""
    seconds: float | None
    nodes: float


class _Match(NamedTuple):
    """An earlier run, compared with the visits of this run that have begun."""

    trace: RunTrace
    after: float
    """Seconds of work in the earlier run after the matching visits had ended."""
    nodes: int
    """Visits that began there after the matching ones."""
    weight: float


class RunEstimate:
    """Estimate of the progress of one run, from its nodes' starts and ends and from earlier runs of the graph.

    With W seconds of work done, and R seconds expected, the percentage is 100 · W / (W + R). The clock of W runs while
    a node runs: waits for a human do not count, and parallel nodes count once. The percentage never goes back.

    R is the mean over the earlier runs that had begun the same number of visits of each node at this point. Newer runs
    count a little more. This number is the abstraction of the state in van der Aalst, Schonenberg & Song ("Time
    prediction based on process mining", Information Systems 36, 2011). Each earlier run predicts

        R = max over the open visits of their rest  +  the run's time after the end of the matching visits

    The rest of a visit is its duration in the earlier run minus the time so far. For a visit that lasts longer already,
    it is a tenth of the time so far. The live progress of a node gives another rest (`EtaEstimator`), whose share is
    the square root of the percentage. Only completed runs count, as for the estimated durations of builds in Jenkins
    (``hudson.model.Job.getEstimatedDuration``).

    Without an earlier run the percentage is the share of the nodes that are done, of all that the graph's structure
    lets expect. The tasks of an ``@entrypoint`` have no structure: as many are expected as are done.

    Times are seconds of any clock that does not go backwards. The memory is bounded: it grows with the open visits and
    the names of nodes. Not thread-safe.

    Args:
        structure: The graph's structure.
        traces: Earlier runs of the graph, oldest first.
        progress: Percentage that the run has reached before, in another process.
        completed: Nodes that the run has completed before.
    """

    def __init__(
        self,
        structure: GraphStructure,
        traces: Sequence[RunTrace] = (),
        *,
        progress: float = 0.0,
        completed: int = 0,
    ) -> None:
        self._structure = structure
        self._traces: Sequence[RunTrace] = traces
        self._matches: list[_Match] | None = None  # of the traces, until another visit begins
        self._base = self._shown = min(max(progress, 0.0), _MOST)
        self._is_whole = not progress and not completed
        self._completed_before = completed
        self._completed = 0
        self._worked = 0.0
        self._at: float | None = None  # time of the last event, while nodes run
        self._open: dict[str, _OpenVisit] = {}
        self._container: set[str] = set()  # running functions of an @entrypoint, which contain the tasks
        self._begun: Counter[str] = Counter()  # visits by node
        self._just_ended: set[str] = set()  # nodes since the last start
        self._visits: dict[int, Visit] = {}  # the first ones that have ended
        self._finished = False

    def learn(self, traces: Sequence[RunTrace]) -> None:
        """Replace the earlier runs, oldest first."""
        self._traces, self._matches = traces, None

    # --- events ---------------------------------------------------------------------------------------------

    def start(self, visit: str, node: str, at: float, *, in_node: str | None = None) -> None:
        """Record that an attempt of a node starts.

        Args:
            visit: Id of the visit, the same for all attempts.
            node: The node's name.
            at: Time, in seconds.
            in_node: Id of the node's visit in which a task starts; None for a node.
        """
        if (in_node is None) == self._structure.is_functional:
            if self._structure.is_functional:
                self._advance(at)
                self._container.add(visit)
                self._at = at
            return
        self._advance(at)
        self._at = at
        again = self._open.get(visit)
        if again is not None:
            again.start, again.running = self._worked, True
            again.live, again.percent = None, 0.0
            return
        self._just_ended.clear()
        self._matches = None
        number = self._begun[node] + 1
        index = self._begun.total()
        self._begun[node] = number
        self._open[visit] = _OpenVisit(node=node, number=number, index=index, start=self._worked)

    def end(self, visit: str, ending: Ending, at: float) -> None:
        """Record the end of an attempt. The visit of one that failed or was interrupted stays open."""
        self._advance(at)
        self._container.discard(visit)
        found = self._open.get(visit)
        if found is not None and found.running:
            seconds = found.seconds(self._worked)
            found.running = False
            found.live, found.percent = None, 0.0
            if ending == "complete":
                self._complete(visit, found, seconds)
            elif ending == "interrupted":
                found.spent = seconds
        if not self._is_working:
            self._at = None

    def _complete(self, visit: str, found: _OpenVisit, seconds: float) -> None:
        del self._open[visit]
        self._completed += 1
        self._just_ended.add(found.node)
        if found.index < MAX_TRACE:
            self._visits[found.index] = Visit(found.node, found.start, self._worked, seconds)

    def progress(self, visit: str, percent: float, at: float) -> None:
        """Record the live progress of a node that runs, 0 to 100."""
        found = self._open.get(visit)
        if found is None or not found.running or percent <= found.percent:
            return
        self._advance(at)
        if found.live is None:
            found.live = EtaEstimator()
            found.live.observe(0.0, 0.0)
        found.percent = min(percent, _ALL)
        found.live.observe(self._worked - found.start, found.percent)

    def finish(self, at: float) -> RunTrace | None:
        """Record that the run is complete. Return its trace for the next runs; None if only a part of it was seen."""
        self._advance(at)
        self._open.clear()
        self._container.clear()
        self._at = None
        self._finished = True
        if not self._is_whole or not self._begun:
            return None
        visits = tuple(visit for _, visit in sorted(self._visits.items()))
        return RunTrace(self._worked, self._begun.total(), visits)

    @property
    def _is_working(self) -> bool:
        return bool(self._container) or any(each.running for each in self._open.values())

    def _advance(self, at: float) -> None:
        if self._at is not None:
            self._worked += max(0.0, at - self._at)
            self._at = max(self._at, at)

    # --- figures --------------------------------------------------------------------------------------------

    @property
    def running(self) -> Sequence[str]:
        """Ids of the visits that run."""
        return [visit for visit, each in self._open.items() if each.running]

    def figures(self, at: float) -> RunFigures:
        """Return the progress at a time."""
        completed = self._completed_before + self._completed
        if self._finished:
            return RunFigures(total_nodes=completed, completed_nodes=completed, current=None, progress=_ALL, eta_s=0.0)
        self._advance(at)
        outlook = self._predict()
        self._shown = min(_MOST, max(self._shown, self._base + (_ALL - self._base) * outlook.share))
        return RunFigures(
            total_nodes=completed + len(self._open) + round(outlook.nodes),
            completed_nodes=completed,
            current=max(self._open, key=lambda each: self._open[each].index, default=None),
            progress=self._shown,
            eta_s=outlook.seconds if self._is_working else None,
        )

    def _predict(self) -> _Outlook:
        """Return the outlook: the mean over the earlier runs, or the figures of the structure."""
        if not self._traces:
            return self._from_structure()
        if self._matches is None:
            self._matches = [self._match(each, _RECENCY**age) for age, each in enumerate(reversed(self._traces))]
        weight, worked = sum(each.weight for each in self._matches), self._worked
        rest = sum(each.weight * (each.after + self._until(each.trace)) for each in self._matches) / weight
        nodes = sum(each.weight * each.nodes for each in self._matches) / weight
        return _Outlook(worked / (worked + rest) if worked else 0.0, rest, nodes)

    def _match(self, trace: RunTrace, weight: float) -> _Match:
        """Compare an earlier run with the visits that have begun."""
        frontier = latest = 0.0
        matched = 0
        for node, count in self._begun.items():
            known = trace.by_node.get(node)
            same = min(count, len(known.visits)) if known is not None else 0
            matched += same
            if known is not None and same:
                frontier = max(frontier, known.last_end[same - 1])
                latest = max(latest, known.last_start[same - 1])
        passed = sum(started_until(known, latest) for known in trace.by_node.values()) if self._begun else 0
        is_same = matched == passed == self._begun.total()
        return _Match(
            trace=trace,
            after=max(0.0, trace.seconds - frontier),
            nodes=max(0, trace.total - passed),
            weight=weight if is_same else weight * _OTHER_WAY,
        )

    def _until(self, trace: RunTrace) -> float:
        """Return the seconds until all open visits have ended, if they last as long as in an earlier run."""
        longest = 0.0
        for each in self._open.values():
            known = trace.by_node.get(each.node)
            usual = known.visits[min(each.number, len(known.visits)) - 1].seconds if known is not None else trace.mean
            longest = max(longest, self._left(each, usual))
        return longest

    def _left(self, visit: _OpenVisit, usual: float | None) -> float:
        """Return the rest of a visit that took this number of seconds in an earlier run; None without one."""
        live = visit.live.left(self._worked - visit.start) if visit.live is not None else None
        if usual is None:
            return live or 0.0
        passed = visit.seconds(self._worked)
        learnt = usual - passed if passed <= usual else _OVERDUE * passed
        if live is None:
            return learnt
        share = math.sqrt(visit.percent / _ALL)
        return share * live + (1.0 - share) * learnt

    def _from_structure(self) -> _Outlook:
        """Return the outlook without an earlier run: the share of the nodes, and the time at the pace of the run."""
        nodes = {each.node for each in self._open.values()} or self._just_ended
        ahead = self._structure.expected_after(nodes)
        if ahead is None:
            ahead = float(self._completed)
        total = self._completed + len(self._open) + ahead
        done = self._completed + sum(each.percent for each in self._open.values()) / _ALL
        if not done:
            return _Outlook(0.0, None, ahead)
        seconds = max([self._worked * (total - done) / done, *(self._left(each, None) for each in self._open.values())])
        return _Outlook(done / total, seconds, ahead)
