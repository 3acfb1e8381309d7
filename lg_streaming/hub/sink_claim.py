"""Claim of a sink in a fleet: of several attachments with one id, in different processes, one is served."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import BadPositionError, LogUnavailableError
from lg_streaming.events import Position

if TYPE_CHECKING:
    from lg_streaming.log.fleet import Fleet

__all__ = ["RELEASED", "SinkClaim", "claim_name"]

logger: logging.Logger = logging.getLogger(__name__)

_RETRY: Final = 2.0
"""Seconds until a waiting sink notices that a process has died, or tries again after an error."""
_FALLBACK: Final = 15.0
"""Seconds between two attempts to claim without a cause: a message about a release may be lost."""
_STORE_INTERVAL: Final = 1.0
"""Seconds between two stored positions."""
_KIND: Final = "sink"
RELEASED: Final = "sink_released"
"""Topic of the messages about released claims."""


def claim_name(execution_id: str, sink_id: str) -> str:
    """Return the name under which processes claim a sink of an execution."""
    return f"sink {execution_id} {sink_id}"


class SinkClaim:
    """Claim of one attachment: it waits for the claim, keeps the position of the sink, and releases the claim.

    Use it on the event loop of the attachment, except `wake` and `lose`.

    Args:
        fleet: The processes.
        name: Name of the claim.
        ttl: Seconds for which a position is kept.
        explicit: Whether the attachment has a start position, which holds unless another process was served before it.
    """

    def __init__(self, fleet: Fleet, name: str, *, ttl: float, explicit: bool) -> None:
        self.name = name
        self.held: bool = False
        """True while this attachment is served."""
        self._fleet = fleet
        self._ttl = ttl
        self._explicit = explicit
        self._lost = False
        self._stored_at = -_STORE_INTERVAL
        self._live: frozenset[str] | None = None  # the processes before the last attempt; None after an error
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken: asyncio.Event | None = None

    async def acquire(self) -> Position | None:
        """Wait until this process holds the claim; return the position up to which the sink was served.

        The result is None if the sink was not served, or if the attachment has a start position and did not wait.
        """
        self._loop, self._woken = asyncio.get_running_loop(), asyncio.Event()
        waited = False
        while not await self._try():
            waited = True
            await self._wait_for_cause(self._woken)
        self.held = True
        if self._explicit and not waited:
            return None
        while True:
            try:
                return _parse(await self._fleet.get(_KIND, self.name))
            except LogUnavailableError:
                await asyncio.sleep(_RETRY)

    async def _try(self) -> bool:
        self._live = self._fleet.live
        try:
            return await self._fleet.claim(self.name)
        except LogUnavailableError as error:
            logger.debug("%s cannot be claimed now: %s", self.name, error)
            self._live = None
            return False

    async def _wait_for_cause(self, woken: asyncio.Event) -> None:
        """Wait until the claim was released, a process has died, or the last attempt had an error: without requests."""
        until = time.monotonic() + _FALLBACK
        while time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_RETRY):
                    await woken.wait()
            before, self._live = self._live, self._fleet.live
            if woken.is_set() or before is None or not before <= self._live:
                break
        woken.clear()

    def wake(self) -> None:
        """Try again at once: the claim was released. From any thread."""
        if self._loop is not None and self._woken is not None:
            with contextlib.suppress(RuntimeError):  # that loop was closed
                self._loop.call_soon_threadsafe(self._woken.set)

    def lose(self) -> None:
        """Note that another process has taken the claim, with the position that is stored. From any thread."""
        self._lost = True

    def advance(self, position: Position | None) -> None:
        """Store the position up to which the sink was served, at most once a second. Returns at once."""
        now = time.monotonic()
        if self.held and position is not None and now - self._stored_at >= _STORE_INTERVAL:
            self._stored_at = now
            self._fleet.spawn(lambda: self._store(position))

    async def release(self, position: Position | None) -> None:
        """Store the last position, and release the claim."""
        if not self.held:
            return
        self.held = False
        if self._lost:
            return
        if position is not None:
            await self._store(position)
        self._fleet.release(self.name)
        self._fleet.publish(RELEASED, self.name)

    async def _store(self, position: Position) -> None:
        if self._lost:
            return
        try:
            await self._fleet.put(_KIND, self.name, str(position), ttl=self._ttl)
        except LogUnavailableError as error:
            logger.debug("the position of %s was not stored: %s", self.name, error)


def _parse(stored: Any) -> Position | None:
    try:
        return Position.parse(stored) if isinstance(stored, str) else None
    except BadPositionError:
        return None
