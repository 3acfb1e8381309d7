"""A connection's timers, by name."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Timers"]


class Timers:
    """Calls things later; setting a timer again replaces it."""

    __slots__ = ("_handles",)

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def set(self, name: str, delay: float, call: Callable[[], object]) -> None:
        """Calls ``call`` after ``delay`` seconds."""
        self.cancel(name)
        self._handles[name] = asyncio.get_running_loop().call_later(max(0.0, delay), call)

    def cancel(self, name: str) -> None:
        """Forgets a timer; harmless when there is none."""
        handle = self._handles.pop(name, None)
        if handle is not None:
            handle.cancel()

    def cancel_all(self) -> None:
        """Forgets all."""
        for name in list(self._handles):
            self.cancel(name)
