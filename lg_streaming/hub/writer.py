"""Append updates to the log: directly, or through a buffer if the log may block."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.codec import Encoded, add_position, decode_data
from lg_streaming.events import KINDS
from lg_streaming.hub.buffered_writer import BufferedLogWriter
from lg_streaming.hub.encoder import UpdateEncoder
from lg_streaming.hub.update_logger import UpdateLogger
from lg_streaming.log.base import Batch
from lg_streaming.log.memory import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.codec import Redact
    from lg_streaming.errors import RunRefusedError
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.execution_queue import ExecutionQueue
    from lg_streaming.hub.statistics import Counters
    from lg_streaming.log.base import EventLog, PendingUpdate
    from lg_streaming.settings import StreamingSettings

__all__ = ["UpdateWriter"]

_new: Final = cast("Any", tuple.__new__)
_kind: Final = dict(KINDS).get
_NOTICE: Final = "updates_lost"


class UpdateWriter:
    """Writer that encodes updates and appends them to the log, in the order of the calls.

    Args:
        settings: The limits of updates and of the buffer, and whether updates are logged.
        log: The log.
        counters: Counts of published, dropped and lost updates.
        redact: ``redact(type, data) -> data``, applied to every update before it is encoded.
        clock: Seconds since 1970, for timestamps.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        settings: StreamingSettings,
        log: EventLog,
        counters: Counters,
        *,
        redact: Redact | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self.encoder: UpdateEncoder = UpdateEncoder(settings.limits, redact, clock, counters, monotonic)
        self.counters = counters
        self.monotonic = monotonic
        self._has_our_clock = isinstance(log, MemoryLog) and log.monotonic is monotonic
        self._settings = settings
        self._log = log
        self._published = counters.published
        self.on_refused: Callable[[Execution, str | None, RunRefusedError], None] | None = None
        """Called with the execution and the run of updates that a shared log refused; on any thread, without a lock."""
        self.reopen()

    def reopen(self) -> None:
        """Start with an empty buffer."""
        limits = self._settings.limits
        self.logger: UpdateLogger | None = UpdateLogger() if self._settings.log_events else None
        """The logger of updates, with ``settings.log_events``."""
        self.buffer: BufferedLogWriter | None = None
        """The buffer of a log that may block."""
        if self._log.blocking:
            self.buffer = BufferedLogWriter(
                self._log,
                self.counters,
                max_updates=limits.producer_buffer_updates,
                max_bytes=limits.producer_buffer_bytes,
                on_lost=self._note_lost,
                on_dropped=self._note_dropped,
                on_refused=self._note_refused,
            )

    def append(self, execution: Execution, drafts: list[PendingUpdate]) -> None:
        """Append ``drafts`` as one batch. Requires the execution's lock."""
        if not drafts:
            return
        execution.touched_at = drafts[-1].timestamp
        execution.used_at = self.monotonic()
        execution.updates += len(drafts)
        published = self._published
        for draft in drafts:
            published[_kind(draft.type, "event")] += 1  # inlines `kind_of`
        if self.logger is not None:
            self.logger.put(execution.execution_id, drafts)
        if self.buffer is not None:
            self._put(self.buffer, execution, drafts)
            return
        number = execution.number + 1
        at = execution.used_at if self._has_our_clock else None
        # `Batch(…)` without its Python call
        batch = _new(Batch, (execution.execution_id, drafts, execution.producer, number, execution.owner, at))
        try:
            execution.number = number
            repeated = self._log.append(batch)
        except Exception:
            raise
        except BaseException:  # an interrupt: appending the same number again makes sure that the log has the batch
            execution.number = number
            self._log.append(batch)
            raise
        if repeated:
            self.counters.repeated.add(repeated)

    def _put(self, buffer: BufferedLogWriter, execution: Execution, drafts: list[PendingUpdate]) -> None:
        """Put drafts into the buffer, after a notice of updates that were lost before them."""
        lost = execution.lost
        if lost:
            data = Encoded(orjson.dumps({"count": lost, "reason": "log_unavailable"}))  # under the lock: no `redact`
            notice = self.encoder.encode(execution, _NOTICE, data, execution.run_scope, None, by_hub=True)
            begins = drafts[0].type == "workflow_start"  # remains the first update of its run
            drafts = [*drafts[:begins], *notice, *drafts[begins:]]
        refused = buffer.put(execution, drafts)
        if refused == 0:
            execution.lost = 0
            return
        if lost:
            refused -= 1  # the notice
        execution.lost += refused
        self.counters.drops.note("lost", execution, execution.execution_id, drafts[-1].type, amount=refused)

    def _note_lost(self, execution: Execution, drafts: Sequence[PendingUpdate]) -> None:
        before = [count for draft in drafts if (count := _lost_before(draft)) is not None]
        count = len(drafts) - len(before)
        with execution.lock:
            execution.lost += count + sum(before)
        self.counters.drops.note("lost", execution, execution.execution_id, drafts[-1].type, amount=count)
        self.counters.drops.report()  # on the buffer's thread, without a lock

    def _note_refused(self, execution: Execution, drafts: Sequence[PendingUpdate], error: RunRefusedError) -> None:
        first = drafts[0]
        if first.type == "workflow_start":  # the owner was refused, and only the log has the right one
            with execution.lock:
                queue: ExecutionQueue | None = execution.queue
                if queue is None or not queue.has_other_runs(first.scope.run_id):
                    execution.owner = None
        self.counters.drops.note("refused", execution, execution.execution_id, first.type, amount=len(drafts))
        self.counters.drops.report()
        if self.on_refused is not None:
            self.on_refused(execution, first.scope.run_id, error)

    def _note_dropped(self, execution: Execution, type: str, count: int) -> None:
        self.counters.drops.note("at_most_once", execution, execution.execution_id, type, amount=count)

    async def flush(self) -> None:
        """Wait until all updates published so far are in the log, or lost."""
        if self.buffer is not None:
            await asyncio.wrap_future(self.buffer.flush())

    async def aclose(self, at_most: float) -> None:
        """Empty the buffer and the logger's queue for up to ``at_most`` seconds each, and end the trace."""
        if self.buffer is not None:
            await asyncio.to_thread(self.buffer.close, at_most)
        if self.logger is not None:
            await asyncio.to_thread(self.logger.close, at_most)
        if self.encoder.trace is not None:
            self.encoder.trace.close()


def _lost_before(draft: PendingUpdate) -> int | None:
    """Return the count of an ``updates_lost`` update of the hub; None for other updates."""
    if draft.type != _NOTICE:
        return None
    match decode_data(add_position(draft.body, 0, "")):
        case {"count": int(count), "reason": "log_unavailable"}:
            return count
        case _:
            return None
