"""Appends to a log that may be slow or away, from a thread of its own.

Publishers only put drafts into a bounded buffer. The thread takes what is there, makes batches, and appends
each until the log has taken it; a batch is retried unchanged, so a log that did take it recognises it. When
the buffer is full, drafts are given up and counted, and the next one that is taken is preceded by an
``updates_lost`` update, so that readers are told.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import LogUnavailableError
from lg_streaming.events import kind_of
from lg_streaming.log.base import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.hub.execution import Execution
    from lg_streaming.log.base import Draft, EventLog

__all__ = ["Writer"]

logger = logging.getLogger(__name__)

_BATCH: Final = 500
_FIRST_DELAY: Final = 0.05
_LAST_DELAY: Final = 2.0
_MAX_STRANGE_FAILURES: Final = 10
"""How often a batch is tried that fails with something other than LogUnavailableError."""


class Writer:
    """The buffer before a blocking log, and the thread that empties it.

    Args:
        log: Where batches go.
        max_updates: Drafts that may wait.
        max_bytes: Bytes that may wait.
        on_lost: Told how many drafts of an execution were given up after they had been taken.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        max_updates: int,
        max_bytes: int,
        on_lost: Callable[[Execution, int], None],
    ) -> None:
        self._log = log
        self._max_updates = max_updates
        self._max_bytes = max_bytes
        self._on_lost = on_lost
        self._queue: deque[tuple[Execution, Draft] | Future[None]] = deque()
        self._condition = threading.Condition()
        self._updates = 0
        self._bytes = 0
        self._closing = False
        self._give_up = threading.Event()
        self._thread: threading.Thread | None = None
        self.failures = 0
        """Appends that failed, each try counted."""

    @property
    def waiting(self) -> int:
        """Drafts that are not in the log yet."""
        return self._updates

    def put(self, execution: Execution, drafts: Sequence[Draft]) -> bool:
        """Takes all of ``drafts``, or none when the buffer is full; what ends with a ``status`` is always taken."""
        size = sum(len(draft.body) for draft in drafts)
        with self._condition:
            if self._closing:
                return False
            full = self._updates + len(drafts) > self._max_updates or self._bytes + size > self._max_bytes
            if full and kind_of(drafts[-1].type) != "status":
                return False
            self._queue.extend((execution, draft) for draft in drafts)
            self._updates += len(drafts)
            self._bytes += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lg-streaming-writer", daemon=True)
                self._thread.start()
            self._condition.notify()
            return True

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
                execution, drafts = first[0], self._take_batch(first)
            self._append(execution, drafts)

    def _take_batch(self, first: tuple[Execution, Draft]) -> list[Draft]:
        """The drafts of one execution at the front of the queue. Under the condition."""
        execution, draft = first
        drafts = [draft]
        while self._queue and len(drafts) < _BATCH:
            following = self._queue[0]
            if isinstance(following, Future) or following[0] is not execution:
                break
            drafts.append(following[1])
            self._queue.popleft()
        return drafts

    def _append(self, execution: Execution, drafts: list[Draft]) -> None:
        with execution.lock:
            execution.number += 1
            batch = Batch(
                execution_id=execution.execution_id,
                drafts=drafts,
                producer=execution.producer,
                number=execution.number,
                owner=execution.owner,
            )
        if not self._append_until_taken(batch):
            self._on_lost(execution, len(drafts))
        with self._condition:
            self._updates -= len(drafts)
            self._bytes -= sum(len(draft.body) for draft in drafts)

    def _append_until_taken(self, batch: Batch) -> bool:
        delay, strange = _FIRST_DELAY, 0
        while True:
            try:
                self._log.append(batch)
            except LogUnavailableError as error:
                if self.failures == 0:
                    logger.warning("the log cannot be reached, updates wait in memory: %s", error)
            except Exception:
                strange += 1
                if strange >= _MAX_STRANGE_FAILURES:
                    logger.exception("gave up %d updates of execution %r", len(batch.drafts), batch.execution_id)
                    return False
            else:
                return True
            self.failures += 1
            if self._give_up.wait(delay):
                return False
            delay = min(delay * 2, _LAST_DELAY)
