"""Sinks that do what a test wants, and remember what was done to them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from lg_streaming.events import StreamUpdate
from lg_streaming.hub import CloseReason

Before = Callable[[Sequence[StreamUpdate]], Awaitable[object] | None]


class Recorder:
    """Takes everything. `before` is called first with what is sent, and may raise or hang."""

    def __init__(self, id: str = "recorder", before: Before | None = None) -> None:
        self.id = id
        self.got: list[StreamUpdate] = []
        self.calls: list[str] = []
        """`send`, `closed <reason>` and `aclose`, in order."""
        self.active = True
        self.came = asyncio.Event()
        self._before = before

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        self.calls.append("send")
        if self._before is not None and (waiting := self._before(updates)) is not None:
            await waiting
        self.got += updates
        self.came.set()

    async def closed(self, reason: CloseReason) -> None:
        self.calls.append(f"closed {reason}")

    def is_active(self) -> bool:
        return self.active

    async def aclose(self) -> None:
        self.calls.append("aclose")

    @property
    def ending(self) -> list[str]:
        return [call for call in self.calls if call != "send"]


def failing(error: BaseException | None = None) -> Before:
    """Raises at each call."""

    def before(updates: Sequence[StreamUpdate]) -> None:
        raise error or RuntimeError("no")

    return before


def hanging() -> Before:
    """Never returns."""

    def before(updates: Sequence[StreamUpdate]) -> Awaitable[Any]:
        return asyncio.get_running_loop().create_future()

    return before
