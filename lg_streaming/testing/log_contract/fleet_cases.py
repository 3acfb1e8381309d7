"""Cases of a log that several processes share: one order, notifications, and runs that one process holds."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from lg_streaming.errors import RunRefusedError
from lg_streaming.events import Position
from lg_streaming.testing.log_contract.base import LogCases
from lg_streaming.testing.log_contract.producer import Producer, append, append_all

if TYPE_CHECKING:
    from lg_streaming.log import EventLog

__all__ = ["FleetCases"]


class FleetCases(LogCases):
    """Cases of two log objects on the same data. They are skipped for a log of one process."""

    async def pair(self, **retention: float) -> tuple[EventLog, EventLog]:
        """Return two log objects, as of two processes."""
        one = self.new_log(**retention)
        two = self.connect()
        assert None is not self._harness.process_id(one) != self._harness.process_id(two) is not None
        return one, two

    # --- order and notifications ------------------------------------------------------------------------------

    async def test_appends_of_two_processes_have_one_order(self) -> None:
        one, two = await self.pair()

        async def write(log: EventLog, name: str) -> None:
            producer = Producer(log, name=name)
            for number in range(50):
                await producer.append(f"{name}:{number}", f"{name}:{number}+")

        await asyncio.gather(write(one, "one"), write(two, "two"))
        found = await self.records(one)
        assert [record.seq for record in found] == list(range(1, 201))
        assert list(await self.records(two)) == list(found)
        for name in ("one", "two"):
            own = [record.type for record in found if record.type.startswith(name)]
            assert own == [f"{name}:{number}{end}" for number in range(50) for end in ("", "+")]

    async def test_processes_share_state_keys_batches_and_ids(self) -> None:
        one, two = await self.pair()
        batch = Producer(one, owner="alice").batch("a=k1", "b")
        await append(one, batch)
        assert await append(two, batch) == 0, "a retry through another connection"
        assert await Producer(two).append("c=k1", "d=k2") == 1
        assert await self.types(one) == ["a", "b", "d"]
        assert await one.state("e") == await two.state("e")
        await self.settle_ids(two, ["e"], owner="alice")
        await two.drop("e")
        assert await one.state("e") is None

    async def test_a_watched_execution_is_notified(self) -> None:
        one, two = await self.pair()
        notified: list[str] = []
        two.listen(notified.append)
        unwatch = await self.watch(two, "e")
        for _ in range(5):
            notified.clear()
            await Producer(one).append("a")
            await self.settle(lambda: "e" in notified)
        unwatch()

    async def test_an_execution_is_watched_until_its_last_reader_leaves(self) -> None:
        one, two = await self.pair()
        notified: list[str] = []
        two.listen(notified.append)
        stops = [await self.watch(two, "e") for _ in range(3)]
        for stop in stops:
            notified.clear()
            await Producer(one).append("a")
            await self.settle(lambda: "e" in notified)
            stop()
            stop()  # repeated calls do nothing

    async def test_an_execution_is_watched_before_it_begins_and_after_it_was_dropped(self) -> None:
        one, two = await self.pair()
        notified: list[str] = []
        two.listen(notified.append)
        unwatch = await self.watch(two, "e")
        for _ in range(3):
            notified.clear()
            await Producer(one).append("a")
            await self.settle(lambda: "e" in notified)
            assert await self.seqs(two) == [1]
            await one.drop("e")
        unwatch()

    async def test_reads_have_what_was_notified(self) -> None:
        one, two = await self.pair()
        unwatch = await self.watch(two, "e")
        producer = Producer(one)
        for head in range(1, 51):
            await producer.append("a")
            await self.settle(lambda head=head: self._has(two, head))
            assert await self.seqs(two) == list(range(1, head + 1))
        unwatch()

    async def _has(self, log: EventLog, head: int) -> bool:
        found = await log.read("e", head - 1, 10)
        return found is not None and [record.seq for record in found.records] == [head]

    async def test_position_listeners_are_called_for_other_processes(self) -> None:
        one, two = await self.pair()
        notified: list[tuple[str, Position | None]] = []
        stop = two.listen_positions(lambda execution_id, before: notified.append((execution_id, before)))

        await two.ready()
        producer = Producer(one)
        await producer.append("a", "b")
        await self.settle(lambda: ("e", None) in notified)
        await producer.append("c")
        place = Position((await self.state(one)).epoch, 2)
        await self.settle(lambda: ("e", place) in notified)
        stop()

    # --- runs -------------------------------------------------------------------------------------------------

    async def test_the_process_that_opens_a_run_holds_it(self) -> None:
        one, two = await self.pair()
        holder = Producer(one, run_id="r1")
        await holder.append("workflow_start")
        for log in (one, two):
            assert (await self.state(log)).process == self._harness.process_id(one)
        await holder.append("workflow_complete")
        for log in (one, two):
            assert (await self.state(log)).process is None
        await Producer(two, run_id="r2").append("workflow_start")
        for log in (one, two):
            assert (await self.state(log)).process == self._harness.process_id(two)

    async def test_a_second_start_is_left_out_and_a_guest_adds_updates(self) -> None:
        one, two = await self.pair()
        holder, guest = Producer(one, run_id="r1"), Producer(two, run_id="r2")
        await holder.append("workflow_start", "a")
        await guest.append("workflow_start", "b")
        await guest.append("c")
        await holder.append("d")
        await guest.append("e", "workflow_complete")
        state = await self.state(two)
        assert (state.state, state.ended, state.process) == ("running", False, self._harness.process_id(one))
        await holder.append("f", "workflow_complete")
        assert await self.types(one) == ["workflow_start", *"abcdef", "workflow_complete"]
        state = await self.state(two)
        assert (state.state, state.ended, state.final_seq) == ("completed", True, 8)
        assert state.start_record is not None
        assert state.start_record.update.data["run_id"] == "r1"

    @pytest.mark.parametrize("end", ["workflow_complete", "workflow_error", "workflow_cancelled"])
    async def test_only_the_holder_ends_a_run(self, end: str) -> None:
        one, two = await self.pair()
        await Producer(one, run_id="r1").append("workflow_start")
        await Producer(two, run_id="r2").append("workflow_start", "a", end)
        assert await self.types(two) == ["workflow_start", "a"]
        assert (await self.state(one)).state == "running"

    async def test_a_run_goes_on_with_a_guest_that_takes_part(self) -> None:
        """A graph call in another process has joined the run: the run ends with the last participant."""
        one, two = await self.pair()
        holder, guest = Producer(one, run_id="r1"), Producer(two, run_id="r2")
        await holder.append("workflow_start")
        await guest.append(guest.encode("workflow_start")._replace(opening="joins"), "a")
        await holder.append("b", "workflow_complete")
        state = await self.state(one)
        assert (state.state, state.process) == ("running", self._harness.process_id(two))
        await guest.append("c", "workflow_complete")
        assert await self.types(one) == ["workflow_start", "a", "b", "c", "workflow_complete"]
        assert (await self.state(one)).process is None

    async def test_a_guest_that_only_starts_and_ends_adds_nothing(self) -> None:
        one, two = await self.pair()
        await Producer(one, run_id="r1").append("workflow_start")
        guest = Producer(two, run_id="r2")
        await guest.append("workflow_start")
        await guest.append("workflow_complete")
        assert await self.types(one) == ["workflow_start"]

    @pytest.mark.parametrize("run_id", ["r1", "r2"], ids=["same run", "run of a guest"])
    async def test_updates_are_refused_after_the_run_ended_elsewhere(self, run_id: str) -> None:
        one, two = await self.pair()
        holder, guest = Producer(one, run_id="r1"), Producer(two, run_id=run_id)
        await holder.append("workflow_start")
        await guest.append(*(["workflow_start"] if run_id == "r2" else []), "a")
        await holder.append("workflow_complete")
        with pytest.raises(RunRefusedError):
            await guest.append("b=k")
        with pytest.raises(RunRefusedError):
            await guest.append("c", "d", "workflow_complete")
        assert await self.types(one) == ["workflow_start", "a", "workflow_complete"]
        assert await Producer(two).append("e=k") == 0, "an update without a run is accepted, and no key was stored"

    async def test_a_batch_with_an_update_of_a_refused_run_is_refused_whole(self) -> None:
        one, two = await self.pair()
        await Producer(one, run_id="r1").append("workflow_start", "workflow_complete")
        refused, later = Producer(two, run_id="r1"), Producer(two, run_id="r2")
        for updates in ([later.encode("workflow_start"), refused.encode("a=k")], [later.encode("b")]):
            mixed = [refused.encode("late=k2"), *updates]
            for each in (mixed, mixed[::-1]):
                with pytest.raises(RunRefusedError):
                    await refused.append(*each)
        state = await self.state(two)
        assert (state.head, state.state, state.process) == (2, "completed", None)
        assert await later.append("workflow_start", "a=k", "b=k2", "workflow_complete") == 0
        run = ["workflow_start", "workflow_complete"]
        assert await self.types(one) == [*run, "workflow_start", "a", "b", "workflow_complete"]

    @pytest.mark.parametrize("kept", [False, True], ids=["interrupted", "kept"])
    async def test_one_process_takes_over_a_run_and_the_former_holder_is_refused(self, *, kept: bool) -> None:
        one, two = await self.pair()
        first, second = self._harness.process_id(one), self._harness.process_id(two)
        holder, taker = Producer(one, run_id="r1"), Producer(two, run_id="r1")
        await holder.append("workflow_start", "a", *([] if kept else ["workflow_interrupted"]))
        if kept:
            assert await two.take_over("e", first) is None, "a run at work is not taken over"
            assert not await two.keep_open("e")
            assert await one.keep_open("e")
        assert await two.take_over("e", second) is None, "the named process has to hold the run"
        takers = await asyncio.gather(two.take_over("e", first), two.take_over("e", first))
        assert sorted(takers, key=str) == [None, "r1"]
        assert (await self.state(one)).process == second
        with pytest.raises(RunRefusedError):
            await holder.append("b")
        await taker.append("c", "workflow_complete")
        assert (await self.types(one))[-2:] == ["c", "workflow_complete"]
        assert await one.take_over("e", second) is None

    async def test_a_later_run_is_not_kept(self) -> None:
        one, two = await self.pair()
        await Producer(one, run_id="r1").append("workflow_start")
        assert await one.keep_open("e")
        await Producer(one, run_id="r1").append("workflow_complete")
        assert not await one.keep_open("e")
        await Producer(one, run_id="r2").append("workflow_start")
        assert await two.take_over("e", self._harness.process_id(one)) is None

    async def test_a_start_of_the_first_run_is_refused_after_the_end_of_a_run(self) -> None:
        one, two = await self.pair()
        first, second = Producer(one, run_id="r1"), Producer(two, run_id="r2")
        start = second.encode("workflow_start")._replace(opening="first")
        await first.append("workflow_start")
        await second.append(start, "a")  # while it is open, it is a guest
        await first.append("workflow_complete")
        with pytest.raises(RunRefusedError):
            await second.append(start, "b")
        assert await self.types(one) == ["workflow_start", "a", "workflow_complete"]
        other = Producer(two, "other", run_id="r3")
        await other.append(start._replace(scope=other.encode("x").scope), "c")
        assert await self.types(one, "other") == ["workflow_start", "c"]

    async def test_an_exclusive_start_is_refused_while_another_process_has_an_open_run(self) -> None:
        one, two = await self.pair()
        first, second = Producer(one, run_id="r1"), Producer(two, run_id="r2")
        start = second.encode("workflow_start")._replace(opening="exclusive")
        await first.append("workflow_start")
        for update in ("a", "workflow_interrupted"):  # also while it waits for a human
            await first.append(update)
            with pytest.raises(RunRefusedError):
                await second.append(start, "b")
        await first.append("workflow_complete")
        await second.append(start, "b")
        state = await self.state(one)
        assert (state.state, state.process) == ("running", self._harness.process_id(two))
        await second.append("workflow_complete")
        run = ["workflow_start", "b", "workflow_complete"]
        assert await self.types(one) == ["workflow_start", "a", "workflow_interrupted", "workflow_complete", *run]

    async def test_of_exclusive_starts_at_once_one_is_accepted(self) -> None:
        logs = await self.pair()
        producers = [Producer(log, run_id=f"r{number}") for number, log in enumerate(logs)]
        starts = [each.encode("workflow_start")._replace(opening="exclusive") for each in producers]
        appends = (each.append(start) for each, start in zip(producers, starts, strict=True))
        results = await asyncio.gather(*appends, return_exceptions=True)
        assert sorted(isinstance(each, RunRefusedError) for each in results) == [False, True]
        assert await self.types(logs[0]) == ["workflow_start"]

    async def test_updates_are_refused_while_a_later_run_is_open(self) -> None:
        one, two = await self.pair()
        first = Producer(one, run_id="r1")
        await first.append("workflow_start", "workflow_complete")
        await Producer(one, run_id="r2").append("workflow_start")
        with pytest.raises(RunRefusedError):
            await Producer(two, run_id="r1").append("late")
        assert await self.types(one) == ["workflow_start", "workflow_complete", "workflow_start"]

    async def test_a_repeated_batch_is_not_refused(self) -> None:
        """A reply was lost, and the run ended before the producer tries again."""
        one, two = await self.pair()
        holder = Producer(one, run_id="r1")
        guest = Producer(two, run_id="r1")
        start, middle, end = holder.batch("workflow_start"), guest.batch("a"), holder.batch("b", "workflow_complete")
        for batch, log in ((start, one), (middle, two), (end, one)):
            await append(log, batch)
        for batch, log in ((start, one), (middle, two), (end, one)):
            assert await append(log, batch) == 0
        await Producer(two, run_id="r2").append("workflow_start")
        assert await append(one, end) == 0
        assert await self.types(two) == ["workflow_start", "a", "b", "workflow_complete", "workflow_start"]

    async def test_an_interrupted_run_may_be_taken_over(self) -> None:
        one, two = await self.pair()
        first, second = Producer(one, run_id="r1"), Producer(two, run_id="r2")
        await first.append("workflow_start", "workflow_interrupted")
        await second.append("workflow_start", "a")
        state = await self.state(one)
        assert (state.state, state.process) == ("running", self._harness.process_id(two))
        await second.append("b", "workflow_complete")
        state = await self.state(one)
        assert (state.state, state.ended) == ("completed", True)
        with pytest.raises(RunRefusedError):
            await first.append("late")
        assert [each for each in await self.types(one) if not each.startswith("workflow")] == ["a", "b"]

    async def test_an_interrupted_run_goes_on_in_its_own_process(self) -> None:
        one, two = await self.pair()
        holder = Producer(one, run_id="r1")
        await holder.append("workflow_start", "workflow_interrupted")
        assert (await self.state(two)).process == self._harness.process_id(one)
        await holder.append("status", "a", "workflow_complete")
        state = await self.state(two)
        assert (state.head, state.state, state.process) == (5, "completed", None)

    async def test_rooms_have_no_holder(self) -> None:
        one, two = await self.pair()
        first, second = Producer(one, "room:r", run_id="r1"), Producer(two, "room:r", run_id="r2")
        await first.append("workflow_start", "a")
        await second.append("workflow_start", "b")
        await first.append("c")
        await second.append("d")
        found = [each for each in await self.types(one, "room:r") if each != "workflow_start"]
        assert found == ["a", "b", "c", "d"]
        assert (await self.state(two, "room:r")).process is None

    async def test_another_owner_is_refused(self) -> None:
        one, two = await self.pair()
        await Producer(one, owner="alice", run_id="r1").append("workflow_start", "workflow_complete")
        with pytest.raises(RunRefusedError):
            await Producer(two, owner="bob", run_id="r2").append("workflow_start", "a")
        await Producer(two, owner="alice", run_id="r3").append("workflow_start")
        assert await self.types(one) == ["workflow_start", "workflow_complete", "workflow_start"]
        assert (await self.state(one)).owner == "alice"
        assert list(await one.list_ids(owner="bob")) == []

    async def test_a_refused_batch_does_not_stop_the_others(self) -> None:
        one, two = await self.pair()
        await Producer(one, "b", run_id="r1").append("workflow_start", "workflow_complete")
        batches = [
            Producer(two, "a", run_id="r2").batch("workflow_start"),
            Producer(two, "b", run_id="r1").batch("late"),
            Producer(two, "c").batch("x"),
        ]
        first, refused, last = await append_all(two, batches)
        assert (first, last) == (0, 0)
        assert isinstance(refused, RunRefusedError)
        assert [(await self.state(one, name)).head for name in "abc"] == [1, 2, 1]

    async def test_lost_data_begins_anew_in_every_process(self) -> None:
        one, two = await self.pair()
        holder = Producer(one, run_id="r1")
        await holder.append("workflow_start", "a")
        notified: list[str] = []
        two.listen(notified.append)
        unwatch = await self.watch(two, "e")
        old = await self.state(two)
        await self.lose_data()
        await Producer(one).append("b")
        await self.settle(lambda: self._is_in(two, old.epoch))
        assert await self.types(two) == ["b"]
        assert "e" in notified
        unwatch()

    async def test_a_run_and_its_guests_continue_after_lost_data(self) -> None:
        one, two = await self.pair()
        holder, guest = Producer(one, run_id="r1"), Producer(two, run_id="r2")
        await holder.append("workflow_start")
        await guest.append(guest.encode("workflow_start")._replace(opening="joins"), "a")
        await self.lose_data()
        await holder.append("b")
        await guest.append("c")
        await holder.append("d", "workflow_complete")
        assert (await self.state(one)).process == self._harness.process_id(two)
        await guest.append("workflow_complete")
        assert await self.types(one) == ["b", "c", "d", "workflow_complete"]

    async def _is_in(self, log: EventLog, old_epoch: str) -> bool:
        state = await log.state("e")
        return state is not None and state.epoch != old_epoch
