"""Pump pages of subscriptions to one client: batched by a common tick, bounded by back-pressure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from lg_streaming.errors import GapError
from lg_streaming.gateway.delivery.merge import merged_frames

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lg_streaming.errors import LogUnavailableError, StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameCache, FrameEncoder, Frames
    from lg_streaming.hub import Gap, Page, Subscription
    from lg_streaming.hub.wildcard import WildcardPage, WildcardSubscription
    from lg_streaming.log.base import StoredUpdate

__all__ = ["DeliveryObserver", "DeliveryOptions", "FrameSink", "SubscriptionPump", "WildcardPump"]


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


class _CountingEncoder:
    """An encoder that counts the records it encodes."""

    def __init__(self, encoder: FrameEncoder) -> None:
        self._encoder = encoder
        self.records = 0

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        self.records += len(records)
        return self._encoder.encode(execution_id, records)


class _Pump:
    """The receiver of the pages of one client, see `carry`.

    Args:
        encoder: The encoder of the wire.
        sink: The way to the client.
        cache: Frames that other clients share.
        observer: Counter of sent updates.
    """

    def __init__(
        self, encoder: FrameEncoder, sink: FrameSink, *, cache: FrameCache, observer: DeliveryObserver
    ) -> None:
        self.wait_writable: Callable[[], Awaitable[bool]] = sink.wait_writable
        """See `PageReceiver.wait_writable`."""
        self._encoder = encoder
        self._sink = sink
        self._cache = cache
        self._observer = observer

    async def _send_gap(self, execution_id: str, gap: Gap) -> None:
        self._observer.gap(execution_id, gap)
        await self._sink.send_event("gap", {"execution_id": execution_id, **gap.to_dict()})


class SubscriptionPump(_Pump):
    """The receiver of one subscription's pages.

    `carry` raises `GapError` if updates are missing and the client asked to fail.

    Args:
        subscription: The source of the updates.
        encoder: The encoder of the wire.
        sink: The way to the client.
        options: The form of the updates.
        cache: Frames that other clients share.
        observer: Counter of sent updates.
        fails_on_gap: Whether the delivery ends at a gap, after sending it.
        on_caught_up: Awaited each time that everything in the log is written.
        prepare: Awaited with each page before it is encoded.
    """

    def __init__(
        self,
        subscription: Subscription,
        encoder: FrameEncoder,
        sink: FrameSink,
        *,
        options: DeliveryOptions,
        cache: FrameCache,
        observer: DeliveryObserver,
        fails_on_gap: bool = False,
        on_caught_up: Callable[[], Awaitable[None]] | None = None,
        prepare: Callable[[Page], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(encoder, sink, cache=cache, observer=observer)
        self._subscription = subscription
        self._options = options
        self._fails_on_gap = fails_on_gap
        self._on_caught_up = on_caught_up
        self._prepare = prepare
        self._unsent: Page | None = None
        if options.merge:
            sink.limit_buffer()

    @property
    def position(self) -> Position | None:
        """The position up to which all updates were sent; a page that was read and not sent does not count."""
        return self._subscription.position if self._unsent is None else self._unsent.start

    async def send(self, page: Page, *, waited: bool) -> None:
        """Send a page, merged if the client lags and asked for that."""
        self._unsent = page
        subscription, options, sink, records = self._subscription, self._options, self._sink, page.records
        execution_id = subscription.execution_id
        if self._prepare is not None:
            await self._prepare(page)
        if page.gap is not None:
            await self._send_gap(execution_id, page.gap)
            if self._fails_on_gap:
                raise GapError(execution_id=execution_id)
        if options.merge and len(records) > 1 and (waited or subscription.lag > 0):
            pieces = self._merged(page)
        else:
            pieces = self._cache.frames(execution_id, records, subscription.filter, self._encoder)
        size = 0
        for frames in pieces:
            await sink.write(frames)
            size += len(frames.wire)
        if records:
            newest = records[-1]
            published = newest.timestamp if newest.seq > options.live_after else None
            self._observer.sent(execution_id, len(records), size, published)
        self._unsent = None
        if self._on_caught_up is not None and not (page.ended or subscription.lag):
            await self._on_caught_up()

    def _merged(self, page: Page) -> list[Frames]:
        counting = _CountingEncoder(self._encoder)
        execution_id = self._subscription.execution_id
        frames = list(merged_frames(execution_id, page.records, counting, atomic=self._options.batch))
        self._observer.merged(len(page.records) - counting.records)
        return frames

    async def log_unavailable(self, error: LogUnavailableError) -> None:
        """Send the client one warning for each outage of the log."""
        self._observer.failed(error)
        execution_id = self._subscription.execution_id
        await self._sink.send_event("error", {**error.to_dict(), "execution_id": execution_id})


class WildcardPump(_Pump):
    """The receiver of the pages of all executions of a wildcard subscription.

    Args:
        pages: The source of the updates.
        encoder: The encoder of the wire.
        sink: The way to the client.
        cache: Frames that other clients share.
        observer: Counter of sent updates.
    """

    def __init__(
        self,
        pages: WildcardSubscription,
        encoder: FrameEncoder,
        sink: FrameSink,
        *,
        cache: FrameCache,
        observer: DeliveryObserver,
    ) -> None:
        super().__init__(encoder, sink, cache=cache, observer=observer)
        self._may_send = pages.may_send

    async def send(self, page: WildcardPage, *, waited: bool) -> None:  # noqa: ARG002 (part of the protocol)
        """Send a page; stop before a piece that the client may no longer receive."""
        subscription, records = page.subscription, page.page.records
        if subscription is None:
            return
        execution_id = subscription.execution_id
        if page.page.gap is not None:
            await self._send_gap(execution_id, page.page.gap)
        size = 0
        for frames in self._cache.frames(execution_id, records, subscription.filter, self._encoder):
            await self.wait_writable()
            if not await self._may_send(subscription):
                return
            await self._sink.write(frames)
            size += len(frames.wire)
        if records:
            self._observer.sent(execution_id, len(records), size, records[-1].timestamp)

    async def log_unavailable(self, error: LogUnavailableError) -> None:
        """Send no warning: the client did not subscribe to the execution by its id."""
