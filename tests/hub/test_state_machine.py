"""A log that is appended to, trimmed and dropped, runs that end and begin, readers that come from anywhere.

The model keeps all appended updates, by epoch. Each reader is compared with it. After its position come the next
updates, each once, or a gap that covers exactly the missing ones. The end comes exactly at its place.
"""

import asyncio
import os
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from lg_streaming.errors import GapError
from lg_streaming.events import FINAL_TYPES, Position
from lg_streaming.hub import Page, StreamHub, Subscription
from lg_streaming.hub.page import Gap, GapReason, OnGap
from lg_streaming.log import LogState
from tests.hub.helpers import settings_of

KEPT = 3
ENDS = {"close": "workflow_complete", "fail": "workflow_error", "cancel": "workflow_cancelled"}
PLACES = ["start", "latest", "oldest", "head", "evicted", "future", "other epoch", "old epoch"]


@dataclass
class Reader:
    """Request of a reader, and its expected state after the updates it received."""

    subscription: Subscription
    after: Position | str | None
    on_gap: OnGap
    follow: bool
    attached: bool = False
    epoch: str | None = None
    seq: int = 0
    end_from: int = 1
    """The first final update at or after this number is its end."""
    owed: GapReason | None = None
    """The gap it was promised when it attached and has not got yet."""
    over: bool = False
    """True if it subscribed past the end: the next page is empty and the last."""
    done: bool = False


