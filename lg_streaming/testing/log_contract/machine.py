"""Random test of a log: a state machine whose model keeps what each life of an execution has."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from lg_streaming.events import FINAL_TYPES, Position
from lg_streaming.hub.readers import SubscriptionRegistry
from lg_streaming.settings import RetentionSettings
from lg_streaming.testing.log_contract.producer import Producer, append, encode_update, trim

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from lg_streaming.hub.page import Gap, Page
    from lg_streaming.hub.subscription import Subscription
    from lg_streaming.log import Batch, EventLog, LogState, PendingUpdate
    from lg_streaming.testing.log_contract.harness import LogHarness

__all__ = ["LogMachine", "check_random_steps"]

T = TypeVar("T")

KEPT: Final = 5
MAX_READERS: Final = 4
TTL: Final = 100.0
RECORD_TTL: Final = 10_000.0
KEYS: Final = ["k1", "k2", "k3"]


def check_random_steps(harness: LogHarness, *, examples: int = 15, steps: int = 30) -> None:
    """Check that readers of a log receive exactly 1..N, or gaps that cover the difference, over random steps.

    Args:
        harness: The harness of the log.
        examples: Number of random sequences of steps.
        steps: Most steps of a sequence: appends, repeated batches, drops, lost data, reads and so on.

    Raises:
        AssertionError: If a reader receives something else. Hypothesis prints the shortest steps that it finds.
    """
    run_state_machine_as_test(
        cast("type[LogMachine]", lambda: LogMachine(harness)),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )


@dataclass
class _Life:
    """Model of an execution from its first update until it is dropped, lost or expired."""

    updates: list[tuple[str, int, str | None]] = field(default_factory=list[tuple[str, int, "str | None"]])
    """Type, data and key of every update, also of evicted ones."""
    oldest: int = 1
    idle: float = 0.0
    """Seconds since the last append."""

    @property
    def head(self) -> int:
        return len(self.updates)

    @property
    def ended(self) -> bool:
        return self.updates[-1][0] in FINAL_TYPES

    @property
    def needs_start(self) -> bool:
        return not self.updates or self.ended

    @property
    def keys(self) -> set[str | None]:
        return {key for _, _, key in self.updates[self.oldest - 1 :]}


@dataclass
class _Reader:
    """Reader, and the position up to which the model has checked it."""

    subscription: Subscription
    epoch: str | None
    seq: int


class LogMachine(RuleBasedStateMachine):
    """Appends, evictions and losses on one side, readers on the other; with a second process if the log has one."""

    readers: Bundle[_Reader] = Bundle("readers")

    def __init__(self, harness: LogHarness) -> None:
        super().__init__()
        self.harness = harness
        self.runner: asyncio.Runner = asyncio.Runner()
        log = harness.make(RetentionSettings(max_updates=KEPT, ttl=TTL, record_ttl=RECORD_TTL))
        second = harness.connect()
        self.logs: list[EventLog] = [log] if second is None else [log, second]
        self.observer: EventLog = log if second is None else harness.connect() or log
        """Log without readers, whose state is that of the moment."""
        self.registries: list[SubscriptionRegistry] = [SubscriptionRegistry(each) for each in self.logs]
        self.producers: list[Producer] = [Producer(self.logs[index % len(self.logs)]) for index in range(4)]
        self.batches: list[Batch] = []
        """Batches of the present life."""
        self.lives: dict[str, _Life] = {}
        """Model of each life by epoch."""
        self.epoch: str | None = None
        """Epoch of the present life; None if the execution is unknown."""
        self.open_readers: list[_Reader] = []
        self.written: int = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def state(self) -> LogState | None:
        """Return the state; None also for an execution that a log has begun anew without updates, after a loss."""
        state = self.run(self.observer.state("e"))
        return state if state is not None and state.head else None

    @property
    def life(self) -> _Life | None:
        return None if self.epoch is None else self.lives[self.epoch]

    def teardown(self) -> None:
        try:
            self.append(0, ["token"])
            for reader in self.open_readers:
                self.catch_up(reader)
        finally:
            for registry in self.registries:
                self.run(registry.aclose())
            for log in (*self.logs, self.observer):
                self.run(log.aclose())
            self.runner.close()

    # --- writing ----------------------------------------------------------------------------------------------

    @rule(
        index=st.integers(0, 3),
        updates=st.lists(st.sampled_from(["token", "end", *KEYS]), min_size=1, max_size=KEPT + 2),
    )
    def append(self, index: int, updates: list[str]) -> None:
        life, producer = self.life or _Life(), self.producers[index]
        known, before, skipped = life.keys, life.head, 0
        expired = life.idle >= TTL and life.head > 0 and life.ended
        encoded: list[PendingUpdate] = []
        for each in [*updates, "token"]:
            if each == "token" and life.head > before and len(encoded) >= len(updates):
                break  # at least one update is stored
            key = each if each in KEYS else None
            if life.needs_start:
                encoded.append(self.encode(life, "workflow_start"))
            if key is not None and key in known:
                skipped += 1
                encoded.append(encode_update("token", key=key))
            else:
                encoded.append(self.encode(life, "workflow_complete" if each == "end" else "token", key))
                known.add(key)
        batch = producer.batch(*encoded)
        assert self.run(append(producer.log, batch)) == skipped
        life.oldest, life.idle = max(life.oldest, life.head - KEPT + 1), 0.0
        state = self.state()
        assert state is not None, "an execution that was appended to is unknown"
        if self.epoch is None:
            assert state.epoch not in self.lives, "a new life has an old epoch"
            self.lives[state.epoch], self.epoch = life, state.epoch
        elif expired and state.oldest == before + 1:  # the final update of the run before may be removed now
            life.oldest = max(life.oldest, state.oldest)
        self.batches.append(batch)

    def encode(self, life: _Life, type: str, key: str | None = None) -> PendingUpdate:
        """Encode an update, and add it to the model."""
        self.written += 1
        life.updates.append((type, self.written, key))
        return encode_update(type, self.written, key=key)

    def end_life(self) -> None:
        self.epoch = None
        self.batches.clear()

    @precondition(lambda self: self.life is not None and not self.life.idle)
    @rule(data=st.data(), other=st.booleans())
    def repeat(self, data: st.DataObject, other: bool) -> None:  # noqa: FBT001 (drawn)
        batch = self.batches[data.draw(st.integers(0, len(self.batches) - 1))]
        self.run(append(self.logs[-1 if other else 0], batch))

    @rule()
    def advance(self) -> None:
        self.let_time_pass(TTL * 0.6)

    def let_time_pass(self, seconds: float) -> None:
        if not self.run(self.harness.advance(seconds)):
            return
        for log in self.logs:
            while self.run(trim(log)):
                pass
        if self.life is not None:
            self.life.idle += seconds
            if self.life.idle >= RECORD_TTL:
                self.end_life()
            elif self.life.ended and self.life.idle >= TTL:
                self.life.oldest = self.life.head

    @rule(other=st.booleans())
    def trim(self, other: bool) -> None:  # noqa: FBT001 (drawn)
        self.run(trim(self.logs[-1 if other else 0]))

    @rule(cause=st.sampled_from(["drop", "drop elsewhere", "loss", "expiry"]))
    def remove(self, cause: str) -> None:
        if cause == "expiry":
            self.let_time_pass(2 * RECORD_TTL)
        elif cause != "loss":
            self.run(self.logs[-1 if cause == "drop elsewhere" else 0].drop("e"))
            self.end_life()
        elif self.run(self.harness.lose_data()):
            self.end_life()

    @invariant()
    def state_is_that_of_the_model(self) -> None:
        state, life = self.state(), self.life
        if state is None or life is None:
            assert state is life is None, (state, life)
        else:
            assert (state.epoch, state.head) == (self.epoch, life.head)
            assert (state.oldest, state.ended) == (life.oldest, life.ended)

    # --- reading ----------------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.open_readers) < MAX_READERS)
    @rule(target=readers, data=st.data(), where=st.sampled_from(["start", "latest", "position"]), other=st.booleans())
    def subscribe(self, data: st.DataObject, where: str, other: bool) -> _Reader:  # noqa: FBT001 (drawn)
        after: Position | str | None = None if where == "start" else "latest"
        if where == "position" and self.lives:
            epoch = data.draw(st.sampled_from(list(self.lives)))
            after = Position(epoch, data.draw(st.integers(0, self.lives[epoch].head)))
        subscription = self.registries[-1 if other else 0].subscribe("e", after=after, follow=True)
        self.run(subscription.start())
        place = after if isinstance(after, Position) else subscription.position
        seq = place.seq if place is not None and after is not None else 0
        reader = _Reader(subscription, place.epoch if place is not None else None, seq)
        self.open_readers.append(reader)
        return reader

    @rule(reader=readers, limit=st.integers(1, KEPT + 2))
    def read(self, reader: _Reader, limit: int) -> None:
        page = self.run(reader.subscription.poll(limit))
        if page is not None:
            self.check(reader, page)

    @rule(reader=readers)
    def catch_up(self, reader: _Reader) -> None:
        """Check that a reader gets everything, and nothing more."""
        if self.life is None:
            return
        try:
            self.run(asyncio.wait_for(self._read_to_head(reader, self.life.head), self.harness.patience))
        except TimeoutError:
            raise AssertionError(
                f"a reader stops at {reader.epoch}:{reader.seq}, the head is {self.life.head}"
            ) from None
        assert self.run(reader.subscription.poll(3)) is None

    async def _read_to_head(self, reader: _Reader, head: int) -> None:
        while (reader.epoch, reader.seq) != (self.epoch, head):
            self.check(reader, await reader.subscription.next_page(3))

    @rule(reader=consumes(readers))
    def leave(self, reader: _Reader) -> None:
        reader.subscription.close()
        self.open_readers.remove(reader)

    def check(self, reader: _Reader, page: Page) -> None:
        """Compare a page with the model."""
        assert not page.ended
        assert page.records or page.gap
        if page.gap is not None:
            self.check_gap(reader, page, page.gap)
        for record in page.records:
            reader.epoch = reader.epoch or record.epoch
            assert (record.epoch, record.seq) == (reader.epoch, reader.seq + 1)
            assert (record.type, record.update.data, record.key) == self.lives[record.epoch].updates[record.seq - 1]
            reader.seq = record.seq
        assert page.position == (None if reader.epoch is None else Position(reader.epoch, reader.seq))

    def check_gap(self, reader: _Reader, page: Page, gap: Gap) -> None:
        """Check that a gap begins after the reader's position, and covers only updates that are not kept."""
        assert gap.first == reader.seq + 1
        place = page.start
        assert (gap.last is None) == (gap.reason == "epoch_changed")
        if place is None:  # the execution is unknown now
            assert gap.reason == "epoch_changed"
            reader.epoch, reader.seq = None, 0
            return
        assert (reader.epoch in {None, place.epoch}) == (gap.reason == "evicted")
        assert gap.last in {None, place.seq}
        life = self.lives.get(place.epoch, _Life())
        assert place.seq < life.oldest, "a gap covers an update that is kept"
        reader.epoch, reader.seq = place.epoch, place.seq
