"""The texts of Socket.IO packets, and updates wrapped in them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, get_args

import orjson

from lg_streaming.codec import Codec
from lg_streaming.events import Kind
from lg_streaming.gateway.delivery.frames import Frames, Framing, web_socket_frame
from lg_streaming.gateway.protocol.registry import MESSAGES_OUT, RESERVED_EVENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.gateway.transports.base import TransportLimits
    from lg_streaming.log.base import StoredUpdate

__all__ = ["EncodeBatch", "EncodeEach", "Packets", "event_name", "handshake", "size_of"]

_JSON: Final = Codec()
_KINDS: Final[dict[Kind, bytes]] = {kind: b'"%b"' % kind.encode() for kind in get_args(Kind)}
_TAKEN: Final = (RESERVED_EVENTS | MESSAGES_OUT.keys() | {"reply"}) - _KINDS.keys()
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


def event_name(record: StoredUpdate, *, by_type: bool) -> bytes:
    """Return the name of an update's message, as JSON. A type that another message has is replaced by the kind."""
    return _name_of(record.type, record.kind) if by_type else _KINDS[record.kind]


@lru_cache(maxsize=1_024)
def _name_of(type: str, kind: Kind) -> bytes:
    return _KINDS[kind] if type in _TAKEN else _JSON.to_json(type)


class Packets:
    """The texts of Socket.IO packets of one namespace, as engine.io messages."""

    def __init__(self, namespace: str) -> None:
        self._namespace = b"" if namespace == "/" else namespace.encode() + b","
        self.disconnect: bytes = b"41" + self._namespace

    def event(self, name: str, payload: object) -> bytes:
        """Encode an event."""
        return b"42" + self._namespace + orjson.dumps([name, payload])

    def ready_event(self, name: bytes, *payload: bytes) -> bytes:
        """Encode an event from a name and parts of a payload that are JSON already."""
        return b"".join((b"42", self._namespace, b"[", name, b",", *payload, b"]"))

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
        text, frame, by_type = self.packets.ready_event, self.frame, self.by_type
        return Frames(
            b"".join([frame(text(event_name(record, by_type=by_type), record.json)) for record in records]),
            count=len(records),
        )


@dataclass(frozen=True, slots=True)
class EncodeBatch:
    """Encoder with one ``updates`` event for a list of updates."""

    packets: Packets
    frame: Framing = web_socket_frame

    def encode(self, execution_id: str, records: Sequence[StoredUpdate]) -> Frames:
        """See :meth:`~lg_streaming.gateway.delivery.frames.FrameEncoder.encode`."""
        text = self.packets.ready_event(
            b'"updates"',
            b'{"execution_id":',
            orjson.dumps(execution_id),
            b',"updates":[',
            b",".join([record.json for record in records]),
            b"]}",
        )
        return Frames(self.frame(text))