class HubMachine(RuleBasedStateMachine):
    readers: Bundle[Reader] = Bundle("readers")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.hub = StreamHub(settings_of(max_updates=KEPT))
        self.history: dict[str, list[str]] = {}
        self.run_is_open = False
        self.written = 0

    def teardown(self) -> None:
        self.loop.run_until_complete(self.hub.aclose())
        self.loop.close()

    def state(self) -> LogState | None:
        return self.loop.run_until_complete(self.hub.describe("e"))

    # --- writing ------------------------------------------------------------------------------------------------

    def note(self, what: str) -> None:
        """Takes over into the model what the log must have got."""
        state = self.state()
        assert state is not None
        self.history.setdefault(state.epoch, []).append(what)
        assert state.head == len(self.history[state.epoch])

    @rule()
    def open_run(self) -> None:
        self.hub.open("e")
        if not self.run_is_open:
            self.note("workflow_start")
        self.run_is_open = True

    @rule(count=st.integers(1, KEPT + 1))
    def publish(self, count: int) -> None:
        for _ in range(count):
            if not self.history:
                self.open_run()
            self.hub.publish("e", "token", self.written)
            if self.run_is_open:
                self.note(f"token {self.written}")
            self.written += 1

    @precondition(lambda self: self.run_is_open)
    @rule(end=st.sampled_from(sorted(ENDS)))
    def end_run(self, end: str) -> None:
        ending = self.hub.fail("e", "no") if end == "fail" else getattr(self.hub, end)("e")
        self.loop.run_until_complete(ending)
        self.note(ENDS[end])
        self.run_is_open = False

    @rule()
    def drop(self) -> None:
        self.loop.run_until_complete(self.hub.log.drop("e"))

    # --- attaching ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.hub.statistics().subscriptions < 3)  # few, so that each is read often
    @rule(
        target=readers,
        where=st.sampled_from(PLACES),
        step=st.integers(0, KEPT),
        on_gap=st.sampled_from(["oldest", "tail", "fail"]),
        follow=st.booleans(),
    )
    def subscribe(self, where: str, step: int, on_gap: OnGap, follow: bool) -> Reader:
        after = self.place(where, step)
        subscription = self.hub.subscribe("e", after=after, follow=follow, on_gap=on_gap)
        return Reader(subscription, after, on_gap, follow)

    def place(self, where: str, step: int) -> Position | str | None:
        state = self.state()
        if where in {"start", "latest"}:
            return None if where == "start" else "latest"
        if where == "old epoch" and self.history:
            return Position(next(iter(self.history)), step)
        if where in {"other epoch", "old epoch"} or state is None:
            return Position("elsewhere", step)
        seq = {
            "oldest": min(state.oldest - 1 + step, state.head),
            "head": max(state.head - step, 0),
            "evicted": max(state.oldest - 2 - step, 0),
            "future": state.head + 1 + step,
        }[where]
        return Position(state.epoch, seq)

    @rule(reader=readers)
    def attach(self, reader: Reader) -> None:
        """Compare the answer to a subscribe with the model."""
        if reader.attached:
            return
        state = self.state()
        self.expect(reader, state)
        if reader.owed is not None and reader.on_gap == "fail":
            self.must_fail(reader)
            return
        attached = self.loop.run_until_complete(reader.subscription.start())
        assert (attached.recovered, attached.reason) == (reader.owed is None, reader.owed)
        assert attached.state == (state.state if state else "unknown")
        assert attached.position == (Position(state.epoch, state.head) if state else None)

    def expect(self, reader: Reader, state: LogState | None) -> None:
        """Return the expected state of a reader that subscribes now."""
        reader.attached = True
        after = reader.after
        if isinstance(after, Position):
            reader.epoch, reader.seq = after.epoch, after.seq
        if state is None:
            reader.owed = "epoch_changed" if isinstance(after, Position) else None
            return
        if after == "latest":
            reader.seq = state.head
        reader.end_from = state.final_seq if state.ended else state.final_seq + 1
        if reader.epoch not in {None, state.epoch}:
            reader.owed = "epoch_changed"
        elif reader.seq > state.head:
            reader.owed, reader.seq = "future_position", state.head
        elif state.oldest > reader.seq + 1:
            reader.owed = "evicted"
        reader.epoch = state.epoch
        moved = reader.owed in {"epoch_changed", "evicted"}
        place = (state.head if reader.on_gap == "tail" else state.oldest - 1) if moved else reader.seq
        reader.over = not reader.follow and state.ended and place >= state.final_seq

    def must_fail(self, reader: Reader) -> None:
        for _ in range(2):
            try:
                self.loop.run_until_complete(reader.subscription.next_page(3))
            except GapError:
                continue
            raise AssertionError("a reader that shall fail was served")
        reader.done = True

    # --- reading ------------------------------------------------------------------------------------------------

    @rule(reader=readers, limit=st.integers(1, KEPT + 2))
    def read(self, reader: Reader, limit: int) -> None:
        if reader.done:
            reader.subscription.close()
            return
        state = self.state()
        if not reader.attached:
            self.expect(reader, state)
        owed = self.owed(reader, state)
        if owed is not None and reader.on_gap == "fail":
            self.must_fail(reader)
            return
        page = self.loop.run_until_complete(self.page_now(reader.subscription, limit))
        if page is None:
            self.check_wait(reader, owed, state)
            return
        assert page.records or page.gap or page.ended
        assert page.position == reader.subscription.position
        assert (page.gap.reason if page.gap else None) == owed
        if page.gap is not None:
            self.check_gap(reader, page, page.gap, state)
        self.check_records(reader, page)
        self.check_end(reader, page, state)

    def owed(self, reader: Reader, state: LogState | None) -> GapReason | None:
        """Return the gap that a read now must report."""
        if state is None or reader.over:
            return reader.owed
        if reader.epoch not in {None, state.epoch}:
            return "epoch_changed"
        return reader.owed or ("evicted" if state.oldest > reader.seq + 1 else None)

    async def page_now(self, subscription: Subscription, limit: int) -> Page | None:
        """The next page, or None when a reader would wait. The wait is cancelled, which must lose nothing."""
        task = asyncio.ensure_future(subscription.next_page(limit))
        for _ in range(10):
            await asyncio.sleep(0)
        if task.done():
            return task.result()
        task.cancel()
        await asyncio.wait([task])
        return None

    def check_wait(self, reader: Reader, owed: GapReason | None, state: LogState | None) -> None:
        """A reader may wait only where there is nothing for it: no update, no gap, no end."""
        assert owed is None
        assert not reader.over
        if state is not None:
            assert (reader.epoch or state.epoch, reader.seq) == (state.epoch, state.head)
            assert reader.follow or not state.ended or state.final_seq < reader.end_from

    def check_gap(self, reader: Reader, page: Page, gap: Gap, state: LogState | None) -> None:
        """Check that a gap begins right after the reader's position and covers exactly the missing updates."""
        assert gap.first == reader.seq + 1
        reader.owed = None
        if page.position is None:
            assert state is None
            reader.epoch, reader.seq = None, 0
            return
        if reader.epoch != page.position.epoch:
            assert reader.epoch is None or gap.reason == "epoch_changed"
            if reader.epoch is not None:
                reader.end_from = 1  # it had begun to read another epoch: any end in this one comes after that
            reader.epoch = page.position.epoch
        reader.seq = page.records[0].seq - 1 if page.records else page.position.seq
        if gap.reason == "epoch_changed":
            assert gap.last is None
        if gap.reason == "evicted" and not reader.over:
            assert gap.last == reader.seq
            assert state is None or reader.on_gap == "tail" or gap.last == state.oldest - 1

    def check_records(self, reader: Reader, page: Page) -> None:
        assert not (reader.over and page.records)
        for record in page.records:
            assert not reader.done, "an update after the end"
            reader.epoch = reader.epoch or record.epoch
            assert (record.epoch, record.seq) == (reader.epoch, reader.seq + 1)
            kind, _, number = self.history[record.epoch][record.seq - 1].partition(" ")
            assert record.type == kind
            assert not number or record.update.data == int(number)
            reader.seq = record.seq
            reader.done = not reader.follow and record.type in FINAL_TYPES and record.seq >= reader.end_from

    def check_end(self, reader: Reader, page: Page, state: LogState | None) -> None:
        if page.ended and not reader.done and not reader.over:
            assert not reader.follow
            assert state is not None
            assert state.ended
            assert reader.seq == state.head
        reader.done = reader.done or reader.over or page.ended
        assert page.ended == reader.done

    @rule(reader=consumes(readers))
    def leave(self, reader: Reader) -> None:
        reader.subscription.close()
        last = self.loop.run_until_complete(reader.subscription.next_page())
        assert last.ended
        assert not last.records

    @invariant()
    def no_more_is_kept_than_shall_be(self) -> None:
        state = self.state()
        if state is not None:
            assert 1 <= state.oldest <= state.head
            assert state.head - state.oldest < KEPT


TestHub = HubMachine.TestCase
TestHub.settings = settings(max_examples=300 if os.environ.get("CI") else 100, stateful_step_count=40, deadline=None)


def test_a_reader_from_another_epoch_ends_with_the_run_that_was_open_when_it_began() -> None:
    machine = HubMachine()
    try:
        machine.open_run()
        machine.end_run("close")
        reader = machine.subscribe("other epoch", 0, "oldest", follow=False)
        assert isinstance(reader, Reader)
        machine.open_run()
        machine.read(reader, 5)
        assert not reader.done, "the earlier end is history"
        machine.end_run("close")
        machine.read(reader, 5)
        assert reader.done
    finally:
        machine.teardown()
