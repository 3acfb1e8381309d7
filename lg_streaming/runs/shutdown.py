"""Stop the runs of a process."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.runs.driver import RunDriver

__all__ = ["RunShutdown"]

logger: logging.Logger = logging.getLogger(__name__)

_CHECK: Final = 0.1
"""Seconds between two looks at runs that work, one of which may have begun to wait for a human."""


class RunShutdown:
    """Stop of all runs of a process, on all event loops.

    Runs that wait for a human stay open in the log if their checkpointer outlives the process. So do those that another
    process resumes, after their present step. Runs in a queue are cancelled at once. Runs that work have ``grace``
    seconds to end. Then those with a checkpointer have half as long to finish their present step. Then all are
    cancelled, and have ``cancel_grace`` seconds to end.

    Args:
        drivers: Returns the runs that have not ended.
        reason: The reason with which runs are cancelled.
        grace: Seconds; 0 cancels all runs at once.
        cancel_grace: Seconds.
    """

    def __init__(
        self, drivers: Callable[[], Sequence[RunDriver]], reason: str, *, grace: float, cancel_grace: float
    ) -> None:
        self._drivers = drivers
        self._reason = reason
        self._grace = grace
        self._cancel_grace = cancel_grace
        self._stopped: set[RunDriver] = set()

    async def stop(self) -> None:
        """Stop the runs."""
        for driver in self._live():
            if driver.is_resumable and driver.run.status == "running":
                driver.drain(self._reason)
        if self._grace:
            await self._wait_for_ends(self._grace)
            draining = [driver.drain(self._reason) for driver in self._live()]
            if any(draining):
                await self._wait_for_ends(self._grace / 2)
        for driver in self._live():
            self._stop(driver)
        await self._wait_for_ends(self._cancel_grace)
        for driver in self._live():
            logger.warning("run %s of execution %r does not end", driver.run.run_id, driver.run.execution_id)

    def _live(self) -> list[RunDriver]:
        return [each for each in self._drivers() if not each.loop.is_closed() and each.loop.is_running()]

    def _stop(self, driver: RunDriver) -> None:
        if driver not in self._stopped:
            self._stopped.add(driver)
            if driver.is_resumable:
                driver.leave_open()
            else:
                driver.request_cancel(self._reason)

    async def _wait_for_ends(self, seconds: float) -> None:
        """Stop the runs that do not work; wait up to so many seconds until none is left."""
        until = time.monotonic() + seconds
        while left := self._live():
            for driver in left:
                if driver.run.status != "running":
                    self._stop(driver)
            remaining = until - time.monotonic()
            if remaining <= 0:
                return
            ends = [asyncio.wrap_future(each.ended) for each in left]
            await asyncio.wait(ends, timeout=min(remaining, _CHECK), return_when=asyncio.FIRST_COMPLETED)
