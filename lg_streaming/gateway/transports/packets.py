"""The texts of Socket.IO packets, and updates wrapped in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, get_args

import orjson

from lg_streaming.codec import Codec
from lg_streaming.events import KINDS, Kind
from lg_streaming.gateway.delivery.frames import Frames, Framing, web_socket_frame
from lg_streaming.gateway.protocol.registry import MESSAGES_OUT, RESERVED_EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.gateway.transports.base import TransportLimits
    from lg_streaming.log.base import StoredUpdate

__all__ = ["KIND_NAMES", "TYPE_NAMES", "EncodeBatch", "EncodeEach", "Packets", "handshake", "size_of"]

_JSON: Final = Codec()
_MAX_NAMES: Final = 1_024
_TAKEN: Final = (RESERVED_EVENTS | MESSAGES_OUT.keys() | {"reply"}) - frozenset(get_args(Kind))
"""Names of messages that are no updates."""


def size_of(text: str) -> int:
    """Return the size of ``text`` in UTF-8, in bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def handshake(sid: str, limits: TransportLimits) -> bytes:
    """Return the first packet of a transport; engine.io counts in milliseconds."""
    told: dict[str, object] = {
        "sid": sid,
        "upgrades": [],
        "pingInterval": round(limits.ping_interval * 1000),
        "pingTimeout": round(limits.ping_timeout * 1000),
        "maxPayload": limits.inbound_bytes,
    }
    return b"0" + orjson.dumps(told)


class _KindNames(dict[str, bytes]):
    """The names, as JSON, of the messages of updates by their type: its kind."""

    def __missing__(self, type: str) -> bytes:
        return b'"event"'


class _TypeNames(dict[str, bytes]):
    """The same, but for the type itself; its kind where another message has that name."""

    def __missing__(self, type: str) -> bytes:
        if len(self) >= _MAX_NAMES:
            self.clear()
        name = self[type] = KIND_NAMES[type] if type in _TAKEN else b"%b" % _JSON.to_json(type)
        return name


KIND_NAMES: Final = _KindNames({each: b'"%b"' % kind.encode() for each, kind in KINDS.items()})
TYPE_NAMES: Final = _TypeNames()


class Packets:
    """The texts of Socket.IO packets of one namespace, as engine.io messages."""

    def __init__(self, namespace: str) -> None:
        self._namespace = b"" if namespace == "/" else namespace.encode() + b","
        self.event_start: bytes = b"42" + self._namespace + b"["
        """The beginning of an event, before its name."""
        self.disconnect: bytes = b"41" + self._namespace

    def event(self, name: str, payload: object) -> bytes:
        """Encode an event."""
        return b"42" + self._namespace + orjson.dumps([name, payload])

    def answer(self, number: int, payload: object) -> bytes:
        """Encode the answer to a message, in Socket.IO's acknowledgement packet."""
        return b"43" + self._namespace + b"%d" % number + orjson.dumps([payload])


@dataclass(frozen=True, slots=True)
class EncodeEach:
    """Encoder with one event for each update, named by its kind or type, with the update's JSON of the log."""

    packets: Packets
    frame: Framing = web_socket_frame
    by_type: bool = False

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:  # noqa: ARG002 (a batch needs it)
        """See :meth:`~lg_streaming.gateway.delivery.frames.FrameEncoder.encode`."""
        start, frame, names = self.packets.event_start, self.frame, TYPE_NAMES if self.by_type else KIND_NAMES
        messages = [frame(b"%b%b,%b]" % (start, names[record.type], record.json)) for record in records]
        return Frames(b"".join(messages), count=len(messages))


@dataclass(frozen=True, slots=True)
class EncodeBatch:
    """Encoder with one ``updates`` event for a list of updates."""

    packets: Packets
    frame: Framing = web_socket_frame

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        """See :meth:`~lg_streaming.gateway.delivery.frames.FrameEncoder.encode`."""
        updates = b",".join([record.json for record in records])
        parts = (self.packets.event_start, orjson.dumps(execution_id), updates)
        return Frames(self.frame(b'%b"updates",{"execution_id":%b,"updates":[%b]}]' % parts))
