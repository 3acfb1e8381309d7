"""Publish a node's percentages as updates: throttled, with milestones, an estimate, and a format."""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.pipeline.branches import branches_of
from lg_streaming.pipeline.eta import EtaEstimator
from lg_streaming.pipeline.timed_buffer import Source, buffer
from lg_streaming.settings import NodeDefaults
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reactivex.abc import SchedulerBase

    from lg_streaming.emitter import Emitter
    from lg_streaming.pipeline.progress_options import ProgressOptions

__all__ = ["ProgressValue", "Reporter", "shown"]

logger: logging.Logger = logging.getLogger(__name__)

_ALL: Final = 100.0
_EPSILON: Final = 1e-9
"""Percent: the error of adding up parts."""
_DEFAULTS: Final = NodeDefaults().progress


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressValue:
    """The values that are reported with a percentage."""

    current: Any = None
    total: Any = None
    text: str | None = None
    metadata: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Report:
    percent: float
    amount: ProgressValue
    status: str
    urgent: bool


class Reporter:
    """Publisher of the progress of one try of a node. Thread-safe.

    Args:
        emitter: The destination of updates.
        options: The options of the decorator, over the execution's defaults, which may change.
        scheduler: The clock and the timer; the process's own when not given.
    """

    def __init__(self, emitter: Emitter, options: ProgressOptions, scheduler: SchedulerBase | None = None) -> None:
        self._emitter = emitter
        self._chosen = options
        self._scheduler = scheduler or current_timer()
        self._live = emitter.defaults
        self._version = -1
        self._options = _DEFAULTS
        scope = emitter.scope
        self._name = scope.namespace
        self._branches = branches_of(scope.run_id, scope.node_id)
        self.lock: threading.RLock = self._branches.lock
        self._origin = self._scheduler.now
        self._eta = EtaEstimator()
        self._marks_reached = 0.0  # all marks up to here are published, also before a reset
        self._done = False
        self._begun = False
        self._ended = False
        self._amount = ProgressValue()
        self._reports: Source[_Report] = Source()
        latest = buffer(self, policy="latest", urgent=self._is_urgent, lock=self.lock, scheduler=self._scheduler)
        latest(self._reports).subscribe(self._send)

    @property
    def size(self) -> float:
        """The maximum of buffered reports, of which only the latest is kept."""
        return math.inf

    @property
    def interval(self) -> float:
        """Seconds between two reports."""
        return self._options.interval

    # --- reports ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Begin at 0 %."""
        with self.lock:
            if self._begun:
                return
            self._begun = True
            self._refresh()
            self._origin = self._scheduler.now
            self._eta.observe(0.0, 0.0)
            self._branches.join(self._name)
            self._offer(_Report(percent=0.0, amount=self._amount, status="started", urgent=True))

    def report(self, percent: float, amount: ProgressValue) -> None:
        """Report that ``percent`` of the node is done, never less than before. Call it under `lock`."""
        if self._ended:
            return
        self.begin()
        self._refresh()
        self._amount = amount
        marked = self._advance(percent)
        arrived = percent >= _ALL and not self._done
        self._done = self._done or arrived
        self._offer(_Report(percent=percent, amount=amount, status="running", urgent=marked or arrived))

    def restart(self) -> None:
        """Go back to 0 %. Call it under `lock`."""
        if self._ended or not self._begun:
            return
        self._refresh()
        self._done = False
        self._amount = ProgressValue()
        self._eta = EtaEstimator()
        self._eta.observe(self._elapsed(), 0.0)
        self._branches.note(self._name, 0.0)
        self._offer(_Report(percent=0.0, amount=self._amount, status="running", urgent=True))

    def finish(self, percent: float, status: str, error: object = None) -> None:
        """Publish the buffered report, then the remaining milestones, then the end of the node."""
        with self.lock:
            if self._ended:
                return
            self.begin()
            self._refresh()
            self._ended = True
            self._reports.on_completed()
            if status == "completed":
                self._advance(percent)
            self._branches.leave(self._name, completed=status == "completed")
            amount = replace(self._amount, metadata=None)
            if status == "completed":
                amount = replace(amount, text=None)
            data = self._fields(percent, amount) | {"status": status, "elapsed_s": self._elapsed()}
            if status != "completed":
                data.pop("eta_s", None)
            if error is not None:
                data["error"] = error
            self._publish("progress", data | self._combined())

    def fail(self, option: str, problem: BaseException) -> None:
        """Publish the first failure of a function that the user gave as an option."""
        node_id = self._emitter.scope.node_id
        logger.warning("%s of node %r failed; the plain value is used", option, node_id, exc_info=problem)
        described = {"message": str(problem) or type(problem).__name__, "type": type(problem).__name__}
        self._emitter.event(
            "error", {**described, "code": f"{option}_failed", "option": option, "node_id": node_id}, priority="high"
        )

    # --- what leaves --------------------------------------------------------------------------------------

    def _refresh(self) -> None:
        """Apply the execution's defaults again if they have changed."""
        live = self._live
        version = live.version if live is not None else 0
        if version == self._version:
            return
        self._live = live = self._emitter.defaults
        self._version = live.version if live is not None else 0
        self._options = self._chosen.resolved(live.current.progress if live is not None else _DEFAULTS)

    def _advance(self, percent: float) -> bool:
        """Record ``percent``, publish the milestones that it passes, and return whether there were any."""
        self._eta.observe(self._elapsed(), percent)
        self._branches.note(self._name, percent)
        before, self._marks_reached = self._marks_reached, max(self._marks_reached, percent + _EPSILON)
        crossed = [mark for mark in self._options.milestones if before < mark <= self._marks_reached]
        for mark in crossed:
            progress = shown(percent, self._options.format.precision)
            self._publish("milestone", {"milestone": int(mark) if mark.is_integer() else mark, "progress": progress})
        return bool(crossed)

    def _offer(self, report: _Report) -> None:
        if self._is_published(report):
            self._reports.on_next(report)

    def _is_published(self, report: _Report) -> bool:
        return report.urgent or self._options.granularity != "coarse"

    def _is_urgent(self, report: _Report) -> bool:
        return report.urgent or self._options.granularity == "detailed"

    def _send(self, reports: list[_Report]) -> None:
        report = reports[-1]
        data = self._fields(report.percent, report.amount) | {"status": report.status}
        self._publish("progress", data | self._combined())

    def _publish(self, type: str, data: dict[str, Any]) -> None:
        if self._options.enabled and (self._chosen.types is None or type in self._chosen.types):
            self._emitter.event(type, data)

    def _fields(self, percent: float, amount: ProgressValue) -> dict[str, Any]:
        options = self._options
        fields = options.format
        elapsed = self._elapsed()
        data: dict[str, Any] = {}
        if fields.show_percentage:
            data["progress"] = shown(percent, fields.precision)
        if fields.show_current and amount.current is not None:
            data["current"] = amount.current
        if fields.show_total and amount.total is not None:
            data["total"] = amount.total
        if options.include_eta and (left := self._eta.left(elapsed)) is not None:
            data["eta_s"] = round(left, 3)
        if options.include_metrics:
            data["elapsed_s"] = elapsed
        if options.include_metrics or fields.show_rate:
            data["rate"] = _rate(amount.current, elapsed)
        if amount.text is not None:
            data["text"] = amount.text
        if amount.metadata:
            data["metadata"] = amount.metadata
        return data

    def _combined(self) -> dict[str, Any]:
        """Return the fields of the combined progress, if the node has several parallel branches."""
        if self._branches.count <= 1:
            return {}
        progress = shown(self._branches.combined(), self._options.format.precision)
        return {"combined": self._branches.figures(progress)}

    def _elapsed(self) -> float:
        return round((self._scheduler.now - self._origin).total_seconds(), 6)


def shown(percent: float, precision: int) -> float:
    """Round ``percent`` to ``precision`` decimals, to 100 only if it is reached; with 0 decimals, to an int."""
    rounded = round(percent, precision)
    if rounded >= _ALL > percent:
        rounded = math.floor(percent * 10**precision) / 10**precision
    return rounded if precision else int(rounded)


def _rate(current: Any, elapsed: float) -> float:
    try:
        rate = float(current) / elapsed if current is not None and elapsed > 0 else 0.0
    except (ArithmeticError, TypeError, ValueError):
        return 0.0
    return round(rate, 3) if math.isfinite(rate) else 0.0
