"""Harness of a log under test: it makes logs, and lets time pass for them."""

from __future__ import annotations

import asyncio
import inspect
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lg_streaming.log import EventLog
    from lg_streaming.settings import RetentionSettings

__all__ = ["LogHarness"]

_PAUSE: Final = 0.005


class LogHarness(ABC):
    """Access of the contract suite to a kind of log. Derive a class, and return an instance from the fixture.

    The suite closes all logs that it gets. Its coroutines run on several event loops, one after another.
    """

    patience: float = 10.0
    """Seconds after which a notification of another process is missing."""

    @abstractmethod
    def make(self, retention: RetentionSettings) -> EventLog:
        """Return a new log without any execution, which shares no data with earlier ones."""

    def connect(self) -> EventLog | None:
        """Return a second log object on the data of the last `make`, as another process has it.

        Returns:
            None (the default) for a log of one process.
        """
        return None

    async def advance(self, seconds: float) -> bool:  # noqa: ARG002 (for those that override it)
        """Let retention times of all logs pass sooner by ``seconds``: set their clock, or shorten their expiry times.

        Returns:
            True if that was done. The default is False, and cases of expiry are skipped.
        """
        return False

    async def lose_data(self) -> bool:
        """Remove all data behind the log objects, as a server that restarts without its data.

        Returns:
            True if that was done. The default is False, and cases of lost data are skipped.
        """
        return False

    def process_id(self, log: EventLog) -> str | None:
        """Return the id of the process of a log object, as `LogState.process` has it. The default is its fleet's."""
        return log.fleet.process_id if log.fleet is not None else None

    def now(self) -> float:
        """Return the time of the log's clock, in seconds since 1970. The default is the system's."""
        return time.time()

    async def settle(self, condition: Callable[[], bool | Awaitable[bool]]) -> None:
        """Wait until ``condition`` holds, for `patience` seconds.

        Raises:
            AssertionError: If it does not hold by then.
        """
        deadline = time.monotonic() + self.patience
        while True:
            result = condition()
            if await result if inspect.isawaitable(result) else result:
                return
            if time.monotonic() > deadline:
                raise AssertionError(f"not so within {self.patience} s")
            await asyncio.sleep(_PAUSE)
