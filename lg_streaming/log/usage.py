"""Usage of models: tokens and cost, of one update or of a run."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["NO_USAGE", "Usage"]

_UNKNOWN = "-"


class Usage(NamedTuple):
    """Tokens and cost of models: of one call, of a run, or the difference between two of these."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    cost: float | None = None
    """Cost, in a currency that the program chooses; None if no call had one."""

    def plus(self, other: Usage) -> Usage:
        """Return the sum of both. A cost that is unknown counts as none."""
        costs = [each for each in (self.cost, other.cost) if each is not None]
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.total_tokens + other.total_tokens,
            sum(costs) if costs else None,
        )

    def minus(self, other: Usage) -> Usage:
        """Return what is to be added to ``other`` to get this usage."""
        cost = self.cost if other.cost is None else (self.cost or 0.0) - other.cost
        return Usage(
            self.input_tokens - other.input_tokens,
            self.output_tokens - other.output_tokens,
            self.total_tokens - other.total_tokens,
            cost,
        )

    @property
    def text(self) -> str:
        """Four numbers with commas between them, as a log may keep them."""
        cost = _UNKNOWN if self.cost is None else repr(float(self.cost))
        return f"{self.input_tokens},{self.output_tokens},{self.total_tokens},{cost}"

    @classmethod
    def parse(cls, text: str) -> Usage:
        """Return the usage of `text`. Raises ValueError if it is none."""
        read, written, total, cost = text.split(",")
        return cls(int(read), int(written), int(total), None if cost == _UNKNOWN else float(cost))


NO_USAGE = Usage()
