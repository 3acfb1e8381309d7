"""A reader of an execution: a position and a filter, and nothing else.

A subscription holds no queue. It reads what follows its position from the log, moves on, and comes back; so
a slow reader costs no memory, a late one sees everything that is kept, and coming back after a lost
connection is the same as coming for the first time.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from lg_streaming.codec import to_datetime
from lg_streaming.deadline import Deadline
from lg_streaming.errors import BadPositionError, BadRequestError, GapError, LogUnavailableError
from lg_streaming.events import Position, StreamMetadata, StreamUpdate
from lg_streaming.filters import ALL, UpdateFilter
from lg_streaming.fork import ForkGuard

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
    from types import TracebackType

    from lg_streaming.hub.notifier import Notifier
    from lg_streaming.hub.vetting import Vetting
    from lg_streaming.log.base import EventLog, ExecutionState, LogState, ReadResult, StoredUpdate

__all__ = ["Gap", "GapReason", "OnGap", "Page", "SubscribeResult", "Subscription"]

GapReason = Literal["evicted", "epoch_changed", "future_position"]
OnGap = Literal["oldest", "tail", "fail"]

DEFAULT_LIMIT: Final = 500
_RETRY_DELAYS: Final = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, slots=True)
class Gap:
    """Updates a reader asked for that it cannot have."""

    first: int
    """The first missing sequence number (of the reader's old epoch, when the epoch changed)."""
    last: int | None
    """The last missing one; None when nobody can know it."""
    reason: GapReason
    """``evicted``: no longer kept. ``epoch_changed``: the log lost its data and began anew.
    ``future_position``: the position is past the end."""

    def and_then(self, later: Gap) -> Gap:
        """One gap for two that follow each other."""
        if "epoch_changed" in (self.reason, later.reason):
            return Gap(self.first, None, "epoch_changed")
        return Gap(self.first, later.last, self.reason)

    def to_dict(self) -> dict[str, Any]:
        """As it travels: ``{from, to, reason}``."""
        return {"from": self.first, "to": self.last, "reason": self.reason}


@dataclass(frozen=True, slots=True)
class SubscribeResult:
    """The answer to a subscribe."""

    execution_id: str
    state: ExecutionState | Literal["unknown"]
    """``unknown``: not started yet; its updates come when it does."""
    position: Position | None
    """The head: the last update there is."""
    oldest: int | None
    """The first sequence number that is still kept."""
    recovered: bool
    """Whether everything after the asked position is there."""
    reason: GapReason | None
    """Why not, when it is not."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a reader got in one go."""

    records: Sequence[StoredUpdate]
    """The records that passed the filter, in order."""
    position: Position | None
    """Where the reader stands now, also past records that were filtered out. None before the first update."""
    gap: Gap | None = None
    """What is missing right before the first record."""
    ended: bool = False
    """The reader is done: nothing will follow."""

    def updates(self, execution_id: str) -> list[StreamUpdate]:
        """The records decoded; a gap comes first, as an update of type ``gap``."""
        updates = [record.to_update(execution_id) for record in self.records]
        if self.gap is not None:
            updates.insert(0, _gap_update(execution_id, self.gap, self.position))
        return updates


def _gap_update(execution_id: str, gap: Gap, position: Position | None) -> StreamUpdate:
    return StreamUpdate(
        type="gap",
        data=gap.to_dict(),
        metadata=StreamMetadata(
            timestamp=datetime.now(UTC),
            sequence_number=gap.last or 0,
            execution_id=execution_id,
            epoch=position.epoch if position is not None else "",
        ),
    )


class Subscription:
    """Reads one execution, history first and then live.

    Use it as ``async for update in subscription``, as ``async for batch in subscription.batches()``, or page by
    page with `next_page`. It ends after the final update of the run that was open (or, where none was, of
    the last one) when the reader came, unless it follows; with ``until_interrupted`` also after the first
    ``workflow_interrupted`` that it comes to, whether its filter lets that through or not. One reader at a time may
    use a subscription.

    Guarantees: the sequence numbers it gives rise without a hole except those the filter left out and those a
    gap names; no update comes twice.
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
        "_floor",
        "_gap",
        "_generation",
        "_guard",
        "_head",
        "_iterated",
        "_log",
        "_on_close",
        "_on_gap",
        "_over_at",
        "_recheck",
        "_seq",
        "_signal",
        "_timeout",
        "_until_interrupted",
        "at_interruption",
        "delivered",
        "execution_id",
        "filter",
        "follow",
        "vetting",
    )

    def __init__(
        self,
        execution_id: str,
        *,
        log: EventLog,
        signal: Notifier,
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
        self._timeout = timeout
        self.at_interruption: bool = False
        """Whether it has ended because the run waits for a human."""
        self._log = log
        self._signal = signal
        self._after = after
        self._on_gap: OnGap = on_gap
        self._on_close = on_close
        self._generation = -1
        self._epoch: str | None = None
        self._seq = 0
        self._floor = 0  # where reading began: nothing before it was asked for
        self._head = 0
        self._over_at: int | None = None  # where it ended before it was rewound
        self._end_from = 1  # the first final update at or after this number ends a reader that does not follow
        self._gap: Gap | None = None
        self._attached: SubscribeResult | None = None
        self._ended: bool = False
        self._closed = False
        self._finishing = False
        self.delivered: int = 0
        """Updates it has given to its reader."""
        self._iterated = self._awaited = False
        self.vetting: Vetting | None = None
        """Ask again whether the reader may read the execution, after its owner or epoch has changed."""
        self._guard = ForkGuard(f"this subscription of {execution_id!r}", "subscribe again in this process")
        self._recheck = 1.0 if log.blocking else None  # a notification from another machine may be lost

    @property
    def position(self) -> Position | None:
        """Where the reader stands; None before the first update."""
        return Position(self._epoch, self._seq) if self._epoch is not None else None

    @property
    def lag(self) -> int:
        """How many updates behind the head the reader stood when it last read; filtered ones count too."""
        return 0 if self._ended else max(0, self._head - self._seq)

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def behind(self, state: LogState) -> int:
        """How many updates there are, now that the log stands at ``state``, that the reader has not come to yet."""
        if self._ended or self._attached is None:
            return 0
        return max(0, state.head - self._seq) if self._epoch in (None, state.epoch) else state.head

    async def start(self) -> SubscribeResult:
        """Finds the reader's place in the log. Reading does it when it was not done before.

        Raises:
            ForbiddenError: The execution has changed, and its reader may not read it any more.
            GapError: Something is missing and ``on_gap`` is ``fail``.
            LogUnavailableError: The log cannot be reached.
        """
        while self._attached is None:
            state = await self._log.state(self.execution_id)
            if state is None or self.is_vetted(state):
                self._attached = self._attached or self._attach(state)
            elif self.vetting is not None:
                await self.vetting.check(state)
        return self._attached

    def is_vetted(self, state: LogState) -> bool:
        """Whether ``state`` may be sent to the reader without a new check of rights."""
        return self.vetting is None or self.vetting.covers(state)

    def _attach(self, state: LogState | None) -> SubscribeResult:
        gap = self._find_place(state)
        self._miss(gap, state)
        self._floor = self._seq
        self._head = state.head if state is not None else 0
        self._ended = not self.follow and state is not None and state.ended and self._seq >= state.final_seq
        return SubscribeResult(
            execution_id=self.execution_id,
            state=state.state if state is not None else "unknown",
            position=Position(state.epoch, state.head) if state is not None else None,
            oldest=state.oldest if state is not None else None,
            recovered=gap is None,
            reason=gap.reason if gap is not None else None,
        )

    def _find_place(self, state: LogState | None) -> Gap | None:
        """Sets epoch, number and end; returns what is missing after the position that was asked for."""
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

    def _miss(self, gap: Gap | None, state: LogState | None) -> None:
        """Notes a gap for the next page and goes on where the reader wants to."""
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
        self._gap = gap if self._gap is None else self._gap.and_then(gap)

    async def next_page(self, limit: int = DEFAULT_LIMIT) -> Page:
        """What there is after the reader's position, up to ``limit`` updates; waits until there is something.

        After the end it returns an empty page with ``ended`` set, at once. Cancelling it loses nothing.

        Raises:
            ForbiddenError: The execution has changed, and its reader may not read it any more.
            GapError: Something is missing and ``on_gap`` is ``fail``.
            LogUnavailableError: The log cannot be reached; the position is kept, so call it again later.
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
                await self._signal.wait(self._generation, self._recheck)
        finally:
            self._awaited = False

    def _in_use(self) -> BadRequestError:
        return BadRequestError(
            "this subscription is being read, or its loop was left: subscribe once for each reader, to read on with"
            " after=subscription.position",
            execution_id=self.execution_id,
        )

    async def ready(self) -> None:
        """Returns when there may be something that was not there at the last read; at once where that left some.

        For a reader that wants to wait first and read later, and then get more at once.
        """
        if not (self._attached is None or self._ended or self._closed or self.lag):
            await self._signal.wait(self._generation, self._recheck)

    async def poll(self, limit: int = DEFAULT_LIMIT) -> Page | None:
        """What there is now, like `next_page` but without waiting for it; None when there is nothing.

        After the end it returns an empty page with ``ended`` set. Raises like `next_page`.
        """
        self._guard.check()
        if not self._closed:
            await self.start()
        while not (self._ended or self._closed):
            self._generation = self._signal.generation
            position, seq = self.position, self._seq
            found = await self._log.read(self.execution_id, seq, limit)
            if found is not None and self.vetting is not None and not self.vetting.covers(found.state):
                await self.vetting.check(found.state)
                continue  # it may have changed again
            if self._seq != seq:
                continue  # rewound meanwhile: what was read is not what follows now
            page = self._digest(found)
            if page is not None:
                return page
            if self.position == position:
                if self._finishing:
                    break
                return None
        gap, self._gap = self._gap, None
        return Page((), self.position, gap, ended=True)

    def rewind(self, seq: int) -> None:
        """Goes back to sequence number ``seq`` of the present epoch: what follows it is read again.

        For a reader that has to get again what it did not acknowledge. It never goes back before the place where
        reading began. What was evicted meanwhile is told as a gap; a subscription that had ended ends again at the
        same update; a closed one stays closed. Call it on the event loop that reads, between two pages: a page that
        was read before and is still on its way would come after the rewound position otherwise. Reading that waits
        goes on at once.

        Raises:
            BadPositionError: The reader never was that far.
        """
        if seq > self._seq:
            raise BadPositionError(
                f"cannot go back to {seq}: this reader is at {self._seq}", execution_id=self.execution_id
            )
        seq = max(seq, self._floor)
        if seq == self._seq:
            return
        if self._ended:
            self._over_at, self._ended = self._seq, False
            self.at_interruption = False
        self._seq = seq
        self._signal.notify()

    def _digest(self, found: ReadResult | None) -> Page | None:
        """Moves on over ``found``; None when it holds nothing to tell the reader."""
        if found is None:
            return self._page(())
        state = found.state
        self._head = state.head
        if self._epoch is None:
            self._epoch = state.epoch
        elif self._epoch != state.epoch:
            return self._begin_anew(state)
        if state.oldest > self._seq + 1:
            self._miss(Gap(self._seq + 1, state.oldest - 1, "evicted"), state)
            self._ended = self._over_at is not None and self._seq >= self._over_at
            if self._on_gap == "tail" or self._ended:
                return self._page(())
        records = self._take(found.records, state)
        if not self.follow and not self._ended and state.ended and self._seq >= max(state.final_seq, self._end_from):
            self._ended = True
        return self._page(records)

    def _begin_anew(self, state: LogState) -> Page | None:
        """The log lost this execution and began anew: what is there now is read on the next call."""
        self._miss(Gap(self._seq + 1, None, "epoch_changed"), state)
        self._epoch, self._end_from = state.epoch, 1
        self._floor, self._over_at = self._seq, None
        return self._page(())

    def _take(self, records: Sequence[StoredUpdate], state: LogState) -> Sequence[StoredUpdate]:
        """The records the reader gets; moves its position past all of them, or to the end of its run."""
        if not records:
            return records
        if self._until_interrupted:
            records = self._up_to_interruption(records)
        if not self.follow and records[-1].seq >= self._end_from and records[0].seq <= state.final_seq:
            for index, record in enumerate(records):
                if record.is_final and record.seq >= self._end_from:
                    self._ended = True
                    self.at_interruption = False
                    records = records[: index + 1]
                    break
        self._seq = records[-1].seq
        if self._all:
            return records
        if self._by_type_alone:
            accepts_type = self.filter.accepts_type
            return [record for record in records if accepts_type(record.type)]
        return [record for record in records if self._accepts(record)]

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

    def _page(self, records: Sequence[StoredUpdate]) -> Page | None:
        if not records and self._gap is None and not self._ended:
            return None
        gap, self._gap = self._gap, None
        self.delivered += len(records)
        return Page(records, self.position, gap, self._ended)

    async def batches(self, limit: int = DEFAULT_LIMIT) -> AsyncGenerator[list[StreamUpdate]]:
        """What there is, as one list at a time, up to ``limit`` updates each; ends like the iteration does.

        While the log cannot be reached it waits and tries again.

        Raises:
            BadRequestError: If another loop reads the subscription.
            GapError: If something is missing and ``on_gap`` is ``fail``.
            ForkedError: If the process was forked after the subscription was made.
            TimeoutError: If reading has not ended ``timeout`` seconds after it began.
        """
        if self._iterated:
            raise self._in_use()
        self._iterated = True
        deadline = Deadline(self._timeout, f"execution {self.execution_id!r}")
        try:
            while True:
                async with deadline:
                    page = await self._patient_page(limit)
                if updates := page.updates(self.execution_id):
                    yield updates
                if page.ended:
                    return
        finally:
            self._iterated = False
            self.close()

    async def _patient_page(self, limit: int) -> Page:
        failures = 0
        while True:
            try:
                return await self.next_page(limit)
            except LogUnavailableError:
                await asyncio.sleep(_RETRY_DELAYS[min(failures, len(_RETRY_DELAYS) - 1)])
                failures += 1

    async def _updates(self) -> AsyncGenerator[StreamUpdate]:
        async with aclosing(self.batches()) as batches:
            async for batch in batches:
                for update in batch:
                    yield update

    def __aiter__(self) -> AsyncIterator[StreamUpdate]:
        return self._updates()

    def finish(self) -> None:
        """Ends the subscription once it has read what is there; for a hub that closes. From any thread."""
        self._finishing = True
        self._signal.notify()

    def close(self) -> None:
        """Ends the subscription; whoever waits on it is woken. Harmless when repeated, and from any thread."""
        if not self._closed:
            self._closed = True
            self._on_close(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
