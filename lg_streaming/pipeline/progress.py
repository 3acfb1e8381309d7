"""How far a node is: percentage, time left, rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

if TYPE_CHECKING:
    from lg_streaming.emitter import Emitter

__all__ = [
    "Granularity",
    "ProgressCalculator",
    "ProgressFormat",
    "ProgressOptions",
    "ProgressTracker",
    "current_progress",
    "progress_var",
]

Granularity = Literal["coarse", "fine", "detailed"]
ProgressCalculator = Callable[[float, float, Mapping[str, Any]], float]
"""``calculator(current, total, metadata) -> percent``."""


class ProgressFormat(TypedDict, total=False):
    """Which fields a progress update has."""

    show_percentage: bool
    show_current: bool
    show_total: bool
    show_rate: bool
    precision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressOptions:
    """What ``@stream_progress`` was given."""

    enabled: bool = True
    include_eta: bool = True
    include_metrics: bool = False


class ProgressTracker:
    """Reports the progress of one node. Get it with :func:`current_progress` inside the node.

    Thread-safe; never raises into the node. Without an emitter it does nothing.

    The time left is elapsed · (total - current) / current: what the rest takes at the average pace so far.
    It is left out until something is done, and 0 at the end.
    """

    def __init__(
        self,
        emitter: Emitter | None = None,
        options: ProgressOptions | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._emitter = emitter
        self._options = options or ProgressOptions()
        self._clock = clock
        self._started = clock()
        self._lock = threading.Lock()
        self._percent = 0.0

    @property
    def active(self) -> bool:
        """Whether anyone hears it; False outside of a node decorated with ``@stream_progress``."""
        return self._emitter is not None

    @property
    def percent(self) -> float:
        """The last percentage, 0 to 100."""
        return self._percent

    def update(self, current: float, total: float, metadata: Mapping[str, Any] | None = None) -> None:
        """``current`` of ``total`` is done, in any unit; ``metadata`` is sent along.

        What cannot be a progress (not a number, a total of 0 or less) counts as 0 %.
        """
        if self._emitter is None:
            return
        percent = _percent(current, total)
        data: dict[str, Any] = {"progress": round(percent, 1), "current": current, "total": total, "status": "running"}
        elapsed = self._clock() - self._started
        if self._options.include_eta and percent > 0:
            data["eta_s"] = round(elapsed * (100.0 - percent) / percent, 3)
        if self._options.include_metrics:
            data["elapsed_s"] = round(elapsed, 3)
            data["rate"] = round(current / elapsed, 3) if elapsed > 0 and percent > 0 else 0.0
        if metadata:
            data["metadata"] = dict(metadata)
        with self._lock:
            self._percent = percent
            self._emitter.event("progress", data)

    def begin(self) -> None:
        """The node begins: 0 %."""
        self._report(status="started")

    def finish(self, status: str) -> None:
        """The node ends: 100 % when ``status`` is ``completed``, else the last percentage."""
        if status == "completed":
            self._percent = 100.0
        self._report(status=status, elapsed_s=round(self._clock() - self._started, 3))

    def _report(self, **data: Any) -> None:
        if self._emitter is not None:
            with self._lock:
                self._emitter.event("progress", {"progress": round(self._percent, 1), **data})


def _percent(current: float, total: float) -> float:
    try:
        percent = 100.0 * current / total if total > 0 else 0.0
    except TypeError:
        return 0.0
    return min(100.0, max(0.0, percent)) if percent == percent else 0.0  # noqa: PLR0124 (NaN is not itself)


NO_PROGRESS: Final = ProgressTracker()

progress_var: ContextVar[ProgressTracker] = ContextVar("lg_streaming_progress", default=NO_PROGRESS)
"""Set while a node decorated with ``@stream_progress`` runs."""


def current_progress() -> ProgressTracker:
    """The tracker of the node that is running; outside of a ``@stream_progress`` node, one that does nothing."""
    return progress_var.get()
