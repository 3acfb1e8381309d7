"""Pauses between retries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lg_streaming.checks import Number, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LOG_BACKOFF", "Backoff"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Capped exponential backoff with jitter.

    The pause before try number ``attempt`` + 1 is ``min(delay * factor ** attempt, max_delay)``. A random share of up
    to ``jitter`` is taken off, so that clients that failed together do not come back together. AWS's "Exponential
    Backoff and Jitter" (Brooker, 2015) calls ``jitter=1`` full jitter, and ``jitter=0.5`` equal jitter.

    Raises:
        ValueError: If a value is out of range; the message names the value and its range.
    """

    delay: float = 1.0
    """Seconds before the first retry, without jitter."""
    factor: float = 2.0
    """The ratio of each pause to the one before; at least 1."""
    max_delay: float = 30.0
    """The longest pause in seconds."""
    jitter: float = 0.5
    """The largest share that is taken off a pause: 0 nothing, 1 all of it."""

    def __post_init__(self) -> None:
        seconds(zero="tries at once").check("delay", self.delay, ValueError)
        Number(least=1).check("factor", self.factor, ValueError)
        seconds(zero="tries at once").check("max_delay", self.max_delay, ValueError)
        Number(most=1).check("jitter", self.jitter, ValueError)

    def seconds(self, attempt: int, random: Callable[[], float]) -> float:
        """Return the pause after try number ``attempt`` (the first is 0) failed: seconds from 0 to `max_delay`.

        Args:
            attempt: The number of tries that failed before this one.
            random: A source of numbers from 0 (included) to 1 (excluded), like `random.random`.
        """
        try:
            pause = min(self.delay * self.factor**attempt, self.max_delay)
        except OverflowError:
            pause = self.max_delay if self.delay else 0.0
        return pause * (1 - self.jitter * random())


LOG_BACKOFF: Final = Backoff(delay=0.05, max_delay=2.0)
"""Pauses of readers while the log is unavailable."""
