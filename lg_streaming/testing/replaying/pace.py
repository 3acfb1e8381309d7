"""Times at which recorded updates are due."""

from __future__ import annotations

import asyncio
import math
from datetime import datetime
from typing import Final

from lg_streaming.checks import Number
from lg_streaming.errors import BadRequestError

__all__ = ["Pace", "check_speed"]

_SPEED: Final = Number(above=True, infinite=True)


def check_speed(speed: float) -> float:
    """Return a factor on the recorded pace; infinity makes no pauses.

    Raises:
        BadRequestError: If it is not above 0.
    """
    return _SPEED.check("speed", speed, BadRequestError)


class Pace:
    """Recorded times, as times of the running event loop. Pauses are shortened by the speed.

    Args:
        speed: Factor on the recorded pace: 2 is twice as fast; infinity makes no pauses.
    """

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._loop = asyncio.get_running_loop()
        self._recorded: datetime | None = None
        self._present = 0.0

    def set_now(self, recorded: datetime) -> None:
        """Make the present the time of a recorded update: what follows keeps its distance to it."""
        self._recorded, self._present = recorded, self._loop.time()

    def due(self, recorded: datetime) -> float:
        """Return the time at which a recorded update is due; the first one is due at once."""
        if self._recorded is None:
            self.set_now(recorded)
        if self._recorded is None or math.isinf(self.speed):
            return self._present
        return self._present + (recorded - self._recorded).total_seconds() / self.speed

    async def wait_for(self, recorded: datetime) -> None:
        """Wait until a recorded update is due."""
        delay = self.due(recorded) - self._loop.time()
        if delay > 0:
            await asyncio.sleep(delay)
