"""Carrying subscriptions to a reader: a page, as much as it takes, then at the next beat what came meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from lg_streaming.errors import GapError, LogUnavailableError

if TYPE_CHECKING:
    from lg_streaming.events import Position
    from lg_streaming.gateway.edge import Edge
    from lg_streaming.gateway.frames import Encode, Frames
    from lg_streaming.gateway.patterns import Follower
    from lg_streaming.gateway.watches import Watch
    from lg_streaming.hub import Gap, Page, Subscription

__all__ = ["Delivery", "Ending", "Sink", "follow"]

_RETRY_DELAYS: Final = (0.05, 0.2, 0.5, 1.0, 2.0)


class Sink(Protocol):
    """Where updates go. A connection's subscriptions share one."""

    async def room(self) -> bool:
        """Returns when more may be written, once nothing is held back; whether it had to wait for the reader."""
        ...

    async def write(self, frames: Frames) -> None:
        """Sends ready frames as soon as there is room."""
        ...

    async def say(self, event: str, payload: dict[str, object]) -> None:
        """Sends one message beside the updates."""
        ...

    async def idle(self) -> None:
        """Nothing has come for `Delivery.idle_after` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a delivery ended."""

    reason: Literal["ended", "closed"]
    position: Position | None


@dataclass(slots=True, kw_only=True)
class Delivery:
    """Carries one subscription.

    Args:
        edge: Pace and shared frames.
        watch: What to carry.
        encode: How updates are wrapped.
        sink: Where they go.
        idle_after: Seconds without anything to send, after which the sink is told; None: never.
        fails_on_gap: Whether the delivery ends at a gap, after telling of it.
    """

    edge: Edge
    watch: Watch
    encode: Encode
    sink: Sink
    idle_after: float | None = None
    fails_on_gap: bool = False

    async def run(self) -> Ending:
        """Returns when the subscription has ended.

        Raises:
            GapError: Updates are missing and the reader asked to fail.
            StreamingError: Nothing more can be read.
        """
        watch, sink, edge = self.watch, self.sink, self.edge
        subscription = watch.subscription
        while True:
            await sink.room()
            watch.sent = subscription.position
            page = await self._next_page(subscription)
            watch.holding = True
            await sink.room()
            await self._write(page)
            watch.holding = False
            if page.ended:
                return Ending("closed" if subscription.closed else "ended", page.position)
            await edge.pacer.next()

    async def _write(self, page: Page) -> None:
        if page.gap is not None and self.fails_on_gap:
            await _tell(self.sink, self.watch.execution_id, page.gap)
            raise GapError(execution_id=self.watch.execution_id)
        await _write(self.edge, self.sink, self.watch.subscription, page, self.encode)

    async def _next_page(self, subscription: Subscription) -> Page:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self.idle_after):
                    return await subscription.next_page()
            except TimeoutError:
                await self.sink.idle()
            except LogUnavailableError as error:
                if not failures:
                    await self.sink.say("error", {**error.to_dict(), "execution_id": subscription.execution_id})
                await asyncio.sleep(_RETRY_DELAYS[min(failures, len(_RETRY_DELAYS) - 1)])
                failures += 1


async def follow(edge: Edge, follower: Follower, encode: Encode, sink: Sink) -> None:
    """Carries all executions of a follower, until it is closed."""
    async for subscription, page in follower.pages(sink.room):
        await _write(edge, sink, subscription, page, encode)


async def _write(edge: Edge, sink: Sink, subscription: Subscription, page: Page, encode: Encode) -> None:
    execution_id = subscription.execution_id
    if page.gap is not None:
        await _tell(sink, execution_id, page.gap)
    for frames in edge.chunks.of(execution_id, page.records, subscription.filter, encode):
        await sink.write(frames)


async def _tell(sink: Sink, execution_id: str, gap: Gap) -> None:
    await sink.say("gap", {"execution_id": execution_id, **gap.to_dict()})
