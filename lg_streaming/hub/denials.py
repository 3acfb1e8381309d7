"""What one follower may not read, and when that is asked about again."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.events import Position

__all__ = ["Denials"]

_LIFETIME: Final = 5.0
"""Seconds until it is asked again whether an execution may be read after all."""
_REMEMBERED: Final = 1_000
"""Denials that a follower keeps; of those it forgets, it asks with the next update."""


@dataclass(slots=True, eq=False)
class _Denial:
    until: float
    start: Position | None
    """Where reading would begin."""
    has_news: bool = False


class Denials:
    """Denied executions, with the place where reading would begin. They cost one timer and little memory.

    Args:
        clock: Seconds, monotonic.
        ask_again: Called with a denied execution that had news since, when its denial is over.
    """

    def __init__(self, clock: Callable[[], float], ask_again: Callable[[str, Position | None], None]) -> None:
        self._clock = clock
        self._ask_again = ask_again
        self._known: OrderedDict[str, _Denial] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._known)

    def add(self, execution_id: str, start: Position | None) -> None:
        """Keep a denial."""
        self._known.pop(execution_id, None)
        self._known[execution_id] = _Denial(self._clock() + _LIFETIME, start)
        while len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)

    def holds(self, execution_id: str) -> bool:
        """Whether an execution that has news is denied. It comes back through `ask_again`, now or later."""
        denial = self._known.get(execution_id)
        if denial is None:
            return False
        denial.has_news = True
        wait = denial.until - self._clock()
        if wait <= 0:
            del self._known[execution_id]
            self._ask_again(execution_id, denial.start)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._ring)
        return True

    def forgive(self) -> None:
        """What may be read has changed: ask about all that had news, and keep the others as if they were over."""
        for denial in self._known.values():
            denial.until = float("-inf")
        self._ring()

    def close(self) -> None:
        """Forget all. Harmless when repeated."""
        self._known.clear()
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ring(self) -> None:
        """Ask again about executions whose denial has expired; schedule the next look."""
        self._cancel()
        now = self._clock()
        with_news = [(name, denial) for name, denial in self._known.items() if denial.has_news]
        waits = [denial.until - now for _, denial in with_news if denial.until > now]
        for execution_id, denial in with_news:
            if denial.until <= now:
                del self._known[execution_id]
                self._ask_again(execution_id, denial.start)
        if waits:
            self._timer = asyncio.get_running_loop().call_later(min(waits), self._ring)
