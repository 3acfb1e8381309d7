"""Frequencies as text: `10/second`, `600/minute`, `5 per 30 seconds`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Frequency"]

_UNITS: Final = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "month": 2_592_000, "year": 31_104_000}
_TEXT: Final = re.compile(
    r"\s*(?P<amount>[0-9]{1,9})\s*(?:/|per)\s*(?P<multiple>[0-9]{1,9})?\s*(?P<unit>[a-z]+?)s?\s*", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Frequency:
    """Number of times within a number of seconds.

    Args:
        amount: Times.
        seconds: Length of the window.
        text: The frequency as a message names it.
    """

    amount: int
    seconds: float
    text: str

    @classmethod
    def parse(cls, text: str) -> Frequency:
        """Read an amount, `/` or `per`, and a time: an optional number and a unit from `second` to `year`.

        Raises:
            ValueError: If the text is no frequency, or is 0.
        """
        found = _TEXT.fullmatch(text)
        if found is None or found["unit"].lower() not in _UNITS:
            raise ValueError("not a frequency such as '10/second' or '600/minute'")
        amount, multiple, unit = int(found["amount"]), int(found["multiple"] or 1), found["unit"].lower()
        if amount <= 0 or multiple <= 0:
            raise ValueError("a frequency is above 0")
        return cls(amount, float(multiple * _UNITS[unit]), f"{amount} per {multiple} {unit}{'s' * (multiple > 1)}")

    def __str__(self) -> str:
        return self.text
