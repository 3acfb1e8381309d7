"""Executions that a wildcard subscription may not read, and the time of the next check of their rights."""

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
"""Seconds from a denial to the next check of its execution."""
_MAX_DENIALS: Final = 1_000
"""Denials that a subscription keeps. An evicted one is checked again with the next update."""


@dataclass(slots=True, eq=False)
class _Denial:
    until: float
    start: Position | None
    """The position at which reading would begin."""
    has_updates: bool = False


class Denials:
    """Denied executions, with the position at which reading would begin. All of them share one timer.

    Args:
        clock: Seconds, monotonic.
        ask_again: Called with a denied execution that got updates, when its denial expires.
    """

    def __init__(self, clock: Callable[[], float], ask_again: Callable[[str, Position | None], None]) -> None:
        self._clock = clock
        self._ask_again = ask_again
        self._denials: OrderedDict[str, _Denial] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._denials)

    def add(self, execution_id: str, start: Position | None) -> None:
        """Keep a denial."""
        self._denials.pop(execution_id, None)
        self._denials[execution_id] = _Denial(self._clock() + _LIFETIME, start)
        while len(self._denials) > _MAX_DENIALS:
            self._denials.popitem(last=False)

    def holds(self, execution_id: str) -> bool:
        """Return whether an execution with new updates is denied. If so, call `ask_again` when the denial expires."""
        denial = self._denials.get(execution_id)
        if denial is None:
            return False
        denial.has_updates = True
        wait = denial.until - self._clock()
        if wait <= 0:
            del self._denials[execution_id]
            self._ask_again(execution_id, denial.start)
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(wait, self._on_timer)
        return True

    def expire_all(self) -> None:
        """Check executions with new updates again now, and the others with their next update."""
        for denial in self._denials.values():
            denial.until = float("-inf")
        self._on_timer()

    def close(self) -> None:
        """Drop all denials. Harmless when repeated."""
        self._denials.clear()
        self._cancel()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """Check executions whose denial has expired again; schedule the next call."""
        self._cancel()
        now = self._clock()
        with_updates = [(name, denial) for name, denial in self._denials.items() if denial.has_updates]
        waits = [denial.until - now for _, denial in with_updates if denial.until > now]
        for execution_id, denial in with_updates:
            if denial.until <= now:
                del self._denials[execution_id]
                self._ask_again(execution_id, denial.start)
        if waits:
            self._timer = asyncio.get_running_loop().call_later(min(waits), self._on_timer)
