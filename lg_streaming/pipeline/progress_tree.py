"""Add up the progress of the parts of a piece of work."""

from __future__ import annotations

import math
from typing import Any, Final

__all__ = ["ProgressNode"]

_ALL: Final = 100.0
_EPSILON: Final = 1e-9
"""Percent: the error of adding up parts."""


class ProgressNode:
    """One part of the work: its own progress, and that of its parts, added up by weight. Never goes back.

    Not thread-safe.
    """

    __slots__ = ("amount", "label", "parent", "percent", "weight", "weighted", "weights")

    def __init__(self, parent: ProgressNode | None = None, weight: Any = 1.0, label: str | None = None) -> None:
        self.parent: ProgressNode | None = parent
        self.weight: float = _weight(weight)
        self.label: str | None = label
        self.percent: float = 0.0
        self.amount: tuple[Any, Any] = (None, None)
        """The last current and total."""
        self.weights: float = 0.0
        """The percentage of its parts together."""
        self.weighted: float = 0.0
        """The sum of weight times percent over its parts."""
        if parent is not None:
            parent.weights += self.weight

    def raise_to(self, percent: float) -> None:
        """Raise the percentage to ``percent``, and the parent's by the share of this part."""
        before, parent = self.percent, self.parent
        if percent <= before:
            return
        self.percent = percent
        if parent is not None and self.weight:
            parent.weighted += self.weight * (percent - before)
            together = parent.weighted / parent.weights
            parent.raise_to(together if together < _ALL - _EPSILON else _ALL)

    def text(self) -> str | None:
        """Return its label, or that of the nearest parent with one."""
        share: ProgressNode | None = self
        while share is not None:
            if share.label is not None:
                return share.label
            share = share.parent
        return None


def _weight(weight: Any) -> float:
    try:
        number = float(weight)
    except Exception:  # noqa: BLE001 (a number of the user's own may raise anything)
        return 0.0
    return number if 0.0 < number < math.inf else 0.0
