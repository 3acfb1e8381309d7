"""From drafts to the log: at once, or through a writer when the log may be slow or away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.codec import Encoded
from lg_streaming.events import KINDS
from lg_streaming.hub.update_logger import UpdateLogger
from lg_streaming.hub.writer import BufferedLogWriter
from lg_streaming.log.base import Batch
from lg_streaming.log.memory import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.hub.drafts import UpdateEncoder
    from lg_streaming.hub.execution import Execution
    from lg_streaming.hub.statistics import Counters
    from lg_streaming.log.base import EventLog, PendingUpdate
    from lg_streaming.settings import StreamingSettings

__all__ = ["LogAppender"]

_new: Final = cast("Any", tuple.__new__)
_kind: Final = dict(KINDS).get


class LogAppender:
    """Gives drafts to the log, in the order in which they come.

    Args:
        log: Where they go.
        settings: How much may wait for a log that is slow or away, and whether updates are logged.
        drafts: Makes the notice of what was lost.
        tally: Counts what is published, left out, dropped or lost.
        monotonic: Seconds that never go back.
    """

    def __init__(
        self,
        log: EventLog,
        settings: StreamingSettings,
        drafts: UpdateEncoder,
        tally: Counters,
        monotonic: Callable[[], float],
    ) -> None:
        self._monotonic = monotonic
        self._has_our_clock = isinstance(log, MemoryLog) and log.monotonic is monotonic
        self._published = tally.published
        self._log = log
        self._drafts = drafts
        self._tally = tally
        self.writer: BufferedLogWriter | None = None
        """Where the log may be slow or away."""
        self.logger: UpdateLogger | None = UpdateLogger() if settings.log_events else None
        """Where updates are logged."""
        limits = settings.limits
        if log.blocking:
            self.writer = BufferedLogWriter(
                log,
                max_updates=limits.producer_buffer_updates,
                max_bytes=limits.producer_buffer_bytes,
                on_lost=self._note_lost,
                on_dropped=self._note_dropped,
                on_repeated=tally.repeated.add,
            )

    def append(self, execution: Execution, drafts: list[PendingUpdate]) -> None:
        """Appends ``drafts`` in one go. Under the execution's lock."""
        if not drafts:
            return
        execution.touched_at = drafts[-1].timestamp
        execution.used_at = self._monotonic()
        execution.updates += len(drafts)
        published = self._published
        for draft in drafts:
            published[_kind(draft.type, "event")] += 1  # as `kind_of` does, without another call at every update
        if self.logger is not None:
            self.logger.put(execution.execution_id, drafts)
        if self.writer is not None:
            self._put(self.writer, execution, drafts)
            return
        number = execution.number + 1
        at = execution.used_at if self._has_our_clock else None
        # the same as `Batch(…)`, which costs a Python call, for each update
        batch = _new(Batch, (execution.execution_id, drafts, execution.producer, number, execution.owner, at))
        try:
            execution.number = number
            repeated = self._log.append(batch)
        except Exception:
            raise
        except BaseException:  # an interrupt: the batch may be there or not, and the same number makes sure that it is
            execution.number = number
            self._log.append(batch)
            raise
        if repeated:
            self._tally.repeated.add(repeated)

    def _put(self, writer: BufferedLogWriter, execution: Execution, drafts: list[PendingUpdate]) -> None:
        """Gives drafts to the writer, after the notice of what was lost before them."""
        lost = execution.lost
        if lost:
            notice = Encoded(orjson.dumps({"count": lost, "reason": "log_unavailable"}))  # under the lock: no `redact`
            told = self._drafts.of(execution, "updates_lost", notice, execution.run_scope, None)
            drafts = [*told, *drafts]
        refused = writer.put(execution, drafts)
        if refused == 0:
            execution.lost = 0
            return
        if lost:
            refused -= 1  # the notice
        execution.lost += refused
        self._tally.drops.note("lost", execution, execution.execution_id, drafts[-1].type, amount=refused)

    def _note_lost(self, execution: Execution, type: str, count: int) -> None:
        with execution.lock:
            execution.lost += count
        self._tally.drops.note("lost", execution, execution.execution_id, type, amount=count)
        self._tally.drops.report()  # on the writer's thread, without a lock

    def _note_dropped(self, execution: Execution, type: str, count: int) -> None:
        self._tally.drops.note("at_most_once", execution, execution.execution_id, type, amount=count)
