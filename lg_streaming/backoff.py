"""Delays between retries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lg_streaming.checks import Number, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Backoff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Capped exponential backoff with jitter.

    The delay after attempt number ``attempt`` is ``min(delay * factor ** attempt, max_delay)``, less a random share of
    up to ``jitter``. The jitter spreads the retries of clients that failed together. ``jitter=1`` is the full jitter
    of AWS's "Exponential Backoff and Jitter" (Brooker, 2015), ``jitter=0.5`` its equal jitter.

    Raises:
        ValueError: If a value is out of its range; the message names both.
    """

    delay: float = 1.0
    """Seconds before the first retry, without jitter."""
    factor: float = 2.0
    """Factor by which each delay exceeds the one before; at least 1."""
    max_delay: float = 30.0
    """Most seconds of a delay."""
    jitter: float = 0.5
    """Largest share that is taken off a delay: from 0 to 1."""

    def __post_init__(self) -> None:
        seconds(zero="tries at once").check("delay", self.delay, ValueError)
        Number(least=1).check("factor", self.factor, ValueError)
        seconds(zero="tries at once").check("max_delay", self.max_delay, ValueError)
        Number(most=1).check("jitter", self.jitter, ValueError)

    def seconds(self, attempt: int, random: Callable[[], float]) -> float:
        """Return the seconds to wait after attempt number ``attempt`` has failed, from 0 to `max_delay`.

        Args:
            attempt: Number of the failed attempt, from 0.
            random: Function that returns a number from 0 (included) to 1 (excluded), like `random.random`.
        """
        try:
            delay = min(self.delay * self.factor**attempt, self.max_delay)
        except OverflowError:
            delay = self.max_delay if self.delay else 0.0
        return delay * (1 - self.jitter * random())
