"""Carrying subscriptions to a reader: a page, as much as it takes, then at the next beat what came meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Protocol

from lg_streaming.errors import GapError, LogUnavailableError
from lg_streaming.gateway.merge import merged_frames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lg_streaming.events import Position
    from lg_streaming.gateway.edge import Edge
    from lg_streaming.gateway.frames import Encode, Frames
    from lg_streaming.gateway.patterns import Follower
    from lg_streaming.gateway.reports import Report
    from lg_streaming.gateway.watches import Watch
    from lg_streaming.hub import Gap, Page, Subscription
    from lg_streaming.log.base import Record

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

    def prefer_fresh(self) -> None:
        """From now on little is to wait on the way, so that a slow reader gets what is new rather than what is old."""
        ...


@dataclass(frozen=True, slots=True)
class Ending:
    """How a delivery ended."""

    reason: Literal["ended", "closed"]
    position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Way:
    """How updates get to one reader."""

    edge: Edge
    encode: Encode
    sink: Sink
    report: Report

    async def tell(self, execution_id: str, gap: Gap) -> None:
        self.report.gap(execution_id, gap)
        await self.sink.say("gap", {"execution_id": execution_id, **gap.to_dict()})

    async def write(
        self, subscription: Subscription, page: Page, *, live_after: int = 0, merged: Iterable[Frames] | None = None
    ) -> None:
        """Sends a page; in place of its records the frames of `merged`, where it is given."""
        execution_id, records = subscription.execution_id, page.records
        if page.gap is not None:
            await self.tell(execution_id, page.gap)
        ready = self.edge.chunks.of(execution_id, records, subscription.filter, self.encode)
        size = 0
        for frames in ready if merged is None else merged:
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

    def wrap(self, execution_id: str, records: Sequence[Record]) -> Frames:
        self.records += len(records)
        return self._encode.wrap(execution_id, records)


class Delivery:
    """Carries one subscription.

    Args:
        edge: Pace and shared frames.
        watch: What to carry.
        encode: How updates are wrapped.
        sink: Where they go.
        report: Told what was sent.
        idle_after: Seconds without anything to send, after which the sink is told; None: never.
        fails_on_gap: Whether the delivery ends at a gap, after telling of it.
    """

    def __init__(
        self,
        edge: Edge,
        watch: Watch,
        encode: Encode,
        sink: Sink,
        *,
        report: Report,
        idle_after: float | None = None,
        fails_on_gap: bool = False,
    ) -> None:
        self._edge = edge
        self._watch = watch
        self._subscription = watch.subscription
        self._way = _Way(edge=edge, encode=encode, sink=sink, report=report)
        self._sink = sink
        self._report = report
        self._idle_after = idle_after
        self._fails_on_gap = fails_on_gap

    async def run(self) -> Ending:
        """Returns when the subscription has ended, and everything is acknowledged where that was asked for.

        Raises:
            GapError: Updates are missing and the reader asked to fail.
            StreamingError: Nothing more can be read.
        """
        subscription, sink = self._subscription, self._sink
        if self._watch.merge:
            sink.prefer_fresh()
        while True:
            # First room, then a page: a reader that kept us waiting gets what is there now.
            waited = await sink.room()
            page = await self._next_page()
            waited |= await sink.room()
            await self._write(page, lags=waited or subscription.lag > 0)
            if page.ended and await self._settled():
                return Ending("closed" if subscription.closed else "ended", page.position)
            await self._edge.pacer.next()

    async def _write(self, page: Page, *, lags: bool) -> None:
        watch = self._watch
        if page.gap is not None and self._fails_on_gap:
            await self._way.tell(watch.execution_id, page.gap)
            raise GapError(execution_id=watch.execution_id)
        merged = self._merged(page) if watch.merge and lags and len(page.records) > 1 else None
        await self._way.write(self._subscription, page, live_after=watch.live_after, merged=merged)
        if watch.acks is not None and page.records:
            watch.acks.sent(page.records[-1].position)

    def _merged(self, page: Page) -> list[Frames]:
        watch, counting = self._watch, _Counting(self._way.encode)
        told = watch.acks.furthest if watch.acks is not None else 0
        frames = list(merged_frames(watch.execution_id, page.records, counting, atomic=watch.batch, told=told))
        self._report.merged(len(page.records) - counting.records)
        return frames

    async def _next_page(self) -> Page:
        failures = 0
        while True:
            try:
                async with asyncio.timeout(self._patience()):
                    return await self._subscription.next_page()
            except TimeoutError:
                if not self._redeliver():
                    await self._sink.idle()
            except LogUnavailableError as error:
                if not failures:
                    self._report.failed(error)
                    await self._sink.say("error", {**error.to_dict(), "execution_id": self._watch.execution_id})
                await asyncio.sleep(_RETRY_DELAYS[min(failures, len(_RETRY_DELAYS) - 1)])
                failures += 1

    def _patience(self) -> float | None:
        """Seconds until there is something to do even if nothing comes; None: never."""
        waits = [self._idle_after, self._watch.acks.wait if self._watch.acks is not None else None]
        return min((wait for wait in waits if wait is not None), default=None)

    # ------------------------------------------------------------ acknowledgements
    def _redeliver(self) -> bool:
        """Goes back to what the reader has acknowledged, if it has been silent for too long."""
        acks = self._watch.acks
        outstanding = acks.outstanding if acks is not None else 0
        seq = acks.due() if acks is not None else None
        if seq is None:
            return False
        self._report.redelivered(outstanding)
        self._subscription.rewind(seq)
        return True

    async def _settled(self) -> bool:
        """Waits until everything is acknowledged; False when something has to be sent again."""
        acks, acked = self._watch.acks, self._watch.acked
        while acks is not None and acks.outstanding and not self._subscription.closed:
            if self._redeliver():
                return False
            acked.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(acks.wait):
                    await acked.wait()
        return True


async def follow(edge: Edge, follower: Follower, encode: Encode, sink: Sink, *, report: Report) -> None:
    """Carries all executions of a follower, until it is closed."""
    way = _Way(edge=edge, encode=encode, sink=sink, report=report)
    async for subscription, page in follower.pages():
        await sink.room()
        await way.write(subscription, page)
