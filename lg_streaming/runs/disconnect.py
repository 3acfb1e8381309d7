"""Cancel runs whose readers have left."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import StreamingError
from lg_streaming.fork import new_lock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.driver import RunDriver

__all__ = ["DisconnectWatch"]

logger: logging.Logger = logging.getLogger(__name__)

_SHORTEST: Final = 0.05
_LONGEST: Final = 1.0
_REASON: Final = "disconnected"


class DisconnectWatch:
    """Watch on the readers, in all processes, of runs with ``on_disconnect="cancel"``.

    A run is cancelled when its last reader left ``runs.disconnect_grace`` seconds ago. A run without a reader so far
    goes on. Sinks and readers of all executions are no readers. While a live process does not answer, no run is
    cancelled.

    Args:
        hub: The hub.
    """

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub
        self._grace = hub.settings.runs.disconnect_grace
        self._interval = min(max(self._grace / 4, _SHORTEST), _LONGEST)
        self._lock = new_lock()
        self._start_empty()
        restart_after_fork(self)
        if hub.log.fleet is not None:
            hub.log.fleet.on_request("last_read", self._on_last_read)

    def _start_empty(self) -> None:
        self._drivers: dict[asyncio.AbstractEventLoop, set[RunDriver]] = {}
        self._tasks: dict[asyncio.AbstractEventLoop, asyncio.Task[None]] = {}

    def after_fork(self) -> None:
        """Drop the runs of the parent process."""
        self._start_empty()

    def add(self, driver: RunDriver) -> None:
        """Watch a run, on its event loop."""
        loop = driver.loop
        with self._lock:
            self._drivers.setdefault(loop, set()).add(driver)
            if loop not in self._tasks:
                self._tasks[loop] = loop.create_task(self._watch(loop), name="lg-streaming readers of runs")

    def remove(self, driver: RunDriver) -> None:
        """Watch a run no longer, on its event loop. Harmless for one that is not watched."""
        with self._lock:
            drivers = self._drivers.get(driver.loop)
            if drivers is None or driver not in drivers:
                return
            drivers.remove(driver)
            if not drivers:
                del self._drivers[driver.loop]
                self._tasks.pop(driver.loop).cancel()

    async def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            await asyncio.sleep(self._interval)
            try:
                await self._check([each for each in self._drivers.get(loop, ()) if each.is_open])
            except StreamingError as error:
                logger.debug("the readers of runs are not known now: %s", error)

    async def _check(self, drivers: Sequence[RunDriver]) -> None:
        """Cancel those of the runs whose readers have left."""
        local = {each: self._hub.readers.last_read(each.run.execution_id) for each in drivers}
        unread = [each for each, seconds in local.items() if seconds != 0.0]
        remote = await self._ask_others([each.run.execution_id for each in unread])
        for driver in unread:
            ages = [age for age in (local[driver], remote.get(driver.run.execution_id)) if age is not None]
            age = min(ages, default=None)
            own_age = time.monotonic() - (driver.opened_at or 0.0)
            # A reader that left before the run began was one of an earlier run.
            if age is not None and self._grace <= age < own_age and not driver.run.done:
                logger.info("run %s is cancelled: its readers have left", driver.run.run_id)
                await driver.cancel_run(_REASON)

    async def _ask_others(self, execution_ids: Sequence[str]) -> dict[str, float]:
        """Return the seconds since the last reader in other processes has left, by execution."""
        fleet = self._hub.log.fleet
        if fleet is None or not execution_ids:
            return {}
        others = [each.process_id for each in await fleet.processes() if each.process_id != fleet.process_id]
        requests = [fleet.request(each, "last_read", list(execution_ids)) for each in others]
        found: dict[str, float] = {}
        for answer in await asyncio.gather(*requests):
            for execution_id, age in answer.items():
                found[execution_id] = min(age, found.get(execution_id, age))
        return found

    async def _on_last_read(self, payload: Any) -> dict[str, float]:
        ages = {each: self._hub.readers.last_read(each) for each in payload}
        return {execution_id: age for execution_id, age in ages.items() if age is not None}
