"""Pump pages of subscriptions to one client: batched by a common tick, bounded by back-pressure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from lg_streaming.errors import GapError
from lg_streaming.gateway.delivery.merge import merged_frames
from lg_streaming.hub.carry import carry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from lg_streaming.errors import LogUnavailableError, StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameCache, FrameEncoder, Frames
    from lg_streaming.gateway.delivery.ticker import BatchTicker
    from lg_streaming.hub import Gap, Page, Subscription
    from lg_streaming.hub.wildcard import WildcardPage, WildcardSubscription
    from lg_streaming.log.base import StoredUpdate

__all__ = ["DeliveryObserver", "DeliveryOptions", "FrameSink", "PumpResult", "SubscriptionPump", "pump_all"]


class FrameSink(Protocol):
    """The way to one client, shared by all its subscriptions."""

    def wait_writable(self) -> Awaitable[bool]:
        """Wait until the sink is writable; return whether the client caused a wait."""
        ...

    async def write(self, frames: Frames) -> None:
        """Send frames as soon as the sink is writable."""
        ...

    async def send_event(self, event: str, payload: dict[str, object]) -> None:
        """Send one message that is no update."""
        ...

    def limit_buffer(self) -> None:
        """Keep send buffers short from now on, so that a slow client gets recent updates."""
        ...


class DeliveryObserver(Protocol):
    """Counters and events of the deliveries to one client."""

    def sent(self, execution_id: str, updates: int, size: int, newest: float | None) -> None:
        """Count written updates; `newest` is the time of the last one if it was published live, else None."""
        ...

    def gap(self, execution_id: str, gap: Gap) -> None:
        """Count a gap that was sent."""
        ...

    def merged(self, count: int) -> None:
        """Count updates that merging saved."""
        ...

    def failed(self, error: StreamingError) -> None:
        """Report an error of the server."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions:
    """The form in which a subscription's updates are sent."""

    merge: bool = False
    """Merge updates while the client lags."""
    batch: bool = False
    """Send updates as lists; then a merged page arrives completely or not."""
    live_after: int = 0
    """The head when the client subscribed: later updates are live, and their delay is measured."""


@dataclass(frozen=True, slots=True)
class PumpResult:
    """The end of a delivery."""

    reason: Literal["ended", "closed"]
    position: Position | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _PageWriter:
    """Writes pages as frames."""

    cache: FrameCache
    encoder: FrameEncoder
    sink: FrameSink
    observer: DeliveryObserver

    async def write_gap(self, execution_id: str, gap: Gap) -> None:
        self.observer.gap(execution_id, gap)
        await self.sink.send_event("gap", {"execution_id": execution_id, **gap.to_dict()})

    async def write(
        self,
        subscription: Subscription,
        page: Page,
        *,
        live_after: int = 0,
        merged: Iterable[Frames] | None = None,
        may_send: Callable[[Subscription], Awaitable[bool]] | None = None,
    ) -> None:
        """Write a page.

        Args:
            subscription: The source of the page.
            page: The page.
            live_after: See `DeliveryOptions`.
            merged: The frames to write in place of those of the page's records.
            may_send: Called before each piece, once the sink is writable: whether the client may still receive it.
        """
        execution_id, records = subscription.execution_id, page.records
        if page.gap is not None:
            await self.write_gap(execution_id, page.gap)
        shared = self.cache.frames(execution_id, records, subscription.filter, self.encoder)
        size = 0
        for frames in shared if merged is None else merged:
            if may_send is not None:
                await self.sink.wait_writable()
                if not await may_send(subscription):
                    return
            await self.sink.write(frames)
            size += frames.size
        if records:
            newest = records[-1]
            self.observer.sent(execution_id, len(records), size, newest.timestamp if newest.seq > live_after else None)


