"""The options of ``@stream_progress``."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, TypedDict

from lg_streaming.errors import StreamingConfigError
from lg_streaming.pipeline.decorator_options import DecoratorOptions, checked_options
from lg_streaming.settings import ProgressDefaults

__all__ = ["Granularity", "ProgressCalculator", "ProgressFormat", "ProgressOptions"]

Granularity = Literal["coarse", "fine", "detailed"]
"""Updates published between 0 %, milestones and 100 %: none, at most one in each interval, all."""

ProgressCalculator = Callable[[Any, Any, Mapping[str, Any]], float]
"""``calculator(current, total, metadata) -> percent``; ``total`` is None where it is not known."""


class ProgressFormat(TypedDict, total=False):
    """The fields of a progress update. A field that is left out is as in ``settings.progress_defaults.format``."""

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
class ProgressOptions(DecoratorOptions[ProgressDefaults]):
    """The options of ``@stream_progress``. Make them with `from_arguments`."""

    calculator: ProgressCalculator | None = None
    types: frozenset[str] | None = None
    """The types of published updates; None for all. ``@stream_event`` sets it."""

    @classmethod
    def from_arguments(cls, *, calculator: ProgressCalculator | None = None, **options: Any) -> Self:
        """Return the options as the decorator takes them, checked. ``options`` are those of `ProgressDefaults`.

        Raises:
            StreamingConfigError: If a value cannot be used; the message names the value and the reason.
        """
        if calculator is not None and (not callable(calculator) or inspect.iscoroutinefunction(calculator)):
            raise StreamingConfigError(
                "stream_progress(calculator=…) takes a plain function calculator(current, total, metadata) -> percent, "
                f"not {calculator!r}"
            )
        chosen = checked_options("stream_progress", ProgressDefaults, options, error=StreamingConfigError)
        if "format" in chosen:
            chosen["format"] = chosen["format"].model_dump(exclude_unset=True)
        return cls(chosen=chosen, calculator=calculator)

    def resolved(self, defaults: ProgressDefaults) -> ProgressDefaults:
        """Return these options, and ``defaults`` for those that the decorator leaves out, also of the format."""
        chosen = dict(self.chosen)
        if "format" in chosen:
            chosen["format"] = defaults.format.model_copy(update=chosen["format"])
        return defaults.model_copy(update=chosen) if chosen else defaults
