"""Buffer updates for a log that may block, and append them from a thread.

Publishers only put drafts (`PendingUpdate`) into a bounded buffer, which has a queue for each execution. The thread
appends in rounds: it takes a batch from each queue, and appends all batches with one request (group commit). The first
update after a quiet time is appended at once. Later rounds begin at least 2 ms apart, so that bursts share batches.

A batch that fails is retried unchanged, so the log recognises a batch that it has already. Later drafts of its
execution wait for it, other executions do not.

A full buffer drops drafts and counts them: first ``at-most-once`` ones, oldest first, then the ones that arrive. After
such a loss, an ``updates_lost`` update precedes the next draft, which notifies readers.
An ``at-most-once`` draft is tried once.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import LogUnavailableError, RunRefusedError
from lg_streaming.events import FINAL_TYPES, kind_of
from lg_streaming.fork import new_event, new_lock, restart_after_fork
from lg_streaming.hub.execution_queue import Attempt, DroppableUpdate, DroppableUpdates, ExecutionQueue, Generation
from lg_streaming.hub.exit_flush import flush_at_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.statistics import Counters
    from lg_streaming.log.base import Batch, EventLog, PendingUpdate

__all__ = ["BufferedLogWriter"]

logger: logging.Logger = logging.getLogger(__name__)

_ROUND: Final = 5_000
"""Updates after which a round takes no further batch."""
_ROUND_BYTES: Final = 4 << 20
"""Bytes after which a round takes no further batch."""
_SPACING: Final = 0.002
"""Seconds from the beginning of a round to the next: below what a reader notices, and a round costs a fraction of it.

