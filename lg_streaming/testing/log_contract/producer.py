"""Batches to append, numbered as a producer must."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lg_streaming.codec import Codec
from lg_streaming.log import Batch, PendingUpdate
from lg_streaming.publisher import NO_SCOPE, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.events import Priority
    from lg_streaming.log import EventLog
    from lg_streaming.publisher import Scope

__all__ = ["Producer", "append", "append_all", "encode_update", "trim"]

_CODEC: Final = Codec(max_bytes=1 << 30)


def encode_update(
    type: str,
    data: object = None,
    *,
    execution_id: str = "e",
    scope: Scope = NO_SCOPE,
    priority: Priority = "medium",
    timestamp: float = 1_000.0,
    key: str | None = None,
) -> PendingUpdate:
    """Return an update as the hub encodes it for a log."""
    body = _CODEC.encode(execution_id, type, data, scope=scope, priority=priority, timestamp=timestamp)
    return PendingUpdate(type, scope, priority, timestamp, body, key)


class Producer:
    """Producer of batches for one execution. It numbers them from 1.

    Args:
        log: The log that it appends to.
        execution_id: The execution.
        name: Its id; a new one if None.
        owner: Owner on its batches.
        run_id: Id of the run in the scope of its updates, and in the data of its ``workflow_start``.
    """

    def __init__(
        self,
        log: EventLog,
        execution_id: str = "e",
        *,
        name: str | None = None,
        owner: str | None = None,
        run_id: str | None = None,
    ) -> None:
        self.log = log
        self.execution_id = execution_id
        self.name: str = name or new_id()
        self.owner = owner
        self.run_id = run_id
        self.number: int = 0

    def encode(self, update: str) -> PendingUpdate:
        """Encode an update of a type, or of ``type=key``."""
        name, _, key = update.partition("=")
        data = {"run_id": self.run_id} if self.run_id is not None and name == "workflow_start" else None
        scope = NO_SCOPE.derive(run_id=self.run_id) if self.run_id is not None else NO_SCOPE
        return encode_update(name, data, execution_id=self.execution_id, scope=scope, key=key or None)

    def batch(self, *updates: str | PendingUpdate) -> Batch:
        """Return the next batch, of types, of ``type=key``, or of encoded updates."""
        self.number += 1
        encoded = [each if isinstance(each, PendingUpdate) else self.encode(each) for each in updates]
        return Batch(self.execution_id, encoded, self.name, self.number, self.owner)

    async def append(self, *updates: str | PendingUpdate) -> int:
        """Append the next batch, and return the number of updates that were skipped because of their key."""
        return await append(self.log, self.batch(*updates))


async def append(log: EventLog, batch: Batch) -> int:
    """Append a batch; on a thread if the log blocks."""
    return await asyncio.to_thread(log.append, batch) if log.blocking else log.append(batch)


async def append_all(log: EventLog, batches: Sequence[Batch]) -> Sequence[int | Exception]:
    """Append batches of different executions; on a thread if the log blocks."""
    return await asyncio.to_thread(log.append_all, batches) if log.blocking else log.append_all(batches)


async def trim(log: EventLog, limit: int | None = None) -> bool:
    """Trim a log; on a thread if it blocks."""
    return await asyncio.to_thread(log.trim, limit) if log.blocking else log.trim(limit)
