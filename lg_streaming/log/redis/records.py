"""Binary form of updates in Redis.

A record is a fixed part, a header, an idempotency key and the JSON body of a `PendingUpdate`. The header (type,
priority and scope) is the same for many updates, so both sides cache it. The position is no part of a record.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.events import NAMES, Scope
from lg_streaming.events.scope import METADATA_NAMES
from lg_streaming.log.base import PendingUpdate, StoredUpdate
from lg_streaming.values import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.events import Priority

__all__ = ["decode_records", "encode_header", "encode_record", "get_timestamp"]

_FIXED: Final = struct.Struct("<dHHI")
"""Timestamp in seconds since 1970, then bytes of the header, the key and the body. Large headers use the escape."""
_pack: Final = _FIXED.pack
_LARGE: Final = 0xFFFF
_LONG: Final = struct.Struct("<I")
_MAX_CACHED: Final = 4_096
_new: Final = cast("Any", tuple.__new__)

_Header = tuple[str, Scope, "Priority"]


def encode_header(update: PendingUpdate) -> bytes:
    """Return the header of an update's record: its type, priority and scope."""
    return b"%b\n%b\n%b" % (to_json(update.type), update.priority.encode(), update.scope.fragment)


def encode_record(update: PendingUpdate, header: bytes | None = None) -> bytes:
    """Return the record of an update. ``header`` is its `encode_header`, if that is known."""
    key = b"" if update.key is None else update.key.encode()
    if header is None:
        header = encode_header(update)
    if len(header) >= _LARGE:
        fixed = _FIXED.pack(update.timestamp, _LARGE, len(key), len(update.body)) + _LONG.pack(len(header))
    else:
        fixed = _pack(update.timestamp, len(header), len(key), len(update.body))
    return b"%b%b%b%b" % (fixed, header, key, update.body)


def get_timestamp(record: bytes) -> float:
    """Return the time of the update in a record, in seconds since 1970."""
    return _FIXED.unpack_from(record)[0]


_headers: Final[dict[bytes, _Header]] = {}


def _parse_header(header: bytes) -> _Header:
    name, priority, fragment = header.split(b"\n", 2)
    members: dict[str, Any] = orjson.loads(b"{%b}" % fragment[1:]) if fragment else {}
    extra = {key: value for key, value in members.items() if key not in METADATA_NAMES}
    scope = Scope(**{key: members[key] for key in NAMES if key in members}, extra=extra or None)
    object.__setattr__(scope, "encoded", fragment)  # as `Scope.fragment` caches it
    if len(_headers) >= _MAX_CACHED:
        _headers.clear()
    parsed: _Header = (orjson.loads(name), scope, cast("Priority", priority.decode()))
    _headers[header] = parsed
    return parsed


def decode_records(chunk: bytes, first: int, epoch: str) -> Sequence[StoredUpdate]:
    """Return the updates of a chunk.

    Args:
        chunk: Records, one after the other.
        first: Sequence number of the first.
        epoch: Epoch of the execution.
    """
    records: list[StoredUpdate] = []
    ending = b',"epoch":"%b"}}' % epoch.encode()  # as `add_position` makes it
    headers, unpack, fixed_size = _headers, _FIXED.unpack_from, _FIXED.size
    at, end, seq = 0, len(chunk), first
    while at < end:
        timestamp, header_size, key_size, body_size = unpack(chunk, at)
        at += fixed_size
        if header_size == _LARGE:
            (header_size,) = _LONG.unpack_from(chunk, at)
            at += _LONG.size
        header = chunk[at : at + header_size]
        name, scope, priority = headers.get(header) or _parse_header(header)
        at += header_size
        key = chunk[at : at + key_size].decode() if key_size else None
        at += key_size
        json = b'%b,"sequence_number":%d%b' % (chunk[at : at + body_size], seq, ending)
        at += body_size
        records.append(_new(StoredUpdate, (name, scope, priority, timestamp, json, key, seq, epoch, None)))
        seq += 1
    return records