While the log is slower than this, its own time is the spacing."""
_FIRST_DELAY: Final = 0.05
_LAST_DELAY: Final = 2.0
_MAX_UNEXPECTED_FAILURES: Final = 10
"""Attempts of a batch that fails with another error than LogUnavailableError."""


class BufferedLogWriter:
    """The bounded buffer of a blocking log, and the thread that empties it.

    Args:
        log: The log.
        counters: Counts of repeated updates and of appended batches.
        max_updates: The most drafts in the buffer.
        max_bytes: The most bytes in the buffer.
        on_lost: Called with the execution and the drafts that were lost after the buffer had accepted them. It is
            called without a lock.
        on_dropped: Called with the execution, the type and the number of ``at-most-once`` drafts that were dropped. It
            may be called under locks.
        on_refused: Called with the execution, drafts of one run that the log refused, and its error, without a lock.
            It closes the run, so that no more drafts of it are put.
    """

    def __init__(
        self,
        log: EventLog,
        counters: Counters,
        *,
        max_updates: int,
        max_bytes: int,
        on_lost: Callable[[Execution, Sequence[PendingUpdate]], None],
        on_dropped: Callable[[Execution, str, int], None],
        on_refused: Callable[[Execution, Sequence[PendingUpdate], RunRefusedError], None],
    ) -> None:
        self._log = log
        self._counters = counters
        self._max_updates = max_updates
        self._max_bytes = max_bytes
        self._on_lost = on_lost
        self._on_dropped = on_dropped
        self._on_refused = on_refused
        self._lock = new_lock()
        self._closing = False
        self._abort = new_event()
        self.failures: int = 0
        """Failed attempts to append a batch."""
        self._start_empty()
        restart_after_fork(self)

    def _start_empty(self) -> None:
        self._generation = Generation()
        self._generations: deque[Generation] = deque((self._generation,))
        """The generations with drafts that the log does not have, and last the present one."""
        self._ready: deque[ExecutionQueue] = deque()
        """The queues of which no batch is on its way. The others are those of `_retries` and of the present round."""
        self._retries: list[tuple[float, int, Attempt]] = []
        """Heap of failed batches by the time of their retry. Used by the thread only."""
        self._retry_order = itertools.count()
        self._round: Sequence[Attempt] = ()
        """The batches that are being appended."""
        self._droppable = DroppableUpdates()
        self._dropped_places = 0
        """Drafts that were dropped since dropped ones were last removed from the queues."""
        self._updates = 0
        self._bytes = 0
        self._next_round = 0.0
        """Time before which no round begins, unless a flush or the end of a run waits for it."""
        self._outage_until = 0.0
        """Time before which no round begins, because nothing reached the log."""
        self._urgent = False
        self._wake = new_event()
        self._sleeping = True
        """True while the next draft wakes the thread, or starts it."""
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

    # --- putting ------------------------------------------------------------------------------------------

    def put(self, execution: Execution, drafts: Sequence[PendingUpdate]) -> int:
        """Put ``drafts`` into the buffer, or refuse them all if it is full. Those may be dropped that are at-most-once.

        Requires the execution's lock. Drafts that begin or end with a ``status`` are always accepted.

        Returns:
            The number of refused drafts, without ``at-most-once`` ones, which `on_dropped` counts.
        """
        with self._lock:
            size = 0
            for draft in drafts:
                size += len(draft.body)
            if self._closing or self._updates + len(drafts) > self._max_updates or self._bytes + size > self._max_bytes:
                drafts, refused = self._make_room(execution, drafts)
                if not drafts:
                    return refused
                size = sum(len(draft.body) for draft in drafts)
            queue: ExecutionQueue | None = execution.queue
            if queue is None:
                queue = execution.queue = ExecutionQueue(execution, self._generation)
                self._ready.append(queue)
            elif queue.generation is not self._generation:
                queue.enter(self._generation)
            for draft in drafts:
                if draft.delivery == "at-most-once":
                    droppable = DroppableUpdate(queue, draft)
                    queue.items.append(droppable)
                    self._droppable[droppable] = None
                else:
                    queue.items.append(draft)
            self._updates += len(drafts)
            self._bytes += size
            if drafts[-1].type in FINAL_TYPES:
                self._urgent = True
                self._wake_thread()
            elif self._sleeping:
                self._wake_thread()
            return 0

    def _wake_thread(self) -> None:
        self._sleeping = False
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="lg-streaming-writer", daemon=True)
            self._thread.start()
            flush_at_exit(self)
        self._wake.set()

    def _make_room(self, execution: Execution, drafts: Sequence[PendingUpdate]) -> tuple[Sequence[PendingUpdate], int]:
        """Drop ``at-most-once`` drafts; return the drafts to accept, and the number of those that are refused."""
        if not self._closing:
            self._evict_droppable(drafts)
            if self._fits(drafts):
                return drafts, 0
        kept = self._without_droppable(execution, drafts)
        if kept and not self._closing:
            accepted = self._fits(kept) or "status" in {kind_of(kept[0].type), kind_of(kept[-1].type)}
            return (kept, 0) if accepted else ((), len(kept))
        return (), len(kept)

    def _fits(self, drafts: Sequence[PendingUpdate]) -> bool:
        size = sum(len(draft.body) for draft in drafts)
        return self._updates + len(drafts) <= self._max_updates and self._bytes + size <= self._max_bytes

    def _evict_droppable(self, drafts: Sequence[PendingUpdate]) -> None:
        """Drop ``at-most-once`` drafts of the buffer, until ``drafts`` fit."""
        while self._droppable and not self._fits(drafts):
            oldest, _ = self._droppable.popitem(last=False)
            if oldest.draft is not None:
                self._count(-1, -len(oldest.draft.body))
                self._on_dropped(oldest.queue.execution, oldest.draft.type, 1)
                oldest.draft = None
                self._dropped_places += 1
        if self._dropped_places > self._max_updates:
            self._dropped_places = 0
            retried = (attempt for _, _, attempt in self._retries)
            for queue in (*self._ready, *(attempt.queue for attempt in (*self._round, *retried))):
                queue.remove_dropped()

    def _without_droppable(self, execution: Execution, drafts: Sequence[PendingUpdate]) -> Sequence[PendingUpdate]:
        kept = [draft for draft in drafts if draft.delivery != "at-most-once"]
        if len(kept) < len(drafts):
            dropped = next(draft for draft in drafts if draft.delivery == "at-most-once")
            self._on_dropped(execution, dropped.type, len(drafts) - len(kept))
        return kept

    def _count(self, updates: int, size: int) -> None:
        self._updates += updates
        self._bytes += size

    def flush(self) -> Future[None]:
        """Return a future that is done when everything that was put before is in the log, or lost."""
        done: Future[None] = Future()
        with self._lock:
            if self._generation.queues:
                self._generation = Generation()
                self._generations.append(self._generation)
            if len(self._generations) == 1 or self._thread is None or not self._thread.is_alive():
                done.set_result(None)
            else:
                self._generations[-2].waiters.append(done)
                self._urgent = True
                self._wake_thread()
        return done

    def close(self, timeout: float) -> None:
        """Empty the buffer for up to ``timeout`` seconds, then drop the rest. Blocks."""
        with self._lock:
            self._closing = True
            thread = self._thread
            self._wake.set()
        if thread is not None:
            thread.join(timeout)
            self._abort.set()
            self._wake.set()
            thread.join()

    # --- the thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        while self._wait_for_round():
            self._append_round(self._take_round())
        while self._retries:
            self._lose(heapq.heappop(self._retries)[2])
        while self._ready:
            self._lose(self._take_next())

    def _wait_for_round(self) -> bool:
        """Wait until a round may begin; return False if no other begins, because the buffer closes."""
        while not self._abort.is_set():
            with self._lock:
                now = time.monotonic()
                due = self._find_due(now)
                if due is None and self._closing:
                    return False
                if due is not None and due <= now:
                    return True
                self._sleeping = not self._ready
                self._wake.clear()
                if self._abort.is_set():
                    break
            self._wake.wait(None if due is None else due - now)
        return False

    def _find_due(self, now: float) -> float | None:
        """Return the time of the next round; None if nothing is to be appended."""
        due = self._retries[0][0] if self._retries else None
        if self._ready:
            at = now if self._urgent or self._closing else self._next_round
            due = at if due is None else min(due, at)
        return None if due is None else max(due, self._outage_until)

    def _take_round(self) -> list[Attempt]:
        """Take batches that are due: retries, and one of each ready queue, up to the size of a round."""
        attempts: list[Attempt] = []
        updates = size = 0
        now = time.monotonic()
        self._next_round = now + _SPACING
        ready, more = len(self._ready), False
        while updates < _ROUND and size < _ROUND_BYTES:
            if self._retries and self._retries[0][0] <= now:
                with self._lock:
                    attempt = heapq.heappop(self._retries)[2]
            elif ready:
                ready -= 1
                attempt = self._take_next()
            else:
                break
            updates += len(attempt.batch.updates)
            size += attempt.size
            more = more or bool(attempt.queue.items)
            attempts.append(attempt)
        with self._lock:
            self._round = attempts
            self._urgent = self._urgent and (more or bool(self._ready))
        return attempts

    def _take_next(self) -> Attempt:
        with self._lock:
            return self._ready.popleft().take(self._droppable)

    def _append_round(self, attempts: list[Attempt]) -> None:
        filled = [attempt for attempt in attempts if attempt.batch.updates]
        for attempt in attempts:
            if not attempt.batch.updates:
                self._finish(attempt)
        if not filled:
            return
        began = time.perf_counter()
        results = self._append_all([attempt.batch for attempt in filled])
        self._counters.appending.observe(time.perf_counter() - began)
        failed = [result for result in results if isinstance(result, Exception)]
        unavailable = [error for error in failed if isinstance(error, LogUnavailableError)]
        if unavailable and not self.failing:
            logger.warning("the log cannot be reached, updates wait in memory: %s", unavailable[0])
        self._counters.batches.add(len(results) - len(failed))
        now = time.monotonic()
        if len(unavailable) == len(results):
            self._outage_until = now + _FIRST_DELAY
        elif self._outage_until:
            self._end_outage()
            logger.info("the log can be reached again, waiting updates are sent")
        with self._lock:
            self._round = ()
        for attempt, result in zip(filled, results, strict=True):
            self._settle(attempt, result, now)
        self.failing = bool(self._retries or self._outage_until)

    def _append_all(self, batches: list[Batch]) -> Sequence[int | Exception]:
        try:
            results = self._log.append_all(batches)
        except Exception as error:  # noqa: BLE001 (handled like one that is returned)
            results = [error] * len(batches)
        first = results[0]
        expected = not isinstance(first, Exception) or isinstance(first, (LogUnavailableError, RunRefusedError))
        if expected or len(batches) == 1 or any(result is not first for result in results):
            return results
        return [self._append_one(batch) for batch in batches]  # so that none holds up the others

    def _append_one(self, batch: Batch) -> int | Exception:
        try:
            return self._log.append(batch)
        except Exception as error:  # noqa: BLE001 (handled like the ones of `append_all`)
            return error

    # --- results of a round -------------------------------------------------------------------------------

    def _settle(self, attempt: Attempt, result: int | Exception, now: float) -> None:
        match result:
            case RunRefusedError():
                self._refuse(attempt, result)
            case Exception():
                self._retry(attempt, result, now)
            case repeated:
                if repeated:
                    self._counters.repeated.add(repeated)
                self._finish(attempt)

    def _retry(self, attempt: Attempt, error: Exception, now: float) -> None:
        """Keep a batch that failed for its next attempt, without its ``at-most-once`` updates."""
        self.failures += 1
        execution = attempt.queue.execution
        kept = self._without_droppable(execution, attempt.batch.updates)
        if len(kept) < len(attempt.batch.updates):
            with self._lock:
                self._count(*attempt.set_updates(kept))
        if not kept:
            self._finish(attempt)
            return
        if not isinstance(error, LogUnavailableError):
            attempt.unexpected += 1
            if attempt.unexpected >= _MAX_UNEXPECTED_FAILURES:
                logger.error("%d updates of execution %r are lost", len(kept), execution.execution_id, exc_info=error)
                self._lose(attempt)
                return
        attempt.delay = min(attempt.delay * 2 or _FIRST_DELAY, _LAST_DELAY)
        with self._lock:
            heapq.heappush(self._retries, (now + attempt.delay, next(self._retry_order), attempt))

    def _end_outage(self) -> None:
        """Retry every batch in the next round, because the log can be reached again."""
        self._outage_until = 0.0
        with self._lock:
            self._retries = [(0.0, order, attempt) for _, order, attempt in self._retries]
            heapq.heapify(self._retries)

    def _refuse(self, attempt: Attempt, error: RunRefusedError) -> None:
        """Drop a batch of a run that the log refused, and the later drafts of the run.

        Of a batch of several runs the first one is appended by itself, the others follow: one run alone is refused.
        """
        queue, updates, run_id = attempt.queue, attempt.batch.updates, attempt.run_id
        count = sum(1 for _ in itertools.takewhile(lambda update: update.scope.run_id == run_id, updates))
        if count < len(updates):
            with self._lock:
                queue.put_back(updates[count:], attempt.passed)
                attempt.passed = []
                attempt.set_updates(updates[:count])
                attempt.renumber()
            self._settle(attempt, self._append_one(attempt.batch), time.monotonic())
            return
        self._call_on_refused(queue.execution, updates, error)
        with self._lock:
            later = queue.remove_run(run_id, self._droppable)
            self._count(-len(later), -sum(len(update.body) for update in later))
        if later:
            self._call_on_refused(queue.execution, later, error)
        self._finish(attempt)

    def _call_on_refused(self, execution: Execution, updates: Sequence[PendingUpdate], error: RunRefusedError) -> None:
        try:
            self._on_refused(execution, updates, error)
        except Exception:
            logger.exception("the refused run of execution %r could not be closed", execution.execution_id)

    def _lose(self, attempt: Attempt) -> None:
        kept = self._without_droppable(attempt.queue.execution, attempt.batch.updates)
        if kept:
            self._on_lost(attempt.queue.execution, kept)
        self._finish(attempt)

    def _finish(self, attempt: Attempt) -> None:
        """Count a batch as in the log or lost, and make its queue ready again if it has more drafts."""
        queue, generations = attempt.queue, self._generations
        done: list[Future[None]] = []
        with self._lock:
            self._count(-len(attempt.batch.updates), -attempt.size)
            for generation in attempt.passed:
                generation.queues -= 1
            if queue.items:
                self._ready.append(queue)
            else:
                queue.execution.queue = None
                queue.generation.queues -= 1
            while len(generations) > 1 and not generations[0].queues:
                done += generations.popleft().waiters
        for future in done:
            if future.set_running_or_notify_cancel():  # the caller of `flush` may have cancelled it
                future.set_result(None)
