"""Buffer updates for a log that may block, and append them from a thread.

Publishers only put drafts (`PendingUpdate`) into a bounded buffer. The thread makes batches, and retries each until it
is in the log. A batch is retried unchanged, so the log recognises a batch that it has already.

A full buffer drops drafts and counts them: first ``at-most-once`` ones, oldest first, then the ones that arrive. After
such a loss, an ``updates_lost`` update precedes the next draft, which notifies readers.
An ``at-most-once`` draft is tried once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import LogUnavailableError
from lg_streaming.events import kind_of
from lg_streaming.fork import new_condition, new_event, restart_after_fork
from lg_streaming.log.base import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.hub.execution import Execution
    from lg_streaming.log.base import EventLog, PendingUpdate

__all__ = ["BufferedLogWriter"]


class _QueuedUpdate:
    """A draft in the queue; None after it was dropped."""

    __slots__ = ("draft", "execution")

    def __init__(self, execution: Execution, draft: PendingUpdate) -> None:
        self.execution = execution
        self.draft: PendingUpdate | None = draft


logger: logging.Logger = logging.getLogger(__name__)

_BATCH: Final = 500
_FIRST_DELAY: Final = 0.05
_LAST_DELAY: Final = 2.0
_MAX_UNEXPECTED_FAILURES: Final = 10
"""Attempts of a batch that fails with another error than LogUnavailableError."""


class BufferedLogWriter:
    """The bounded buffer of a blocking log, and the thread that empties it.

    Args:
        log: The log.
        max_updates: The most drafts in the buffer.
        max_bytes: The most bytes in the buffer.
        on_lost: Called with the execution, the type and the number of drafts that were lost after the buffer had
            accepted them. It is called without a lock.
        on_dropped: The same for ``at-most-once`` drafts. It may be called under locks.
        on_repeated: Called with the number of drafts that the log skipped because it has their key.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        max_updates: int,
        max_bytes: int,
        on_lost: Callable[[Execution, str, int], None],
        on_dropped: Callable[[Execution, str, int], None],
        on_repeated: Callable[[int], None],
    ) -> None:
        self._log = log
        self._max_updates = max_updates
        self._max_bytes = max_bytes
        self._on_lost = on_lost
        self._on_dropped = on_dropped
        self._on_repeated = on_repeated
        self._condition = new_condition()
        self._closing = False
        self._abort = new_event()
        self.failures: int = 0
        """Failed attempts to append."""
        self._start_empty()
        restart_after_fork(self)

    def _start_empty(self) -> None:
        self._queue: deque[_QueuedUpdate | Future[None]] = deque()
        self._droppable: deque[_QueuedUpdate] = deque()
        """The ``at-most-once`` drafts of the queue."""
        self._updates = 0
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self.failing: bool = False
        """True after a failed append, which is retried."""

    def after_fork(self) -> None:
        """Empty the buffer: the parent process appends its content."""
        self._start_empty()

    @property
    def waiting(self) -> int:
        """The number of drafts that the log does not have yet."""
        return self._updates

    def put(self, execution: Execution, drafts: Sequence[PendingUpdate]) -> int:
        """Put ``drafts`` into the buffer, or refuse them all if it is full. Those may be dropped that are at-most-once.

        Drafts that end with a ``status`` are always accepted.

        Returns:
            The number of refused drafts, without ``at-most-once`` ones, which `on_dropped` counts.
        """
        with self._condition:
            if not self._closing:
                self._evict_droppable(drafts)
                if not self._fits(drafts):
                    drafts = self._without_droppable(execution, drafts)
            if self._closing or not (self._fits(drafts) or kind_of(drafts[-1].type) == "status"):
                return len(self._without_droppable(execution, drafts))
            for draft in drafts:
                queued = _QueuedUpdate(execution, draft)
                self._queue.append(queued)
                if draft.delivery == "at-most-once":
                    self._droppable.append(queued)
                self._count(draft, 1)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lg-streaming-writer", daemon=True)
                self._thread.start()
            self._condition.notify()
            return 0

    def _fits(self, drafts: Sequence[PendingUpdate]) -> bool:
        size = sum(len(draft.body) for draft in drafts)
        return self._updates + len(drafts) <= self._max_updates and self._bytes + size <= self._max_bytes

    def _evict_droppable(self, drafts: Sequence[PendingUpdate]) -> None:
        """Drop ``at-most-once`` drafts of the buffer, until ``drafts`` fit."""
        while self._droppable and not self._fits(drafts):
            queued = self._droppable.popleft()
            if queued.draft is not None:
                self._count(queued.draft, -1)
                self._on_dropped(queued.execution, queued.draft.type, 1)
                queued.draft = None

    def _without_droppable(self, execution: Execution, drafts: Sequence[PendingUpdate]) -> Sequence[PendingUpdate]:
        kept = [draft for draft in drafts if draft.delivery != "at-most-once"]
        if len(kept) < len(drafts):
            dropped = next(draft for draft in drafts if draft.delivery == "at-most-once")
            self._on_dropped(execution, dropped.type, len(drafts) - len(kept))
        return kept

    def _count(self, draft: PendingUpdate, sign: int) -> None:
        self._updates += sign
        self._bytes += sign * len(draft.body)

    def flush(self) -> Future[None]:
        """Return a future that is done when everything that was put before is in the log, or lost."""
        done: Future[None] = Future()
        with self._condition:
            if self._thread is None or not self._thread.is_alive():
                done.set_result(None)
            else:
                self._queue.append(done)
                self._condition.notify()
        return done

    def close(self, timeout: float) -> None:
        """Empty the buffer for up to ``timeout`` seconds, then drop the rest. Blocks."""
        with self._condition:
            self._closing = True
            thread = self._thread
            self._condition.notify()
        if thread is not None:
            thread.join(timeout)
            self._abort.set()
            thread.join()

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._queue and not self._closing:
                    self._condition.wait()
                if not self._queue:
                    return
                first = self._queue.popleft()
                if isinstance(first, Future):
                    if first.set_running_or_notify_cancel():  # the caller of `flush` may have cancelled it
                        first.set_result(None)
                    continue
                drafts = self._take_batch(first)
            if drafts:
                self._append(first.execution, drafts)

    def _take_batch(self, first: _QueuedUpdate) -> list[PendingUpdate]:
        """Remove and return the drafts of one execution at the front of the queue. Requires the condition."""
        drafts: list[PendingUpdate] = []
        following: _QueuedUpdate | Future[None] = first
        while not isinstance(following, Future) and following.execution is first.execution:
            if following is not first:
                self._queue.popleft()
            if following.draft is not None:
                drafts.append(following.draft)
                if following.draft.delivery == "at-most-once":
                    self._droppable.popleft()  # both queues have one order, so it is the first there
            if not self._queue or len(drafts) == _BATCH:
                break
            following = self._queue[0]
        return drafts

    def _append(self, execution: Execution, drafts: list[PendingUpdate]) -> None:
        with execution.lock:
            execution.number += 1
            batch = Batch(
                execution_id=execution.execution_id,
                updates=drafts,
                producer=execution.producer,
                number=execution.number,
                owner=execution.owner,
            )
        if lost := self._append_until_taken(execution, batch):
            self._on_lost(execution, drafts[0].type, lost)
        with self._condition:
            for draft in drafts:
                self._count(draft, -1)

    def _append_until_taken(self, execution: Execution, batch: Batch) -> int:
        """Append a batch, with retries; return the number of lost drafts, without ``at-most-once`` ones."""
        delay, unexpected = _FIRST_DELAY, 0
        while batch.updates:
            try:
                if repeated := self._log.append(batch):
                    self._on_repeated(repeated)
                self.failing: bool = False
            except LogUnavailableError as error:
                if self.failures == 0:
                    logger.warning("the log cannot be reached, updates wait in memory: %s", error)
            except Exception:
                unexpected += 1
                if unexpected >= _MAX_UNEXPECTED_FAILURES:
                    logger.exception("%d updates of execution %r are lost", len(batch.updates), batch.execution_id)
                    return len(batch.updates)
            else:
                break
            self.failures += 1
            self.failing = True
            kept = self._without_droppable(execution, batch.updates)
            if len(kept) < len(batch.updates):
                batch = batch._replace(updates=kept)
            if self._abort.wait(delay):
                return len(batch.updates)
            delay = min(delay * 2, _LAST_DELAY)
        return 0
