"""Callbacks that a server which supports this library runs before it closes its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

__all__ = ["ShutdownHooks", "shutdown_hooks"]

Hook = Callable[[], Awaitable[None]]


class ShutdownHooks:
    """Callbacks run before the server closes its connections.

    A server sets `shutdown_hooks` to an instance before it starts the application's lifespan. When it has to stop, it
    awaits `run` before it closes any connection.
    """

    def __init__(self) -> None:
        self._hooks: list[Hook] = []

    def add(self, hook: Hook) -> Callable[[], None]:
        """Make `run` await `hook`. Return a function that removes it, harmless when repeated."""
        self._hooks.append(hook)

        def remove() -> None:
            if hook in self._hooks:
                self._hooks.remove(hook)

        return remove

    async def run(self) -> None:
        """Await all hooks at the same time.

        Raises:
            BaseExceptionGroup: If hooks failed; all others were awaited too.
        """
        results = await asyncio.gather(*(hook() for hook in self._hooks), return_exceptions=True)
        failures = [result for result in results if result is not None]
        if failures:
            raise BaseExceptionGroup("a part of the application could not close its connections", failures)


shutdown_hooks: Final[ContextVar[ShutdownHooks | None]] = ContextVar("lg_streaming_shutdown_hooks", default=None)
"""The hooks of the server that runs the application; None unless a server that supports this library sets it."""
