"""Event stream of Durable Streams: messages, each followed by a control event with their offset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson

from lg_streaming.events import Position
from lg_streaming.gateway.delivery.frames import Frames
from lg_streaming.gateway.dialects.durable_streams.offsets import cursor, offset_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.errors import StreamingError
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["DurableEncoder", "gap_item"]


def gap_item(gap: Mapping[str, object]) -> bytes:
    """Return the message in place of updates that are no longer kept."""
    return orjson.dumps({"type": "gap", "data": {name: gap[name] for name in ("from", "to", "reason")}})


class DurableEncoder:
    """Encoder of one event stream, see `EventStreamEncoder`.

    A clean end never means the end of the stream: only `streamClosed` does. So nothing is sent at a restart, at the
    longest duration, or when a token expires: the client reconnects with its last offset.

    Args:
        subscription: The reader's subscription.
        cursor: The cursor that the client sent.
    """

    shared: bool = False
    cuts: bool = False
    is_complete: bool = False

    def __init__(self, subscription: ActiveSubscription, cursor_before: str | None) -> None:
        self._subscription = subscription
        self._source = subscription.source
        self._ahead = max(0, cursor(cursor_before) - cursor())
        self._sent: Position | None = None  # the offset of the last control event
        self._is_up_to_date = False
        self.frame_encoder: FrameEncoder = self

    @property
    def keep_alive(self) -> bytes:
        """A control event, with an offset past updates that the filter left out."""
        return self._control(self._reached())

    def _reached(self) -> Position | None:
        """Return the reader's position. Pieces of a page may be past the position of the subscription."""
        position, sent = self._subscription.position, self._sent
        behind = position is None or sent is None or position.epoch != sent.epoch or position.seq >= sent.seq
        return position if behind else sent

    def _control(self, position: Position | None, *, closed: bool = False) -> bytes:
        up_to_date = closed or (not self._source.lag and position == self._source.position)
        self._sent, self._is_up_to_date = position, up_to_date
        return b'event: control\ndata:{"streamNextOffset":"%b"%b%b}\n\n' % (
            offset_of(position).encode(),
            b',"streamClosed":true' if closed else b',"streamCursor":"%d"' % (cursor() + self._ahead),
            b',"upToDate":true' if up_to_date else b"",
        )

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (part of the protocol)
        """Return one data event with its control event."""
        items = records[0].json if len(records) == 1 else b",".join([record.json for record in records])
        return Frames(b"event: data\ndata:[%b]\n\n%b" % (items, self._control(records[-1].position)))

    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:  # noqa: ARG002
        """Return a control event if there is nothing to read yet."""
        source = self._source
        return b"" if source.lag or source.read_to_end else self._control(source.position)

    def encode_event(self, event: str, payload: object) -> bytes:
        """Return the message of a gap.

        In a new epoch offsets begin anew, so the stream ends, and the next request fails.
        """
        position = self._source.position
        if event != "gap" or position is None:
            return b""
        gap = cast("dict[str, Any]", payload)
        if gap["reason"] != "evicted":
            self._source.close()
            return b""
        return b"event: data\ndata:[%b]\n\n%b" % (gap_item(gap), self._control(Position(position.epoch, gap["to"])))

    def caught_up(self) -> bytes:
        """Return a control event, unless the last one has the position of the reader already."""
        is_sent = self._is_up_to_date and self._sent == self._source.position
        return b"" if is_sent else self._control(self._source.position)

    def on_end(self, position: Position | None, *, run_is_over: bool, state: ExecutionState | None = None) -> bytes:
        """Return the last control event if the stream is closed. After a later run began it is not."""
        is_closed = run_is_over and state not in {None, "running", "interrupted"}
        return self._control(position, closed=True) if is_closed else b""

    def on_error(self, error: StreamingError) -> bytes:  # noqa: ARG002
        """Return nothing: the client reconnects, and gets the error as a status."""
        return b""

    def on_restart(self, event: str, retry_ms: int) -> bytes:  # noqa: ARG002
        """Return nothing: the client reconnects."""
        return b""
