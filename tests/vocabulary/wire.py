"""Encoding and decoding in one go, as a log does it."""

import json
from typing import Any

from lg_streaming.codec import Codec, add_position, decode
from lg_streaming.events import NO_SCOPE, Priority, Scope, StreamUpdate


def wire(
    data: object = None,
    *,
    type: str = "note",
    scope: Scope = NO_SCOPE,
    priority: Priority = "medium",
    timestamp: float = 1_700_000_000.25,
    codec: Codec | None = None,
    execution_id: str = "e",
) -> bytes:
    body = (codec or Codec()).encode(execution_id, type, data, scope=scope, priority=priority, timestamp=timestamp)
    return add_position(body, 7, "a1")


def loaded(data: object, **kwargs: Any) -> Any:
    """The ``data`` a strict JSON reader sees."""
    return json.loads(wire(data, **kwargs), parse_constant=_refuse)["data"]


def update(data: object = None, **kwargs: Any) -> StreamUpdate:
    return decode(wire(data, **kwargs))


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
