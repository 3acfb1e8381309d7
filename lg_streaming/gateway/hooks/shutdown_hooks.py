"""Callbacks run before the server closes its connections, for servers that know this library."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Final

__all__ = ["ShutdownHooks", "shutdown_hooks"]

Hook = Callable[[], Awaitable[None]]


class ShutdownHooks:
    """Callbacks run before the server closes its connections.

    A server puts one into `shutdown_hooks` before it starts the application's lifespan. When it has to stop, it awaits
    `run` before it closes anything.
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
            BaseExceptionGroup: If some failed; the others were awaited all the same.
        """
        results = await asyncio.gather(*(hook() for hook in self._hooks), return_exceptions=True)
        failures = [result for result in results if result is not None]
        if failures:
            raise BaseExceptionGroup("a part of the application could not close its connections", failures)


shutdown_hooks: Final[ContextVar[ShutdownHooks | None]] = ContextVar("lg_streaming_shutdown_hooks", default=None)
"""The hooks of the server that runs the application; None under a server that does not know this library."""
