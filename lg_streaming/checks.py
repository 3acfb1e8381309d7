"""Check and message of every duration, count and rate that the library takes as an option.

Such a number is finite and no ``bool``. Negative numbers are refused, and so is 0, unless the message names a meaning
of 0. ``None`` is accepted where the message names its meaning.
"""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, TypeVar

from pydantic import ValidationError, WrapValidator
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import ValidatorFunctionWrapHandler
    from pydantic_core import ErrorDetails

__all__ = ["NUMBER_ERROR", "Number", "count", "option", "rate", "refused_option", "seconds"]

N = TypeVar("N")

_REAL: Final = (numbers.Real, Decimal)
NUMBER_ERROR: Final = "lg_streaming_number"
"""Type of pydantic's error for a number that is refused. Its message is complete."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """Range of numbers that an option accepts."""

    unit: str = ""
    """Unit of the number; empty for a bare number."""
    whole: bool = False
    least: float = 0.0
    above: bool = False
    """True if ``least`` itself is refused."""
    most: float | None = None
    zero: str | None = None
    """Effect of 0, if it has a special one."""
    none: str | None = None
    """Meaning of None; without one, None is refused."""
    infinite: bool = False
    """True if infinity is accepted."""

    @property
    def expected(self) -> str:
        """Range in words: ``a number of seconds above 0, or None for no limit``."""
        kind = "a whole number" if self.whole else "a number"
        of = f" of {self.unit}" if self.unit else ""
        if self.least == -math.inf:
            bounds = "that is finite"
        elif self.above:
            bounds = f"above {self.least:g}" if self.most is None else f"above {self.least:g}, up to {self.most:g}"
        else:
            bounds = f"from {self.least:g} on" if self.most is None else f"from {self.least:g} to {self.most:g}"
        zero = f" (0 {self.zero})" if self.zero else ""
        return f"{kind}{of} {bounds}{zero}{f', or None {self.none}' if self.none else ''}"

    def accepts(self, value: object) -> bool:
        """Return whether ``value`` is in the range."""
        if value is None:
            return self.none is not None
        if isinstance(value, bool) or not isinstance(value, numbers.Integral if self.whole else _REAL):
            return False
        if isinstance(value, Decimal) and value.is_nan():  # a signaling one raises when it is looked at
            return False
        number: Any = value
        if math.isnan(number) or (math.isinf(number) and not (self.infinite and number > 0)):
            return False
        return (number > self.least if self.above else number >= self.least) and (
            self.most is None or number <= self.most
        )

    def refusal(self, value: object) -> str:
        """Return the message about a refused value, to be put after the option's name."""
        return f"is {self.expected}, not {value!r:.80}"

    def check(self, name: str, value: N, error: Callable[[str], Exception]) -> N:
        """Return ``value``, or raise ``error`` with a message about the option ``name``."""
        if not self.accepts(value):
            raise error(f"{name} {self.refusal(value)}")
        return value


def seconds(*, zero: str | None = None, none: str | None = None, most: float | None = None) -> Number:
    """Return the range of a duration: above 0, or from 0 on if ``zero`` names the effect of 0."""
    return Number(unit="seconds", above=zero is None, zero=zero, none=none, most=most)


def count(
    unit: str, *, least: int = 1, most: int | None = None, zero: str | None = None, none: str | None = None
) -> Number:
    """Return the range of a count: from 1 on, or from 0 on if ``zero`` names the effect of 0."""
    return Number(unit=unit, whole=True, least=0 if zero is not None else least, most=most, zero=zero, none=none)


def rate(unit: str, *, none: str | None = None) -> Number:
    """Return the range of a number of things per second: above 0."""
    return Number(unit=f"{unit} a second", above=True, none=none)


def option(number: Number) -> WrapValidator:
    """Return the validator of a pydantic field that accepts ``number``."""

    def checked(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            found = value if isinstance(value, bool) else handler(value)
        except ValidationError:
            raise _refused(number, value) from None
        if not number.accepts(found):
            raise _refused(number, value)
        return found

    return WrapValidator(checked)


def refused_option(function: str, option: str, problem: ErrorDetails, *, where: str = "") -> str:
    """Return the message about a decorator's option that pydantic refused: ``stream_token(buffer_size=…) is …``."""
    if problem["type"] == NUMBER_ERROR:
        expected = problem.get("ctx", {}).get("expected")
        return f"{function}({option}=…){where} is {expected}, not {problem['input']!r:.80}"
    return f"{function}({option}=…){where}: {problem['msg']}, not {problem['input']!r:.80}"


def _refused(number: Number, value: object) -> PydanticCustomError:
    shown = repr(value) if value is None or isinstance(value, (int, float)) else f"a {type(value).__name__}"
    return PydanticCustomError(
        NUMBER_ERROR, "is {expected}, not {shown}", {"expected": number.expected, "shown": shown}
    )
