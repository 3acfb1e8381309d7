"""Batches to append, short to write."""

from collections.abc import Callable, Sequence

from lg_streaming.codec import Codec
from lg_streaming.log import Batch, LogState, MemoryLog, PendingUpdate
from lg_streaming.log.base import EventLog, ReadResult, StoredUpdate
from lg_streaming.publisher import NO_SCOPE

CODEC = Codec()


def draft(
    type: str = "token",
    data: object = None,
    *,
    execution_id: str = "e",
    key: str | None = None,
    codec: Codec = CODEC,
) -> PendingUpdate:
    body = codec.encode(execution_id, type, data, scope=NO_SCOPE, priority="medium", timestamp=0.0)
    return PendingUpdate(type, NO_SCOPE, "medium", 0.0, body, key)


class Producer:
    """Numbers its batches as a producer must."""

    def __init__(
        self,
        log: EventLog,
        execution_id: str = "e",
        *,
        name: str = "p",
        owner: str | None = None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self.clock = clock
        self.log = log
        self.execution_id = execution_id
        self.name = name
        self.owner = owner
        self.number = 0

    def batch(self, *types: str) -> Batch:
        self.number += 1
        return Batch(
            execution_id=self.execution_id,
            updates=[draft(each, execution_id=self.execution_id)._replace(timestamp=self.clock()) for each in types],
            producer=self.name,
            number=self.number,
            owner=self.owner,
        )

    def append_keyed(self, *types: str) -> int:
        """``type=key`` or ``type`` each; returns how many were left out."""
        batch = self.batch(*types)
        keyed = [
            draft(name, execution_id=self.execution_id, key=key or None)
            for name, _, key in (each.partition("=") for each in types)
        ]
        return self.log.append(batch._replace(updates=keyed))

    def append(self, *types: str) -> Batch:
        batch = self.batch(*types)
        self.log.append(batch)
        return batch


def read_now(log: MemoryLog, execution_id: str, after: int, limit: int) -> ReadResult | None:
    """Read without an event loop: the log in memory never waits."""
    try:
        log.read(execution_id, after, limit).send(None)
    except StopIteration as read:
        return read.value
    raise AssertionError("the log waited")


async def records(
    log: EventLog, after: int = 0, *, limit: int = 10_000, execution_id: str = "e"
) -> Sequence[StoredUpdate]:
    found = await log.read(execution_id, after, limit)
    assert found is not None
    return found.records


async def seqs(log: EventLog, after: int = 0, *, limit: int = 10_000, execution_id: str = "e") -> list[int]:
    return [record.seq for record in await records(log, after, limit=limit, execution_id=execution_id)]


async def state_of(log: EventLog, execution_id: str = "e") -> LogState:
    state = await log.state(execution_id)
    assert state is not None
    return state
