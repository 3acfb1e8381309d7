"""What ``@stream_progress`` can be told."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict

from pydantic import ValidationError

from lg_streaming.checks import refused_option
from lg_streaming.errors import StreamingConfigError
from lg_streaming.settings import ProgressDefaults

__all__ = ["Granularity", "ProgressCalculator", "ProgressFormat", "ProgressOptions"]

Granularity = Literal["coarse", "fine", "detailed"]
"""Which updates leave beside 0 %, milestones and 100 %: none, at most one each interval, all."""

ProgressCalculator = Callable[[Any, Any, Mapping[str, Any]], float]
"""``calculator(current, total, metadata) -> percent``; ``total`` is None where it is not known."""


class ProgressFormat(TypedDict, total=False):
    """Which fields a progress update has. What is left out is as in ``settings.progress_defaults.format``."""

    show_percentage: bool
    """``progress``; True."""
    show_current: bool
    """``current``, as it was reported; False."""
    show_total: bool
    """``total``, as it was reported; False."""
    show_rate: bool
    """``rate``, in units of ``current`` per second; False."""
    precision: int
    """Decimals of ``progress``, 0 to 6; 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressOptions:
    """What ``@stream_progress`` was given; None for what it was not."""

    enabled: bool | None = None
    interval: float | None = None
    granularity: Granularity | None = None
    include_eta: bool | None = None
    include_metrics: bool | None = None
    milestones: tuple[float, ...] | None = None
    calculator: ProgressCalculator | None = None
    format: Mapping[str, Any] | None = None
    types: frozenset[str] | None = None
    """The types of updates that leave; None for all. ``@stream_event`` sets it."""

    @classmethod
    def of(
        cls,
        *,
        enabled: bool | None = None,
        interval: float | None = None,
        granularity: Granularity | None = None,
        include_eta: bool | None = None,
        include_metrics: bool | None = None,
        milestones: Sequence[float] | None = None,
        calculator: ProgressCalculator | None = None,
        format: ProgressFormat | Mapping[str, Any] | None = None,
    ) -> Self:
        """The options, checked.

        Raises:
            StreamingConfigError: A value cannot be used; the message says which, and why.
        """
        if calculator is not None and (not callable(calculator) or inspect.iscoroutinefunction(calculator)):
            raise StreamingConfigError(
                "stream_progress(calculator=…) takes a plain function calculator(current, total, metadata) -> percent, "
                f"not {calculator!r}"
            )
        options: dict[str, Any] = {
            "enabled": enabled,
            "interval": interval,
            "granularity": granularity,
            "include_eta": include_eta,
            "include_metrics": include_metrics,
            "milestones": milestones,
            "format": format,
        }
        given = {name: value for name, value in options.items() if value is not None}
        try:
            checked = ProgressDefaults.model_validate(given)
        except ValidationError as error:
            raise StreamingConfigError("; ".join(_problems(error))) from None
        usable = {name: getattr(checked, name) for name in given}
        if "format" in usable:
            usable["format"] = checked.format.model_dump(exclude_unset=True)
        return cls(**usable, calculator=calculator)

    def resolved(self, defaults: ProgressDefaults) -> ProgressDefaults:
        """These options, and ``defaults`` where they are not set."""
        given: dict[str, Any] = {
            "enabled": self.enabled,
            "interval": self.interval,
            "granularity": self.granularity,
            "include_eta": self.include_eta,
            "include_metrics": self.include_metrics,
            "milestones": self.milestones,
        }
        changes = {name: value for name, value in given.items() if value is not None}
        if self.format:
            changes["format"] = defaults.format.model_copy(update=self.format)
        return defaults.model_copy(update=changes) if changes else defaults


def _problems(error: ValidationError) -> list[str]:
    problems: list[str] = []
    for detail in error.errors(include_url=False):
        option, *inner = (str(part) for part in detail["loc"])
        where = f" at {'.'.join(inner)}" if inner else ""
        problems.append(refused_option("stream_progress", option, detail, where=where))
    return problems
