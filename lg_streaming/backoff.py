"""How long to wait before the next try."""

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

    The pause before try number ``attempt`` + 1 is ``min(delay * factor ** attempt, max_delay)``, shortened by a random
    share of up to ``jitter``, so that many who failed together do not come back together. ``jitter=1`` is what
    AWS's "Exponential Backoff and Jitter" (Brooker, 2015) calls full jitter, ``jitter=0.5`` its equal jitter.

    Raises:
        ValueError: A value cannot be used; the message says which and what may stand there.
    """

    delay: float = 1.0
    """Seconds before the first try again, without jitter."""
    factor: float = 2.0
    """By how much each pause is longer than the one before; at least 1."""
    max_delay: float = 30.0
    """Seconds that no pause exceeds."""
    jitter: float = 0.5
    """The largest share that is taken off a pause: 0 none, 1 all of it."""

    def __post_init__(self) -> None:
        seconds(zero="tries at once").check("delay", self.delay, ValueError)
        Number(least=1).check("factor", self.factor, ValueError)
        seconds(zero="tries at once").check("max_delay", self.max_delay, ValueError)
        Number(most=1).check("jitter", self.jitter, ValueError)

    def seconds(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds to wait after try number ``attempt`` failed, the first being 0; within 0 and `max_delay`.

        Args:
            attempt: How many tries failed before this one.
            random: Gives a number from 0 (included) to 1 (excluded), like `random.random`.
        """
        try:
            pause = min(self.delay * self.factor**attempt, self.max_delay)
        except OverflowError:
            pause = self.max_delay if self.delay else 0.0
        return pause * (1 - self.jitter * random())
