"""Options that all decorators have in common: their defaults and their checks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from lg_streaming.checks import refused_option

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from lg_streaming.errors import StreamingError

__all__ = ["DecoratorOptions", "checked_options"]

D = TypeVar("D", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoratorOptions(Generic[D]):
    """Options of a decorator, over the defaults of the settings or of the execution."""

    chosen: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """The options that the decorator sets, of those that have a default in the settings."""

    @property
    def enabled(self) -> bool | None:
        """True or False if the decorator switches it on or off; else None."""
        return self.chosen.get("enabled")

    def resolved(self, defaults: D) -> D:
        """Return these options, and ``defaults`` for those that the decorator leaves out."""
        return defaults.model_copy(update=self.chosen) if self.chosen else defaults


def checked_options(
    decorator: str,
    defaults: type[BaseModel],
    options: Mapping[str, Any],
    *,
    error: type[StreamingError],
    strict: bool = False,
) -> dict[str, Any]:
    """Return the options that are not None, checked as the fields of ``defaults``, the settings' section.

    Args:
        decorator: Its name, for messages.
        defaults: The settings' section.
        options: The options by name.
        error: Raised for an option that does not exist, or whose value cannot be used.
        strict: True if values must have their types already.
    """
    chosen = {name: value for name, value in options.items() if value is not None}
    try:
        checked = defaults.model_validate(chosen, strict=strict)
    except ValidationError as problems:
        found = problems.errors(include_url=False)
        raise error("; ".join(_message(decorator, defaults, each) for each in found)) from None
    return {name: getattr(checked, name) for name in chosen}


def _message(decorator: str, defaults: type[BaseModel], problem: ErrorDetails) -> str:
    option, *inner = (str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden" and not inner:
        return f"{decorator}: there is no option {option!r}: there are {', '.join(defaults.model_fields)}"
    return refused_option(decorator, option, problem, where=f" at {'.'.join(inner)}" if inner else "")
