"""Waiting with a limit, which somebody else may cut short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["Alarm"]

T = TypeVar("T")


class Alarm:
    """One task's waiting. Whoever rings ends it, now and for ever."""

    def __init__(self) -> None:
        self._timer: asyncio.Timeout | None = None
        self.rung: bool = False

    @property
    def waits(self) -> bool:
        """Whether somebody waits."""
        return self._timer is not None

    async def within(self, seconds: float | None, result: Awaitable[T]) -> T:
        """What `result` gives. Raises TimeoutError after `seconds`, or when the alarm rings."""
        try:
            async with asyncio.timeout(0 if self.rung else seconds) as self._timer:
                return await result
        finally:
            self._timer = None

    def ring(self) -> None:
        """Ends the waiting. Harmless when repeated."""
        self.rung = True
        if self._timer is not None:
            self._timer.reschedule(asyncio.get_running_loop().time())
