"""Estimate the progress of a run: nodes that are done, percentage and time left."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lg_streaming.pipeline.eta import EtaEstimator
from lg_streaming.runs.history import MAX_TRACE, NodeTimes, RunTrace, Visit, started_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.capture import Ending
    from lg_streaming.runs.structure import GraphStructure

__all__ = ["RunEstimate", "RunFigures"]

_ALL: Final = 100.0
_MOST: Final = 99.9
"""Highest percentage of a run that has not ended."""
_RECENCY: Final = 0.95
"""Weight of a run, relative to that of the next newer one."""
_SIMILARITY: Final = 0.2
"""Weight of a run for each visit in which it differs from the present run."""
_OUTLIVED: Final = 0.3
"""Weight of a run in which a node that runs now had ended by this time."""
_OVERDUE: Final = 0.1
"""Expected rest of a node that takes longer than ever, as a part of its time so far."""


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


@dataclass(frozen=True, slots=True)
class _Rest:
    """Prediction of the work that is left, by one earlier run or by the structure."""

    seconds: float
    nodes: float
    weight: float = 1.0


@dataclass(slots=True)
class _Earlier:
    """An earlier run, prepared for comparisons."""

    trace: RunTrace
    weight: float
    times: Mapping[str, NodeTimes] = field(init=False)

    def __post_init__(self) -> None:
        self.times = self.trace.by_node()


class RunEstimate:
    """Estimate of the progress of one run, from its nodes' starts and ends and from earlier runs of the graph.

    With W seconds of work done, and R seconds expected, the percentage is 100 · W / (W + R). The clock of W runs while
    a node runs: waits for a human do not count, and parallel nodes count once. The percentage never goes back.

    R is a weighted mean over earlier runs, as in the non-parametric regression of van Dongen, Crooy & van der Aalst
    ("Cycle time prediction: when will this case finally be finished?", CoopIS 2008). A run's weight falls with its
    age, and with each visit of a node in which its way up to this point differs: the set of visits is the abstraction
    of the state, as in van der Aalst, Schonenberg & Song ("Time prediction based on process mining", Information
    Systems 36, 2011). Each earlier run predicts

        R = max over the open visits of their rest  +  the run's time after the end of the matching visits

    The rest of a visit is its duration in the earlier run minus the time so far, blended with the live progress of the
    node: its share grows with the percentage. For a visit that lasts longer than in each earlier run, the rest is a
    part of the time so far. Only completed runs count, as for the estimated durations of builds in Jenkins
    (``hudson.model.Job.getEstimatedDuration``).

    Without an earlier run, R comes from the graph's structure and the durations of the nodes so far. Without a
    structure as much work is expected as was done.

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
        self._earlier: list[_Earlier] = []
        self.learn(traces)
        self._base = self._shown = min(max(progress, 0.0), _MOST)
        self._is_whole = not progress and not completed
        self._completed = completed
        self._worked = 0.0
        self._at: float | None = None  # time of the last event, while nodes run
        self._open: dict[str, _OpenVisit] = {}
        self._container: set[str] = set()  # running functions of an @entrypoint, which contain the tasks
        self._begun: Counter[str] = Counter()  # visits by node
        self._just_ended: set[str] = set()  # nodes since the last start
        self._visits: dict[int, Visit] = {}  # the first ones that have ended
        self._durations: dict[str, tuple[int, float]] = {}
        self._finished = False

    def learn(self, traces: Sequence[RunTrace]) -> None:
        """Replace the earlier runs, oldest first."""
        count = len(traces)
        self._earlier = [_Earlier(trace, _RECENCY ** (count - 1 - n)) for n, trace in enumerate(traces)]

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
        count, total = self._durations.get(found.node, (0, 0.0))
        self._durations[found.node] = (count + 1, total + seconds)
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
        if self._finished:
            return RunFigures(
                total_nodes=self._completed,
                completed_nodes=self._completed,
                current=None,
                progress=_ALL,
                eta_s=0.0,
            )
        self._advance(at)
        rest = self._predict()
        worked = self._worked
        share = worked / (worked + rest.seconds) if worked + rest.seconds > 0 else 0.0
        self._shown = min(_MOST, max(self._shown, self._base + (_ALL - self._base) * share))
        return RunFigures(
            total_nodes=self._completed + len(self._open) + round(rest.nodes),
            completed_nodes=self._completed,
            current=max(self._open, key=lambda each: self._open[each].index, default=None),
            progress=self._shown,
            eta_s=rest.seconds if self._is_working else None,
        )

    def _predict(self) -> _Rest:
        found = [self._compare(each) for each in self._earlier] or [self._from_structure()]
        weight = sum(each.weight for each in found)
        seconds = sum(each.weight * each.seconds for each in found) / weight
        return _Rest(seconds, sum(each.weight * each.nodes for each in found) / weight)

    def _compare(self, earlier: _Earlier) -> _Rest:
        """Return the rest of this run if it goes on like an earlier one."""
        trace, times = earlier.trace, earlier.times
        frontier = latest = 0.0
        missing, matched = 0, 0
        for node, count in self._begun.items():
            known = times.get(node)
            same = min(count, len(known.visits)) if known is not None else 0
            missing += count - same
            matched += same
            if known is not None and same:
                frontier = max(frontier, known.last_end[same - 1])
                latest = max(latest, known.last_start[same - 1])
        if self._begun:
            passed = sum(started_until(known, latest) for known in times.values())
            missing += passed - matched
            matched = passed
        rest, weight = 0.0, earlier.weight * _SIMILARITY**missing
        for each in self._open.values():
            known = times.get(each.node)
            expected = known.visits[min(each.number, len(known.visits)) - 1].seconds if known is not None else None
            left, outlived = self._left(each, self._typical(each.node) if expected is None else expected)
            weight *= _OUTLIVED if outlived else 1.0
            rest = max(rest, left)
        return _Rest(rest + max(0.0, trace.seconds - frontier), trace.total - matched, max(weight, 1e-12))

    def _left(self, visit: _OpenVisit, expected: float) -> tuple[float, bool]:
        """Return the rest of a visit of this expected duration, and True if it lasts longer already."""
        passed = visit.seconds(self._worked)
        outlived = passed > expected
        learnt = max(expected - passed, _OVERDUE * passed if outlived else 0.0)
        live = visit.live.left(self._worked - visit.start) if visit.live is not None else None
        if live is None:
            return learnt, outlived
        share = (visit.percent / _ALL) ** 0.5
        return share * live + (1.0 - share) * learnt, False

    def _from_structure(self) -> _Rest:
        """Return the rest without an earlier run."""
        rest = max((self._left(each, self._typical(each.node))[0] for each in self._open.values()), default=0.0)
        nodes = {each.node for each in self._open.values()} or self._just_ended
        ahead = self._structure.ahead(nodes, self._typical)
        if ahead is None:
            return _Rest(max(rest, self._worked), 0.0)
        return _Rest(rest + ahead.seconds, ahead.nodes)

    def _typical(self, node: str) -> float:
        """Return the mean duration of a node in this run; for a new one that of all nodes, or twice the time so far."""
        count, total = self._durations.get(node, (0, 0.0))
        if count:
            return total / count
        if self._durations:
            return sum(total / count for count, total in self._durations.values()) / len(self._durations)
        return 2.0 * self._worked or 1.0
