"""Arguments of the script that appends a batch, and its answer."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from lg_streaming.events import FINAL_TYPES
from lg_streaming.log.base import state_after
from lg_streaming.log.redis.records import encode_header, encode_record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lg_streaming.log.base import PendingUpdate

__all__ = ["last_change", "segments"]

_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "workflow_start": "s",
        "workflow_interrupted": "i",
        "workflow_progress": "w",
        "progress": "p",
        **{each: f"f{state_after('running', each)}" for each in FINAL_TYPES},
    }
)
_PLAIN_UPDATES: Final = 128
_PLAIN_BYTES: Final = 32_768


def segments(updates: Sequence[PendingUpdate]) -> list[str | bytes | int]:
    """Return the updates as the segments that ``append.lua`` takes: five arguments each.

    Consecutive updates that change no state, have no key and belong to one run share a segment.
    """
    arguments: list[str | bytes | int] = []
    plain: list[bytes] = []
    size, plain_run = 0, ""
    name = priority = scope = None
    kind, run, header = "", "", b""
    for update in updates:
        if update.scope is not scope or update.type != name or update.priority != priority:
            name, scope, priority, header = update.type, update.scope, update.priority, encode_header(update)
            kind, run = _KINDS.get(name, ""), scope.run_id or ""
        record = encode_record(update, header)
        if plain and (kind or update.key is not None or run != plain_run or len(plain) == _PLAIN_UPDATES):
            arguments += (len(plain), "", "", plain_run, b"".join(plain))
            plain, size = [], 0
        if kind or update.key is not None:
            arguments += (1, "S" if update.joins else kind, update.key or "", run, record)
            continue
        plain.append(record)
        plain_run, size = run, size + len(record)
        if size > _PLAIN_BYTES:
            arguments += (len(plain), "", "", plain_run, b"".join(plain))
            plain, size = [], 0
    if plain:
        arguments += (len(plain), "", "", plain_run, b"".join(plain))
    return arguments


def last_change(updates: Sequence[PendingUpdate]) -> PendingUpdate | None:
    """Return the last start or end of a run in a batch, or None."""
    if len(updates) == 1 and updates[0].type not in _CHANGES:
        return None
    return next((update for update in reversed(updates) if update.type in _CHANGES), None)


_CHANGES: Final = FINAL_TYPES | {"workflow_start"}
