"""Batches to append, short to write."""

from lg_streaming.codec import Codec
from lg_streaming.log import Batch, MemoryLog, PendingUpdate
from lg_streaming.log.base import EventLog, ReadResult
from lg_streaming.publisher import NO_SCOPE

CODEC = Codec()


def draft(
    type: str = "token",
    data: object = None,
    *,
    execution_id: str = "e",
    key: str | None = None,
    codec: Codec = CODEC,
    run_id: str | None = None,
) -> PendingUpdate:
    scope = NO_SCOPE if run_id is None else NO_SCOPE.derive(run_id=run_id)
    body = codec.encode(execution_id, type, data, scope=scope, priority="medium", timestamp=0.0)
    return PendingUpdate(type, scope, "medium", 0.0, body, key)


class Producer:
    """Numbers its batches as a producer must."""

    def __init__(
        self,
        log: EventLog,
        execution_id: str = "e",
    ) -> None:
        self.log = log
        self.execution_id = execution_id
        self.number = 0

    def batch(self, *types: str) -> Batch:
        self.number += 1
        return Batch(
            execution_id=self.execution_id,
            updates=[draft(each, execution_id=self.execution_id) for each in types],
            producer="p",
            number=self.number,
        )

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
