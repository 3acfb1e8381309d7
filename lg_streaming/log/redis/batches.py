"""Arguments and answers of ``append.lua``, the script that appends a batch."""

from __future__ import annotations

from collections import OrderedDict
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from lg_streaming.events import FINAL_TYPES
from lg_streaming.fork import new_lock
from lg_streaming.log.base import state_after
from lg_streaming.log.redis.records import encode_header, encode_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lg_streaming.log.base import Batch, PendingUpdate
    from lg_streaming.log.redis.keys import Keys
    from lg_streaming.settings import RetentionSettings

__all__ = [
    "APPENDED",
    "OWNER_REFUSED",
    "REPEATED",
    "RUN_REFUSED",
    "Acknowledged",
    "AppendCalls",
    "changes_state",
    "last_change",
    "segments",
]

APPENDED, REPEATED, RUN_REFUSED, OWNER_REFUSED = range(4)
"""Statuses with which an answer begins."""

_MAX_ACKNOWLEDGED: Final = 20_000
"""Executions whose acknowledged head is remembered."""
_INLINE_BYTES: Final = 65_536
"""Most bytes of updates that a notification contains."""
_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "workflow_start": "s",
        "workflow_interrupted": "i",
        "human_prompt": "h",
        "human_response": "h",
        "workflow_progress": "w",
        "progress": "p",
        **{each: f"f{state_after('running', each)}" for each in FINAL_TYPES},
    }
)
_STARTS: Final[Mapping[str, str]] = MappingProxyType({"joins": "S", "first": "o", "exclusive": "X"})
_PLAIN_UPDATES: Final = 128
_PLAIN_BYTES: Final = 32_768


class Acknowledged(NamedTuple):
    """Head of an execution that Redis has acknowledged to this process."""

    epoch: str
    head: int
    owner: str | None = None
    """Owner under which the execution is in the index."""
    producer: str = ""
    number: int = 0
    """Last batch of that producer."""
    at: float = 0.0
    """Time of that append, in seconds since 1970."""


class AppendCalls:
    """Arguments of ``append.lua``, with the heads that Redis has acknowledged to this process.

    Args:
        keys: Names of the keys.
        retention: Limits of one execution.
        clock: Seconds since 1970.
        new_epoch: Returns the name of a new life of an execution.
    """

    def __init__(
        self, keys: Keys, retention: RetentionSettings, clock: Callable[[], float], new_epoch: Callable[[], str]
    ) -> None:
        self._keys = keys
        self._retention = retention
        self._clock = clock
        self._new_epoch = new_epoch
        self._lock = new_lock()
        self.acknowledged: OrderedDict[str, Acknowledged] = OrderedDict()
        """Heads of the executions that this process appended to last."""

    def call(
        self, batch: Batch, process_id: str, *, epoch: str = "", mode: str = "", holder: str = "", live: str = ""
    ) -> tuple[Sequence[str], Sequence[str | bytes | int]]:
        """Return keys and arguments. ``epoch`` is for a new execution, the others for a run of another process."""
        execution_id, updates = batch.execution_id, batch.updates
        keys, retention = self._keys.execution(execution_id), self._retention
        known = self.acknowledged.get(execution_id)
        return (keys.updates, keys.state, keys.idempotency), (
            batch.producer,
            batch.number,
            process_id,
            epoch or self._new_epoch(),
            batch.owner or "",
            repr(updates[-1].timestamp) if updates else "0",
            repr(self._clock()),
            retention.max_updates,
            retention.max_bytes,
            round(retention.ttl * 1000),
            round(retention.record_ttl * 1000),
            known.epoch if known is not None else "",
            known.head if known is not None else 0,
            keys.channel,
            self._keys.all_updates,
            execution_id,
            _INLINE_BYTES,
            mode,
            holder,
            live,
            known.number if known is not None and known.producer == batch.producer else 0,
            *segments(updates),
        )

    def acknowledge(self, batch: Batch, epoch: str, head: int) -> tuple[Acknowledged | None, Acknowledged]:
        """Record the head after a batch; return what was recorded before, and now."""
        execution_id = batch.execution_id
        with self._lock:
            before = self.acknowledged.pop(execution_id, None)
            owner = batch.owner or (before.owner if before is not None else None)
            now = self.acknowledged[execution_id] = Acknowledged(
                epoch, head, owner, batch.producer, batch.number, self._clock()
            )
            if len(self.acknowledged) > _MAX_ACKNOWLEDGED:
                self.acknowledged.popitem(last=False)
        return before, now

    def forget(self, execution_id: str) -> None:
        """Forget the head of an execution that is dropped."""
        with self._lock:
            self.acknowledged.pop(execution_id, None)


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
        single = kind or update.key is not None or update.usage is not None
        if plain and (single or run != plain_run or len(plain) == _PLAIN_UPDATES):
            arguments += (len(plain), "", "", plain_run, b"".join(plain))
            plain, size = [], 0
        if single:
            change = f"u{update.usage.text}" if update.usage is not None else _STARTS.get(update.opening, kind)
            arguments += (1, change, update.key or "", run, record)
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


def changes_state(updates: Sequence[PendingUpdate]) -> bool:
    """Return whether a batch begins, interrupts or ends a run, or has a prompt or an answer."""
    return not _STATE_CHANGES.isdisjoint([update.type for update in updates])


_CHANGES: Final = FINAL_TYPES | {"workflow_start"}
_STATE_CHANGES: Final = _CHANGES | {"workflow_interrupted", "human_prompt", "human_response"}
