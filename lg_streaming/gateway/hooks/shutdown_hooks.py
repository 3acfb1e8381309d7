"""What a server awaits before it closes connections, where the server knows this library."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

__all__ = ["ShutdownHooks", "shutdown_hooks"]

Farewell = Callable[[], Awaitable[None]]


class ShutdownHooks:
    """The goodbyes that the parts of an application want to say while clients can still hear them.

    A server puts one into `farewells` before it starts the application's lifespan, and awaits `say` when it is told
    to stop, before it closes anything.
    """

    def __init__(self) -> None:
        self._wanted: list[Farewell] = []

    def add(self, farewell: Farewell) -> Callable[[], None]:
        """Has `farewell` awaited by `say`. Returns what takes it away again, which is harmless when repeated."""
        self._wanted.append(farewell)

        def remove() -> None:
            if farewell in self._wanted:
                self._wanted.remove(farewell)

        return remove

    async def run(self) -> None:
        """Awaits all of them at the same time; returns when the last one is through.

        Raises:
            BaseExceptionGroup: Some failed; the others were awaited all the same.
        """
        results = await asyncio.gather(*(farewell() for farewell in self._wanted), return_exceptions=True)
        failures = [result for result in results if result is not None]
        if failures:
            raise BaseExceptionGroup("a part of the application could not say goodbye", failures)


shutdown_hooks: Final[ContextVar[ShutdownHooks | None]] = ContextVar("lg_streaming_farewells", default=None)
"""The farewells of the server that runs the application; None under a server that does not know this library."""
