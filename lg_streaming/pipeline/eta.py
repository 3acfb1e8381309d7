"""Estimate the remaining time: the estimate follows a changing pace and is robust against noise."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["EtaEstimator"]

_ALL: Final = 100.0
_SPAN: Final = 20.0
"""Percent of progress over which the tracking signal remembers errors."""
_SHORTEST: Final = 3.0
"""Memory of the pace, in percent of progress, while the pace changes most."""
_LEAST: Final = 0.1
"""Lower bound of the mean error, as a part of the expected time, because no pace is quite steady."""
_CLIP: Final = 3.0
"""Upper bound of an error, in mean errors (or the expected time), because a pause is not a change of pace."""


class EtaEstimator:
    """Estimator of the time to 100 % from observed percentages.

    The pace is s = T / P, in seconds per percent, where on each advance by dp percent in dt seconds

        T ← T·d + dt,   P ← P·d + dp,   d = exp(-dp / m)

    so it is an exponentially weighted mean with a memory of m percent. P has the same weights as T. Dividing by P is
    the bias correction of Kingma & Ba ("Adam", ICLR 2015, section 3): the start does not count as a pace of 0.
    With an endless memory it is elapsed · rest / done.

    The memory adapts to the tracking signal of Trigg & Leach ("Exponential smoothing with an adaptive response
    rate", Operational Research Quarterly 18, 1967). The error of the last pace is e = dt - s·dp. E and A are
    the exponentially weighted sums of e and of abs(e). The signal abs(E) / A is near 0 while errors cancel out, and 1
    while they all have one sign. Let w be the part of the signal above 1 / √n, which n random errors produce:

        w = max(0, abs(E) / A - 1 / √n) / (1 - 1 / √n),   m = 3 % / w²

    A steady pace, however noisy, thus nearly keeps the long mean, which is the best estimate there. The estimate
    follows a pace that changes. One error counts for no more than 3 mean errors, or the expected time. So a single
    pause is not a change of pace.
    The constants were chosen on recordings of work of ten shapes, and measured on others (``make bench ARGS=eta``).

    Between two advances the estimate counts down, for as long as an advance usually takes; after that it grows.
    Times are seconds of any clock that does not go backwards. Not thread-safe.
    """

    __slots__ = ("_abs_errors", "_advances", "_at", "_count", "_errors", "_percent", "_progress", "_time")

    def __init__(self) -> None:
        self._at: float | None = None  # of the last advance
        self._percent = 0.0
        self._time = self._progress = self._advances = 0.0
        self._errors = self._abs_errors = self._count = 0.0

    def observe(self, at: float, percent: float) -> None:
        """Record that ``percent`` is done at the time ``at``. The first call marks the beginning of the work."""
        if self._at is None:
            self._at, self._percent = at, percent
            return
        advance, passed = percent - self._percent, max(0.0, at - self._at)
        if advance <= 0:
            return
        self._at, self._percent = at, percent
        if self._progress:
            expected = advance * self._time / self._progress
            self._note_error(passed - expected, expected, advance)
        kept = math.exp(-advance * self._change() / _SHORTEST)
        self._time = self._time * kept + passed
        self._progress = self._progress * kept + advance
        self._advances = self._advances * kept + 1.0

    def _note_error(self, error: float, expected: float, advance: float) -> None:
        most = max(_CLIP * self._abs_errors / self._count, expected) if self._count else math.inf
        error = min(most, max(-most, error))
        kept = math.exp(-advance / _SPAN)
        self._errors = self._errors * kept + error
        self._abs_errors = self._abs_errors * kept + max(abs(error), _LEAST * expected)
        self._count = self._count * kept + 1.0

    def _change(self) -> float:
        """Return w²: 0 for a steady pace, 1 for the fastest change."""
        if self._abs_errors <= 0:
            return 0.0
        noise = 1.0 / math.sqrt(self._count)
        above = abs(self._errors) / self._abs_errors - noise
        return (above / (1.0 - noise)) ** 2 if above > 0 else 0.0

    def left(self, at: float) -> float | None:
        """Return the seconds left at the time ``at``: 0 at 100 %, None while it cannot be estimated, never negative."""
        if self._percent >= _ALL:
            return 0.0
        if self._at is None or self._progress <= 0 or self._time <= 0:
            return None
        rest = _ALL - self._percent
        waited = max(0.0, at - self._at)
        usual = self._time / self._advances
        overdue = max(0.0, waited - usual)
        return max(0.0, self._time / self._progress * rest - min(waited, usual) + overdue * rest / self._progress)
