"""Appends to a log that may be slow or away, from a thread of its own.

Publishers only put drafts into a bounded buffer. The thread takes what is there, makes batches, and appends
each until the log has taken it; a batch is retried unchanged, so a log that did take it recognises it. When
the buffer is full, drafts are given up and counted: first those that are sent ``at-most-once``, the oldest
before the others, then those that come. When one of the latter was given up, the next one that is taken is
preceded by an ``updates_lost`` update, so that readers are told. An ``at-most-once`` draft is appended once or,
when that fails, not at all.
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
    """A draft in the queue; None when it was given up."""

    __slots__ = ("draft", "execution")

    def __init__(self, execution: Execution, draft: PendingUpdate) -> None:
        self.execution = execution
        self.draft: PendingUpdate | None = draft


logger: logging.Logger = logging.getLogger(__name__)

_BATCH: Final = 500
_FIRST_DELAY: Final = 0.05
_LAST_DELAY: Final = 2.0
_MAX_STRANGE_FAILURES: Final = 10
"""How often a batch is tried that fails with something other than LogUnavailableError."""


class BufferedLogWriter:
    """The buffer before a blocking log, and the thread that empties it.

    Args:
        log: Where batches go.
        max_updates: Drafts that may wait.
        max_bytes: Bytes that may wait.
        on_lost: Called with the execution, the type and the number of drafts that were dropped after they had been
            taken. It is called without a lock.
        on_dropped: The same for ``at-most-once`` drafts. It may be called under locks.
        on_repeated: Told how many drafts the log left out because of their key.
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
        self._give_up = new_event()
        self.failures: int = 0
        """Appends that failed, each try counted."""
        self._start_empty()
        restart_after_fork(self)

    def _start_empty(self) -> None:
        self._queue: deque[_QueuedUpdate | Future[None]] = deque()
        self._droppable: deque[_QueuedUpdate] = deque()
        """Those in the queue that are sent at most once."""
        self._updates = 0
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self.failing: bool = False
        """Whether the last append failed; it is tried again."""

    def after_fork(self) -> None:
        """Empty the buffer: the parent appends what waits in it."""
        self._start_empty()

    @property
    def waiting(self) -> int:
        """Drafts that are not in the log yet."""
        return self._updates

    def put(self, execution: Execution, drafts: Sequence[PendingUpdate]) -> int:
        """Takes all of ``drafts`` that may not be dropped, or none of them when the buffer is full.

        What ends with a ``status`` is always taken. Returns how many drafts were refused, without those that are
        sent ``at-most-once``: these were reported as dropped.
        """
        with self._condition:
            if not self._closing:
                self._make_room(drafts)
                if not self._fit(drafts):
                    drafts = self._without_droppable(execution, drafts)
            if self._closing or not (self._fit(drafts) or kind_of(drafts[-1].type) == "status"):
                return len(self._without_droppable(execution, drafts))
            for draft in drafts:
                waiting = _QueuedUpdate(execution, draft)
                self._queue.append(waiting)
                if draft.delivery == "at-most-once":
                    self._droppable.append(waiting)
                self._count(draft, 1)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lg-streaming-writer", daemon=True)
                self._thread.start()
            self._condition.notify()
            return 0

    def _fit(self, drafts: Sequence[PendingUpdate]) -> bool:
        size = sum(len(draft.body) for draft in drafts)
        return self._updates + len(drafts) <= self._max_updates and self._bytes + size <= self._max_bytes

    def _make_room(self, drafts: Sequence[PendingUpdate]) -> None:
        """Gives up what waits and may be dropped, until ``drafts`` fit."""
        while self._droppable and not self._fit(drafts):
            waiting = self._droppable.popleft()
            if waiting.draft is not None:
                self._count(waiting.draft, -1)
                self._on_dropped(waiting.execution, waiting.draft.type, 1)
                waiting.draft = None

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
        """Done when everything that was put before is in the log (or given up)."""
        done: Future[None] = Future()
        with self._condition:
            if self._thread is None or not self._thread.is_alive():
                done.set_result(None)
            else:
                self._queue.append(done)
                self._condition.notify()
        return done

    def close(self, timeout: float) -> None:
        """Empties the buffer for up to ``timeout`` seconds, then gives up what is left. Blocks."""
        with self._condition:
            self._closing = True
            thread = self._thread
            self._condition.notify()
        if thread is not None:
            thread.join(timeout)
            self._give_up.set()
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
                    if first.set_running_or_notify_cancel():  # whoever waited may have given up
                        first.set_result(None)
                    continue
                drafts = self._take_batch(first)
            if drafts:
                self._append(first.execution, drafts)

    def _take_batch(self, first: _QueuedUpdate) -> list[PendingUpdate]:
        """The drafts of one execution at the front of the queue. Under the condition."""
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
        """Returns how many drafts were given up, without those that may be dropped."""
        delay, strange = _FIRST_DELAY, 0
        while batch.updates:
            try:
                if repeated := self._log.append(batch):
                    self._on_repeated(repeated)
                self.failing: bool = False
            except LogUnavailableError as error:
                if self.failures == 0:
                    logger.warning("the log cannot be reached, updates wait in memory: %s", error)
            except Exception:
                strange += 1
                if strange >= _MAX_STRANGE_FAILURES:
                    logger.exception("gave up %d updates of execution %r", len(batch.updates), batch.execution_id)
                    return len(batch.updates)
            else:
                break
            self.failures += 1
            self.failing = True
            kept = self._without_droppable(execution, batch.updates)
            if len(kept) < len(batch.updates):
                batch = batch._replace(updates=kept)
            if self._give_up.wait(delay):
                return len(batch.updates)
            delay = min(delay * 2, _LAST_DELAY)
        return 0
