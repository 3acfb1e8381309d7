"""The library's own event stream: one event for each update, with its position as id and its type or kind as name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lg_streaming.codec import Codec
from lg_streaming.gateway.delivery.frames import Frames

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.errors import StreamingError
    from lg_streaming.events import Position
    from lg_streaming.gateway.delivery.frames import FrameEncoder
    from lg_streaming.gateway.protocol.inbound import EventName
    from lg_streaming.log.base import ExecutionState, StoredUpdate

__all__ = ["Native"]

_JSON: Final = Codec()


class Native:
    """Encoder of the library's own event stream, see `EventStreamEncoder`.

    Args:
        execution_id: The execution.
        event: Content of an update's `event:` line; None: no such line.
        ids: Whether updates have an `id:` line.
        batch: Whether updates come as lists.
    """

    keep_alive: bytes = b": keep-alive\n\n"
    shared: bool = True
    cuts: bool = False
    is_complete: bool = False

    def __init__(self, execution_id: str, *, event: EventName | None, ids: bool, batch: bool) -> None:
        self._execution_id = execution_id
        self._ids = ids
        self.frame_encoder: FrameEncoder = _EncodeBatch(event is not None, ids) if batch else _EncodeEvents(event, ids)

    def before_stream(self, retry_ms: int, status: Mapping[str, object]) -> bytes:
        """See `EventStreamEncoder.before_stream`."""
        return b"retry: %d\n" % retry_ms + _event("connection_status", status)

    def encode_event(self, event: str, payload: object) -> bytes:
        """See `EventStreamEncoder.encode_event`."""
        return _event(event, payload)

    def caught_up(self) -> bytes:
        """See `EventStreamEncoder.caught_up`."""
        return b""

    def on_end(
        self,
        position: Position | None,
        *,
        run_is_over: bool,
        state: ExecutionState | None = None,  # noqa: ARG002 (its readers know by the updates)
    ) -> bytes:
        """See `EventStreamEncoder.on_end`."""
        if not run_is_over:
            return b""
        # With its own id, so that a reader whose filter left the last updates out does not come back.
        return _event("end", {"execution_id": self._execution_id}, position if self._ids else None)

    def on_error(self, error: StreamingError) -> bytes:
        """See `EventStreamEncoder.on_error`."""
        return _event("error", {"execution_id": self._execution_id, **error.to_dict()})

    def on_restart(self, event: str, retry_ms: int) -> bytes:
        """See `EventStreamEncoder.on_restart`."""
        return b"retry: %d\n" % retry_ms + _event(event, {"retry_ms": retry_ms})


@dataclass(frozen=True, slots=True)
class _EncodeEvents:
    """Encoder with one event for each update."""

    event: EventName | None
    ids: bool

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (others need it)
        """See `FrameEncoder.encode`."""
        names = {record.type: record.kind if self.event == "kind" else record.type for record in records}
        names = {each: b"event: %b\n" % _line(name) if self.event else b"" for each, name in names.items()}
        if not self.ids:
            return _joined([b"%bdata: %b\n\n" % (names[record.type], record.json) for record in records])
        epoch = records[0].epoch.encode()
        return _joined(
            [b"id: %b:%d\n%bdata: %b\n\n" % (epoch, each.seq, names[each.type], each.json) for each in records]
        )


def _joined(parts: list[bytes]) -> Frames:
    return Frames(b"".join(parts), count=len(parts))


@dataclass(frozen=True, slots=True)
class _EncodeBatch:
    """Encoder with one event for a list of updates."""

    named: bool
    ids: bool

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (others need it)
        """See `FrameEncoder.encode`."""
        last = records[-1]
        name = b"event: updates\n" if self.named else b""
        identity = b"id: %b:%d\n" % (last.epoch.encode(), last.seq) if self.ids else b""
        return Frames(b"%b%bdata: [%b]\n\n" % (identity, name, b",".join([record.json for record in records])))


def _line(text: str) -> bytes:
    """Escape ``text`` for a line: a program chooses its types, and a line break in one would begin a new field."""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text)
    return text.encode("utf-8", "replace")


def _event(name: str, content: object, identity: object = None) -> bytes:
    head = b"" if identity is None else b"id: %b\n" % str(identity).encode()
    return b"%bevent: %b\ndata: %b\n\n" % (head, name.encode(), _JSON.to_json(content))
