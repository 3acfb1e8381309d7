"""Queue of one execution's drafts in the buffer of a blocking log, and the batches that are taken from it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from lg_streaming.log.base import Batch, PendingUpdate

if TYPE_CHECKING:
    from concurrent.futures import Future

    from lg_streaming.hub.execution import Execution

__all__ = ["Attempt", "DroppableUpdate", "DroppableUpdates", "ExecutionQueue", "Generation"]

_BATCH: Final = 500
"""Most updates of a batch."""
_BATCH_BYTES: Final = 1 << 20
"""Bytes at which a batch is full."""


class Generation:
    """Drafts that were put between two calls of `flush`."""

    __slots__ = ("queues", "waiters")

    def __init__(self) -> None:
        self.queues: int = 0
        """Queues with drafts of this generation that are neither in the log nor lost."""
        self.waiters: list[Future[None]] = []
        """Futures of `flush`, for this generation and those before it."""


class DroppableUpdate:
    """An ``at-most-once`` draft in a queue; its draft is None after it was dropped."""

    __slots__ = ("draft", "queue")

    def __init__(self, queue: ExecutionQueue, draft: PendingUpdate) -> None:
        self.queue: ExecutionQueue = queue
        self.draft: PendingUpdate | None = draft


DroppableUpdates = OrderedDict[DroppableUpdate, None]
"""The ``at-most-once`` drafts of all queues, oldest first."""


class ExecutionQueue:
    """Drafts of one execution, in order. It exists while the log does not have all drafts of the execution.

    A `Generation` between drafts is the one of the drafts before it. Guarded by the buffer's lock.
    """

    __slots__ = ("execution", "generation", "items")

    def __init__(self, execution: Execution, generation: Generation) -> None:
        self.execution: Execution = execution
        self.generation = generation
        """Generation of the newest draft."""
        self.items: deque[PendingUpdate | DroppableUpdate | Generation] = deque()
        generation.queues += 1

    def enter(self, generation: Generation) -> None:
        """Begin with the drafts of a new generation."""
        self.items.append(self.generation)
        self.generation: Generation = generation
        generation.queues += 1

    def take(self, droppable: DroppableUpdates) -> Attempt:
        """Remove and return the next batch. It has no updates if all were dropped."""
        updates: list[PendingUpdate] = []
        passed: list[Generation] = []
        items, size = self.items, 0
        while items:
            item = items[0]
            if isinstance(item, Generation):
                passed.append(item)
            elif isinstance(item, DroppableUpdate) and item.draft is None:
                pass
            elif len(updates) == _BATCH or size >= _BATCH_BYTES:
                break
            else:
                if isinstance(item, DroppableUpdate):
                    del droppable[item]
                    item = item.draft
                    assert item is not None  # noqa: S101 (checked above)
                updates.append(item)
                size += len(item.body)
            items.popleft()
        return Attempt(self, updates, size, passed)

    def has_other_runs(self, run_id: str | None) -> bool:
        """Return whether it has drafts of another run. Requires the execution's lock; called by the thread."""
        drafts = (item.draft if isinstance(item, DroppableUpdate) else item for item in self.items)
        return any(isinstance(draft, PendingUpdate) and draft.scope.run_id != run_id for draft in drafts)

    def put_back(self, updates: Sequence[PendingUpdate], passed: Iterable[Generation]) -> None:
        """Put updates that were taken back to the front, and the generations that ended with them."""
        self.items.extendleft(reversed((*updates, *passed)))

    def remove_run(self, run_id: str | None, droppable: DroppableUpdates) -> list[PendingUpdate]:
        """Remove and return the drafts of a run."""
        removed: list[PendingUpdate] = []
        kept: deque[PendingUpdate | DroppableUpdate | Generation] = deque()
        for item in self.items:
            draft = item.draft if isinstance(item, DroppableUpdate) else item
            if draft is None or isinstance(draft, Generation) or draft.scope.run_id != run_id:
                kept.append(item)
                continue
            removed.append(draft)
            if isinstance(item, DroppableUpdate):
                del droppable[item]
        self.items = kept
        return removed

    def remove_dropped(self) -> None:
        """Remove the places of dropped drafts."""
        self.items = deque(item for item in self.items if not isinstance(item, DroppableUpdate) or item.draft)


class Attempt:
    """A batch on its way to the log, with the state of its retries. Later drafts of its execution wait for it."""

    __slots__ = ("batch", "delay", "passed", "queue", "size", "unexpected")

    def __init__(
        self, queue: ExecutionQueue, updates: Sequence[PendingUpdate], size: int, passed: list[Generation]
    ) -> None:
        execution = queue.execution
        if updates:
            execution.number += 1  # only this thread appends to a blocking log
        self.queue: ExecutionQueue = queue
        self.batch: Batch = Batch(
            execution_id=execution.execution_id,
            updates=updates,
            producer=execution.producer,
            number=execution.number,
            owner=execution.owner,
        )
        self.size = size
        """Bytes of the updates, as the buffer counts them."""
        self.passed: list[Generation] = passed
        """Generations of which the queue has no draft after this batch."""
        self.delay: float = 0.0
        """Seconds before the last retry."""
        self.unexpected: int = 0
        """Failures with another error than LogUnavailableError."""

    @property
    def run_id(self) -> str | None:
        """Run of the first update."""
        return self.batch.updates[0].scope.run_id

    def set_updates(self, updates: Sequence[PendingUpdate]) -> tuple[int, int]:
        """Replace the updates by some of them; return the changes of their number and of their bytes."""
        number, size = len(self.batch.updates), self.size
        self.batch = self.batch._replace(updates=updates)
        self.size: int = sum(len(update.body) for update in updates)
        return len(updates) - number, self.size - size

    def renumber(self) -> None:
        """Give the batch, which the log refused, the next number: its updates are others now."""
        execution = self.queue.execution
        execution.number += 1
        self.batch = self.batch._replace(number=execution.number)
