"""Write published updates to the log of the program (`settings.log_events`)."""

from __future__ import annotations

import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

import orjson

from lg_streaming.codec import add_position, decode_data
from lg_streaming.escaping import escape_line
from lg_streaming.fork import new_lock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lg_streaming.log.base import PendingUpdate

__all__ = ["UpdateLogger"]

updates_logger: logging.Logger = logging.getLogger("lg_streaming.updates")
_logger = logging.getLogger(__name__)

_MAX_DATA: Final = 1_000
"""Characters of the data in a line."""


class UpdateLogger:
    """A thread that writes a record at `INFO` for each update, on the logger `lg_streaming.updates`.

    A publisher never waits for a handler of the log, and a handler may itself publish. The data is redacted already.
    Its first 1,000 characters are in the message, never in a field.

    `logging.handlers.QueueListener` is no substitute: an exception ends its thread, and its `stop` waits without a
    limit for a handler that hangs.

    Args:
        max_waiting: Updates that may wait for slow handlers. Further ones are dropped, and a warning counts them.
    """

    def __init__(self, max_waiting: int = 10_000) -> None:
        self._max_waiting = max_waiting
        self._queue: SimpleQueue[tuple[str, PendingUpdate] | None] = SimpleQueue()
        self._lock = new_lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._dropped = 0
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Start without a thread: the parent logs the queued updates."""
        self._queue, self._thread, self._dropped = SimpleQueue(), None, 0

    def put(self, execution_id: str, drafts: Sequence[PendingUpdate]) -> None:
        """Queue published updates. Updates that a handler publishes from this thread are not logged."""
        if not updates_logger.isEnabledFor(logging.INFO) or threading.current_thread() is self._thread:
            return
        if self._queue.qsize() >= self._max_waiting:
            with self._lock:
                self._dropped += len(drafts)
            return
        if self._thread is None:
            self._start()
        for draft in drafts:
            self._queue.put((execution_id, draft))

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._run, name="lg-streaming-update-logger", daemon=True)
                self._thread.start()

    def close(self, timeout: float) -> None:
        """Log the queued updates, for up to `timeout` seconds. Blocks. Harmless when repeated."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            execution_id, draft = item
            try:
                self._log(execution_id, draft)
            except Exception:
                _logger.exception("an update of execution %r could not be logged", execution_id)
            if self._queue.empty():
                self._log_dropped()
        self._log_dropped()

    def _log_dropped(self) -> None:
        with self._lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            updates_logger.warning("%d updates were not logged: handlers of the log are too slow", dropped)

    def _log(self, execution_id: str, draft: PendingUpdate) -> None:
        data = orjson.dumps(decode_data(add_position(draft.body, 0, ""))).decode()
        if len(data) > _MAX_DATA:
            data = f"{data[:_MAX_DATA]}…"
        updates_logger.info(
            "update execution_id=%r type=%r data=%s",
            execution_id,
            draft.type,
            escape_line(data),  # JSON leaves C1 codes as they are
            extra={"event": "update", "execution_id": execution_id, "update_type": draft.type},
        )
