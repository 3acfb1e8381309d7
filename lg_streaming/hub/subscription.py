"""A reader of an execution: a position and a filter, without a queue.

A subscription reads the updates after its position from the log, and moves the position. So a slow reader costs no
memory, and a late one gets all updates that are kept. Resuming after a lost connection is the same as the first
subscribe.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Literal, Self

from lg_streaming.codec import to_datetime
from lg_streaming.deadline import Deadline
from lg_streaming.errors import BadRequestError, ForkedError, GapError
from lg_streaming.events import Position
from lg_streaming.filters import ALL, UpdateFilter
from lg_streaming.hub.carry import DEFAULT_LIMIT, read_when_available
from lg_streaming.hub.page import Gap, Page, SubscribeResult
from lg_streaming.log.base import latest_state

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from types import TracebackType

    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub.notifier import Notifier
    from lg_streaming.hub.page import OnGap
    from lg_streaming.hub.vetting import Vetting
    from lg_streaming.log.base import EventLog, LogState, StoredUpdate

__all__ = ["Subscription"]


class Subscription:
    """A cursor that reads one execution, history first and then live.

    Use ``async for update in subscription``, ``async for batch in subscription.batches()``, or `next_page`. Reading
    ends after the final update of the run that was open at the start, or of the last run when none was open. With
    ``follow`` it continues with the next run. With ``until_interrupted`` it also ends after the next
    ``workflow_interrupted``, even where the filter leaves that update out. One reader at a time may use a subscription.

    Guarantees: sequence numbers rise, and only filtered updates and those of a gap are missing. No update is delivered
    twice.
    """

    __slots__ = (
        "__weakref__",
        "_after",
        "_all",
        "_attached",
        "_awaited",
        "_by_type_alone",
        "_closed",
        "_end_from",
        "_ended",
        "_epoch",
        "_finishing",
        "_forked",
        "_gap",
        "_generation",
        "_head",
        "_in_run",
        "_iterated",
        "_log",
        "_notifier",
        "_on_close",
        "_on_gap",
        "_recheck",
        "_seq",
        "_until_interrupted",
        "at_interruption",
        "delivered",
        "execution_id",
        "filter",
        "follow",
        "timeout",
        "vetting",
    )

    def __init__(
        self,
        execution_id: str,
        *,
        log: EventLog,
        notifier: Notifier,
        after: Position | Literal["latest"] | None,
        filter: UpdateFilter,
        follow: bool,
        on_gap: OnGap,
        on_close: Callable[[Subscription], None],
        until_interrupted: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.execution_id: str = execution_id
        self.filter: UpdateFilter = filter
        self._all = filter == ALL
        self._by_type_alone = filter.checks_type_only
        self.follow: bool = follow
        self._until_interrupted = until_interrupted
        self.timeout: float | None = timeout
        """Seconds for all of the reading, as `subscribe` got them; None: no limit."""
        self.at_interruption: bool = False
        """True when reading ended because the run waits for a human."""
        self._log = log
        self._notifier = notifier
        self._after = after
        self._on_gap: OnGap = on_gap
        self._on_close = on_close
        self._generation = -1
        self._epoch: str | None = None
        self._seq = 0
        self._head = 0
        self._in_run = False  # at the last read
        self._end_from = 1  # the first final update at or after this number ends a reader that does not follow
        self._gap: Gap | None = None
        self._attached: SubscribeResult | None = None
        self._ended: bool = False
        self._closed = False
        self._forked = False
        self._finishing = False
        self.delivered: int = 0
        """The number of updates that were read."""
        self._iterated = self._awaited = False
        self.vetting: Vetting | None = None
        """The check of rights after the execution's owner or epoch has changed."""
        self._recheck = log.recheck

    @property
    def position(self) -> Position | None:
        """The position of the last update that was read or filtered out; None before the first update."""
        return Position(self._epoch, self._seq) if self._epoch is not None else None

    @property
    def lag(self) -> int:
        """The number of updates between the position and the head at the last read, filtered ones included."""
        return 0 if self._ended else max(0, self._head - self._seq)

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed

    @property
    def read_to_end(self) -> bool:
        """True after the final update of the run at which reading ends."""
        return self._ended and not self.at_interruption

    def lag_at(self, state: LogState) -> int:
        """Return the number of updates up to the head of ``state`` that were not read yet."""
        if self._ended or self._attached is None:
            return 0
        return max(0, state.head - self._seq) if self._epoch in (None, state.epoch) else state.head

    def start_after(self, position: Position) -> None:
        """Begin after ``position`` in place of the start position. It has no effect after the first read."""
        self._after = position

    async def start(self) -> SubscribeResult:
        """Resolve the start position in the log. Otherwise the first read does it.

        Raises:
            ForbiddenError: If the execution has changed, and its reader may not read it any more.
            GapError: If updates are missing and ``on_gap`` is ``fail``.
            LogUnavailableError: If the log cannot be reached.
        """
        while self._attached is None:
            state = await self._log.state(self.execution_id)
            if state is not None and self._may_be_behind(state):
                state = await latest_state(self._log, self.execution_id)
            if state is None or self.is_vetted(state):
                self._attached = self._attached or self._attach(state)
            elif self.vetting is not None:
                await self.vetting.check(state)
        return self._attached

    def _may_be_behind(self, state: LogState) -> bool:
        """Return whether another process may have newer updates, which change the start or the end of reading."""
        if isinstance(self._after, Position) and not state.has(self._after):
            return True
        return not self.follow and (state.ended or (self._until_interrupted and state.state == "interrupted"))

    def is_vetted(self, state: LogState) -> bool:
        """Return whether the reader may get ``state`` without a new check of rights."""
        vetting = self.vetting
        return vetting is None or (state.epoch == vetting.epoch and state.owner == vetting.owner)

    def _attach(self, state: LogState | None) -> SubscribeResult:
        gap = self._resolve_start(state)
        self._record_gap(gap, state)
        self._head, self._in_run = (state.head, not state.ended) if state is not None else (0, False)
        self._ended = not self.follow and state is not None and state.ended and self._seq >= state.final_seq
        return SubscribeResult(
            execution_id=self.execution_id,
            state=state.state if state is not None else "unknown",
            position=Position(state.epoch, state.head) if state is not None else None,
            oldest=state.oldest if state is not None else None,
            recovered=gap is None,
            reason=gap.reason if gap is not None else None,
        )

    def _resolve_start(self, state: LogState | None) -> Gap | None:
        """Set epoch, number and end; return the gap after the requested position, if there is one."""
        after = self._after
        if state is None:
            return Gap(after.seq + 1, None, "epoch_changed") if isinstance(after, Position) else None
        self._epoch = state.epoch
        self._end_from = state.final_seq if state.ended else state.final_seq + 1
        if after == "latest":
            self._seq = state.head
            return None
        if isinstance(after, Position):
            if after.epoch != state.epoch:
                return Gap(after.seq + 1, None, "epoch_changed")
            if after.seq > state.head:
                return Gap(state.head + 1, after.seq, "future_position")
            self._seq = after.seq
        return Gap(self._seq + 1, state.oldest - 1, "evicted") if state.oldest > self._seq + 1 else None

    def _record_gap(self, gap: Gap | None, state: LogState | None) -> None:
        """Keep a gap for the next page, and move the position past it as ``on_gap`` requires."""
        if gap is None:
            return
        if self._on_gap == "fail":
            raise GapError(
                f"updates from {gap.first} on are missing ({gap.reason}): subscribe from the start or from 'latest'",
                execution_id=self.execution_id,
            )
        if state is not None and self._on_gap == "tail":
            self._seq = state.head
            gap = Gap(gap.first, state.head, "evicted") if gap.reason == "evicted" else gap
        elif state is not None:
            self._seq = state.head if gap.reason == "future_position" else state.oldest - 1
        self._gap = gap if self._gap is None else self._gap.merged_with(gap)

    async def next_page(self, limit: int = DEFAULT_LIMIT) -> Page:
        """Return the updates after the position, up to ``limit``; wait until there is one.

        After the end, return an empty page with ``ended`` set, at once. Cancelling loses nothing.

        Raises:
            ForbiddenError: If the execution has changed, and its reader may not read it any more.
            GapError: If updates are missing and ``on_gap`` is ``fail``.
            LogUnavailableError: If the log cannot be reached. The position is kept: call again later.
            ForkedError: If the process was forked after the subscription was made.
            BadRequestError: If another task is waiting for a page.
        """
        if self._awaited:
            raise self._in_use()
        self._awaited = True
        try:
            while True:
                page = await self.poll(limit)
                if page is not None:
                    return page
                await self._notifier.wait(self._generation, self._recheck)
        finally:
            self._awaited = False

    def _in_use(self) -> BadRequestError:
        return BadRequestError(
            "this subscription is being read, or its loop was left: subscribe once for each reader, to read on with"
            " after=subscription.position",
            execution_id=self.execution_id,
        )

    async def ready(self) -> None:
        """Wait until there may be new updates since the last `poll`; return at once if that left updates unread.

        A reader that waits first and reads later gets more in one page.
        """
        if not (self._attached is None or self._ended or self._closed or self.lag):
            await self._notifier.wait(self._generation, self._recheck)

    async def poll(self, limit: int = DEFAULT_LIMIT) -> Page | None:
        """Return the present updates like `next_page`, but without waiting; None without an update.

        After the end, return an empty page with ``ended`` set. Raises like `next_page`.
        """
        if self._attached is None and not self._closed:
            await self.start()
        while not (self._ended or self._closed):
            generation, epoch, seq = self._notifier.generation, self._epoch, self._seq
            found = await self._log.read(self.execution_id, seq, limit)
            self._generation = generation  # only now: after a failed read `ready` returns at once
            records: Sequence[StoredUpdate] = ()
            if found is not None:
                state, vetting = found.state, self.vetting
                # inlines `is_vetted`, for each page
                if vetting is not None and (state.epoch != vetting.epoch or state.owner != vetting.owner):
                    await vetting.check(state)
                    continue  # it may have changed again
                records = self._advance(state, found.records)
            elif self._in_run and self._log.fleet is not None:
                self._lose()
            if records or self._ended or self._gap is not None:
                gap, self._gap = self._gap, None
                self.delivered += len(records)
                return Page(records, self.position, gap, self._ended)
            if self._seq == seq and self._epoch == epoch:
                if self._finishing:
                    break
                return None
        if self._forked:
            raise ForkedError(
                f"this subscription of {self.execution_id!r} belongs to the process before os.fork():"
                " subscribe again in this process"
            )
        gap, self._gap = self._gap, None
        return Page((), self.position, gap, ended=True)

    def _lose(self) -> None:
        """Record that the log has lost the execution during a run. Its next update begins a new epoch."""
        self._record_gap(Gap(self._seq + 1, None, "epoch_changed"), None)
        self._epoch, self._seq, self._head, self._end_from, self._in_run = None, 0, 0, 1, False

    def _advance(self, state: LogState, records: Sequence[StoredUpdate]) -> Sequence[StoredUpdate]:
        """Move the position over ``records``, or to the end of the run in them; return those for the reader."""
        if self._epoch is None and not state.head:
            return ()  # begun anew without updates, after a loss: this reader has lost nothing
        self._head, self._in_run = state.head, not state.ended
        self._epoch = self._epoch or state.epoch
        if self._epoch != state.epoch:  # the log lost this execution and began anew: the next read returns that
            self._record_gap(Gap(self._seq + 1, None, "epoch_changed"), state)
            self._epoch, self._end_from = state.epoch, 1
            return ()
        if state.oldest > self._seq + 1:
            self._record_gap(Gap(self._seq + 1, state.oldest - 1, "evicted"), state)
            if self._on_gap == "tail":
                return ()
        if records:
            if self._until_interrupted:
                records = self._up_to_interruption(records)
            if not self.follow and records[-1].seq >= self._end_from and records[0].seq <= state.final_seq:
                records = self._up_to_end(records)
            self._seq = records[-1].seq
            if not self._all:
                records = self._filter(records)
        if not self.follow and self._seq >= max(state.final_seq, self._end_from) and state.ended:
            self._ended = True
        return records

    def _filter(self, records: Sequence[StoredUpdate]) -> Sequence[StoredUpdate]:
        if self._by_type_alone:
            accepts_type = self.filter.accepts_type
            return [record for record in records if accepts_type(record.type)]
        return [record for record in records if self._accepts(record)]

    def _up_to_end(self, records: Sequence[StoredUpdate]) -> Sequence[StoredUpdate]:
        for index, record in enumerate(records):
            if record.is_final and record.seq >= self._end_from:
                self._ended = True
                self.at_interruption = False
                return records[: index + 1]
        return records

    def _up_to_interruption(self, records: Sequence[StoredUpdate]) -> Sequence[StoredUpdate]:
        for index, record in enumerate(records):
            if record.type == "workflow_interrupted":
                self._ended = True
                self.at_interruption = True
                return records[: index + 1]
        return records

    def _accepts(self, record: StoredUpdate) -> bool:
        timed = self.filter.since is not None or self.filter.until is not None
        moment = to_datetime(record.timestamp) if timed else None
        return self.filter.accepts(record.type, record.scope, record.priority, moment)

    async def batches(self, limit: int = DEFAULT_LIMIT) -> AsyncGenerator[list[StreamUpdate]]:
        """Yield lists of up to ``limit`` updates; end like the iteration does.

        While the log cannot be reached, reading waits and tries again.

        Raises:
            BadRequestError: If another loop reads the subscription.
            GapError: If something is missing and ``on_gap`` is ``fail``.
            ForkedError: If the process was forked after the subscription was made.
            TimeoutError: If reading has not ended ``timeout`` seconds after it began.
        """
        if self._iterated:
            raise self._in_use()
        self._iterated = True
        deadline = Deadline(self.timeout, f"execution {self.execution_id!r}")
        try:
            while True:
                async with deadline:
                    page = await read_when_available(self.next_page, limit)
                if updates := page.updates(self.execution_id):
                    yield updates
                if page.ended:
                    return
        finally:
            self._iterated = False
            self.close()

    async def _updates(self) -> AsyncGenerator[StreamUpdate]:
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for update in batch:
                    yield update

    def __aiter__(self) -> AsyncIterator[StreamUpdate]:
        return self._updates()

    def finish(self) -> None:
        """End the subscription once it has read to the end of the log; for a hub that closes. From any thread."""
        self._finishing = True
        self._notifier.notify()

    def after_fork(self) -> None:
        """Refuse to read in the child: the subscription goes on in the parent process."""
        self._closed = self._forked = True

    def close(self) -> None:
        """End the subscription and wake its reader. Harmless when repeated, and from any thread."""
        if not self._closed:
            self._closed = True
            self._on_close(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
