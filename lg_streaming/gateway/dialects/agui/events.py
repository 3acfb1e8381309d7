"""One event as a frame, and the data of an update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import orjson

from lg_streaming.codec import Codec, decode_data

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.log.base import StoredUpdate

__all__ = ["Words", "custom", "data_of", "event", "text_prefix", "to_json"]

_JSON: Final = Codec()

Words = list[bytes]
"""Frames, to which readers of updates append."""


def to_json(value: object) -> bytes:
    """Return any value as JSON."""
    return _JSON.to_json(value)


def event(name: str, fields: Mapping[str, Any], timestamp: float | None = None) -> bytes:
    """Return an event as a frame; ``timestamp`` in seconds since 1970."""
    timed = {} if timestamp is None else {"timestamp": int(timestamp * 1000)}
    return b"data: %b\n\n" % to_json({"type": name, **fields, **timed})


def custom(name: str, value: object, timestamp: float | None = None) -> bytes:
    """Return an event ``CUSTOM``, whose value may not be null."""
    return event("CUSTOM", {"name": name, "value": {} if value is None else value}, timestamp)


def text_prefix(message_id: str) -> bytes:
    """Return the frames of a message's text up to the text itself; they end with ``"}`` and an empty line."""
    return b'data: {"type":"TEXT_MESSAGE_CONTENT","messageId":%b,"delta":"' % to_json(message_id)


def data_of(record: StoredUpdate) -> Any:
    """Decode the data of an update."""
    return decode_data(record.json) if record.scope.extra is None else orjson.loads(record.json)["data"]
