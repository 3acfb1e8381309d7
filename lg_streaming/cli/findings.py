"""Results of the checks of `doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Finding", "Level", "worst"]

Level = Literal["ok", "warning", "failure"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Result of one check."""

    check: str
    level: Level
    message: str
    advice: str = ""
    """Remedy; empty if there is nothing to do."""


def worst(findings: Iterable[Finding]) -> Level:
    """Return the worst level of findings; ``ok`` of none."""
    levels = {finding.level for finding in findings}
    return "failure" if "failure" in levels else "warning" if "warning" in levels else "ok"
