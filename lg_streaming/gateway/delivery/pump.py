"""Carrying subscriptions to a reader: a page, as much as it takes, then at the next beat what came meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from lg_streaming.errors import GapError, LogUnavailableError
from lg_streaming.gateway.delivery.merge import merged_frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import Encode, FrameCache, Frames
    from lg_streaming.gateway.delivery.wildcard import WildcardSubscription
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.gateway.session.instrumentation import ConnectionInstrumentation
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.hub import Gap, Page, Subscription
    from lg_streaming.log.base import StoredUpdate

__all__ = ["FrameSink", "PumpResult", "SubscriptionPump", "follow"]

_RETRY_DELAYS: Final = (0.05, 0.2, 0.5, 1.0, 2.0)


class FrameSink(Protocol):
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

    def prefer_fresh(self) -> None:
        """From now on little is to wait on the way, so that a slow reader gets what is new rather than what is old."""
        ...


@dataclass(frozen=True, slots=True)
class PumpResult:
    """How a delivery ended."""

    reason: Literal["ended", "closed"]
    position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _PageWriter:
    """How updates get to one reader."""

    chunks: FrameCache
    encode: Encode
    sink: FrameSink
    report: ConnectionInstrumentation

    async def tell(self, execution_id: str, gap: Gap) -> None:
        self.report.gap(execution_id, gap)
        await self.sink.say("gap", {"execution_id": execution_id, **gap.to_dict()})

    async def write(
        self,
        subscription: Subscription,
        page: Page,
        *,
        live_after: int = 0,
        merged: Iterable[Frames] | None = None,
        may_send: Callable[[Subscription], Awaitable[bool]] | None = None,
    ) -> None:
        """Sends a page; in place of its records the frames of `merged`, where it is given.

        With `may_send` it is asked before each piece whether that may still be sent, once there is room for it.
        """
        execution_id, records = subscription.execution_id, page.records
        if page.gap is not None:
            await self.tell(execution_id, page.gap)
        ready = self.chunks.of(execution_id, records, subscription.filter, self.encode)
        size = 0
        for frames in ready if merged is None else merged:
            if may_send is not None:
                await self.sink.room()
                if not await may_send(subscription):
                    return
            await self.sink.write(frames)
            size += frames.size
        if records:
            newest = records[-1]
            self.report.sent(execution_id, len(records), size, newest.timestamp if newest.seq > live_after else None)


class _Counting:
    """Counts what it has wrapped."""

    def __init__(self, encode: Encode) -> None:
        self._encode = encode
        self.records = 0

    def wrap(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        self.records += len(records)
        return self._encode.wrap(execution_id, records)


class SubscriptionPump:
    """Carries one subscription.

    Args:
        edge: Pace and shared frames.
        watch: What to carry.
        encode: How updates are wrapped.
        sink: Where they go.
        report: Told what was sent.
        fails_on_gap: Whether the delivery ends at a gap, after telling of it.
        chunks: Where ready frames are kept for other readers; the edge's own when not given.
        at_head: Awaited each time that everything there is has been written.
    """

    def __init__(
        self,
        edge: GatewayContext,
        watch: ActiveSubscription,
        encode: Encode,
        sink: FrameSink,
        *,
        report: ConnectionInstrumentation,
        fails_on_gap: bool = False,
        chunks: FrameCache | None = None,
        at_head: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._edge = edge
        self._watch = watch
        self._subscription = watch.subscription
        self._way = _PageWriter(chunks=chunks or edge.chunks, encode=encode, sink=sink, report=report)
        self._sink = sink
        self._report = report
        self._fails_on_gap = fails_on_gap
        self._at_head = at_head

    async def run(self) -> PumpResult:
        """Returns when the subscription has ended.

        Raises:
            GapError: Updates are missing and the reader asked to fail.
            StreamingError: Nothing more can be read.
        """
        watch, subscription, sink, pacer = self._watch, self._subscription, self._sink, self._edge.pacer
        if watch.merge:
            sink.prefer_fresh()
        now = asyncio.get_running_loop().time
        wrote_at = 0.0
        while True:
            # Room first, and then what is there by now: a reader that kept us waiting gets more at once.
            waited = await sink.room()
            await subscription.ready()
            await pacer.after(wrote_at)
            waited |= await sink.room()
            watch.sent = subscription.position
            watch.holding = True
            page = await self._read()
            if page is not None:
                await self._write(page, lags=waited or subscription.lag > 0)
            watch.holding = False
            if page is None:
                continue
            if self._at_head is not None and not (page.ended or subscription.lag):
                await self._at_head()
            if page.ended:
                return PumpResult("closed" if subscription.closed else "ended", page.position)
            wrote_at = now()

    async def _write(self, page: Page, *, lags: bool) -> None:
        watch = self._watch
        if page.gap is not None and self._fails_on_gap:
            await self._way.tell(watch.execution_id, page.gap)
            raise GapError(execution_id=watch.execution_id)
        merged = self._merged(page) if watch.merge and lags and len(page.records) > 1 else None
        await self._way.write(self._subscription, page, live_after=watch.live_after, merged=merged)

    def _merged(self, page: Page) -> list[Frames]:
        watch, counting = self._watch, _Counting(self._way.encode)
        frames = list(merged_frames(watch.execution_id, page.records, counting, atomic=watch.batch))
        self._report.merged(len(page.records) - counting.records)
        return frames

    async def _read(self) -> Page | None:
        failures = 0
        while True:
            try:
                return await self._subscription.poll()
            except LogUnavailableError as error:
                if not failures:
                    self._report.failed(error)
                    await self._sink.say("error", {**error.to_dict(), "execution_id": self._watch.execution_id})
                await asyncio.sleep(_RETRY_DELAYS[min(failures, len(_RETRY_DELAYS) - 1)])
                failures += 1


async def follow(
    edge: GatewayContext,
    follower: WildcardSubscription,
    encode: Encode,
    sink: FrameSink,
    *,
    report: ConnectionInstrumentation,
) -> None:
    """Carries all executions of a follower, until it is closed."""
    way = _PageWriter(chunks=edge.chunks, encode=encode, sink=sink, report=report)
    async for subscription, page in follower.pages(sink.room):
        await way.write(subscription, page, may_send=follower.may_send)
