"""Open connections of one server, for whose ends its shutdown waits."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

__all__ = ["OpenSockets"]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

_SHUTDOWN_TIMEOUT: Final = 1.5


class OpenSockets(Generic[T]):
    """The open connections of one server."""

    def __init__(self) -> None:
        self._open: set[T] = set()
        self._idle = asyncio.Event()

    def begin(self) -> None:
        """Begin without connections, on the event loop of the server's start."""
        self._open.clear()
        self._idle = asyncio.Event()
        self._idle.set()

    def __iter__(self) -> Iterator[T]:
        """Iterate over a copy: a connection may close in between."""
        return iter(list(self._open))

    @contextmanager
    def keep(self, socket: T) -> Generator[None]:
        """Count a connection as open inside the block."""
        self._open.add(socket)
        self._idle.clear()
        try:
            yield
        finally:
            self._open.discard(socket)
            if not self._open:
                self._idle.set()

    async def wait_closed(self) -> None:
        """Wait until all connections have closed, for up to 1.5 seconds."""
        try:
            async with asyncio.timeout(_SHUTDOWN_TIMEOUT):
                while self._open:
                    await self._idle.wait()
        except TimeoutError:
            logger.warning("%d connections did not close in time", len(self._open))