class _CountingEncoder:
    """An encoder that counts the records it encodes."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder = encoder
        self.records = 0

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        self.records += len(records)
        return self._encoder.encode(execution_id, records)


class SubscriptionPump:
    """The receiver of one subscription's pages, see `carry`.

    Args:
        subscription: The source of the updates.
        encoder: The encoder of the wire.
        sink: The way to the client.
        options: The form of the updates.
        cache: Frames that other clients share.
        ticker: The common tick of all clients.
        observer: Counter of sent updates.
        fails_on_gap: Whether the delivery ends at a gap, after sending it.
        on_caught_up: Awaited each time that everything in the log is written.
    """

    def __init__(
        self,
        subscription: Subscription,
        encoder: FrameEncoder,
        sink: FrameSink,
        *,
        options: DeliveryOptions,
        cache: FrameCache,
        ticker: BatchTicker,
        observer: DeliveryObserver,
        fails_on_gap: bool = False,
        on_caught_up: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.wait_writable: Callable[[], Awaitable[bool]] = sink.wait_writable
        """See `PageReceiver.wait_writable`."""
        self._subscription = subscription
        self._options = options
        self._writer = _PageWriter(cache=cache, encoder=encoder, sink=sink, observer=observer)
        self._ticker = ticker
        self._fails_on_gap = fails_on_gap
        self._on_caught_up = on_caught_up
        self._unsent: Page | None = None

    @property
    def position(self) -> Position | None:
        """The position up to which all updates were sent; a page that was read and not sent does not count."""
        return self._subscription.position if self._unsent is None else self._unsent.start

    async def run(self) -> PumpResult:
        """Send pages until the subscription ends.

        Raises:
            GapError: If updates are missing and the client asked to fail.
            StreamingError: If the execution cannot be read any more.
        """
        if self._options.merge:
            self._writer.sink.limit_buffer()
        last = await carry(self._subscription, self, pace=self._ticker)
        return PumpResult("closed" if self._subscription.closed else "ended", last.position)

    async def send(self, page: Page, *, waited: bool) -> None:
        """Send a page, merged if the client lags and asked for that."""
        self._unsent = page
        subscription, options, merged = self._subscription, self._options, None
        if page.gap is not None and self._fails_on_gap:
            await self._writer.write_gap(subscription.execution_id, page.gap)
            raise GapError(execution_id=subscription.execution_id)
        if options.merge and len(page.records) > 1 and (waited or subscription.lag > 0):
            merged = self._merged(page)
        await self._writer.write(subscription, page, live_after=options.live_after, merged=merged)
        self._unsent = None
        if self._on_caught_up is not None and not (page.ended or subscription.lag):
            await self._on_caught_up()

    def _merged(self, page: Page) -> list[Frames]:
        counting = _CountingEncoder(self._writer.encoder)
        execution_id = self._subscription.execution_id
        frames = list(merged_frames(execution_id, page.records, counting, atomic=self._options.batch))
        self._writer.observer.merged(len(page.records) - counting.records)
        return frames

    async def log_unavailable(self, error: LogUnavailableError) -> None:
        """Send the client one warning for each outage of the log."""
        self._writer.observer.failed(error)
        execution_id = self._subscription.execution_id
        await self._writer.sink.send_event("error", {**error.to_dict(), "execution_id": execution_id})


class _WildcardPump:
    """The receiver of the pages of all executions of a wildcard subscription, see `carry`."""

    def __init__(self, pages: WildcardSubscription, writer: _PageWriter) -> None:
        self.wait_writable: Callable[[], Awaitable[bool]] = writer.sink.wait_writable
        self._may_send = pages.may_send
        self._write = writer.write

    async def send(self, page: WildcardPage, *, waited: bool) -> None:  # noqa: ARG002 (part of the protocol)
        if page.subscription is not None:
            await self._write(page.subscription, page.page, may_send=self._may_send)

    async def log_unavailable(self, error: LogUnavailableError) -> None:
        """Send no warning: the client did not subscribe to the execution by its id."""


async def pump_all(
    pages: WildcardSubscription,
    encoder: FrameEncoder,
    sink: FrameSink,
    *,
    cache: FrameCache,
    observer: DeliveryObserver,
) -> None:
    """Send the updates of all executions of a wildcard subscription, until that is closed."""
    writer = _PageWriter(cache=cache, encoder=encoder, sink=sink, observer=observer)
    await carry(pages, _WildcardPump(pages, writer))
