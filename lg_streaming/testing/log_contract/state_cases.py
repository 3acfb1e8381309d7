"""Cases of the state of an execution: its last run, records, owner, epochs, and the closing of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lg_streaming.errors import RunRefusedError
from lg_streaming.events import FINAL_TYPES
from lg_streaming.testing.log_contract.base import LogCases
from lg_streaming.testing.log_contract.producer import Producer, encode_update

if TYPE_CHECKING:
    from lg_streaming.log import EventLog
    from lg_streaming.log.base import ExecutionState

__all__ = ["StateCases"]


class StateCases(LogCases):
    """Cases of `EventLog.state`, `EventLog.drop` and `EventLog.aclose`."""

    @pytest.mark.parametrize(
        ("types", "state"),
        [
            (["token"], "running"),
            (["workflow_start"], "running"),
            (["workflow_start", "token"], "running"),
            (["workflow_start", "workflow_interrupted"], "interrupted"),
            (["workflow_start", "workflow_interrupted", "status"], "running"),
            (["workflow_start", "workflow_interrupted", "human_prompt", "human_response"], "interrupted"),
            (["workflow_start", "workflow_interrupted", "workflow_progress"], "interrupted"),
            (["workflow_start", "workflow_complete"], "completed"),
            (["workflow_start", "workflow_error"], "failed"),
            (["workflow_start", "workflow_interrupted", "workflow_cancelled"], "cancelled"),
            (["workflow_start", "workflow_abandoned"], "abandoned"),
            (["workflow_start", "workflow_complete", "token"], "completed"),
            (["workflow_start", "workflow_error", "workflow_start"], "running"),
            (["workflow_start", "workflow_error", "workflow_start", "workflow_complete"], "completed"),
        ],
        ids=lambda value: value if isinstance(value, str) else "-".join(value),
    )
    @pytest.mark.parametrize("together", [True, False], ids=["one batch", "several batches"])
    async def test_the_state_follows_the_updates(
        self, types: list[str], state: ExecutionState, *, together: bool
    ) -> None:
        log = self.new_log()
        producer = Producer(log)
        for batch in [types] if together else [[each] for each in types]:
            await producer.append(*batch)
        found = await self.state(log)
        assert found.state == state
        assert found.ended == (types[-1] in FINAL_TYPES)
        assert found.final_seq == max((i for i, each in enumerate(types, 1) if each in FINAL_TYPES), default=0)

    async def test_the_newest_progress_is_kept(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        found: list[str | None] = []
        for name in (
            "workflow_start",
            "progress",
            "progress",
            "workflow_progress",
            "progress",
            "note",
            "workflow_start",
        ):
            await producer.append(name)
            record = (await self.state(log)).progress_record
            found.append(None if record is None else f"{record.seq} {record.type}")
        assert found == [None, "2 progress", "3 progress", *["4 workflow_progress"] * 3, None]

    @pytest.mark.parametrize("together", [True, False], ids=["one batch", "several batches"])
    async def test_records_are_kept_when_their_updates_are_evicted(self, *, together: bool) -> None:
        log = self.new_log(max_updates=2)
        producer = Producer(log)
        start = encode_update("workflow_start", {"run_id": "r", "metadata": {"model": "m", "x": "\u00e9\u2028"}})
        progress = encode_update("workflow_progress", {"progress": 40.5})
        updates = [start, progress, *["token"] * 5]
        for batch in [updates] if together else [[each] for each in updates]:
            await producer.append(*batch)
        state = await self.state(log)
        assert (state.oldest, state.head) == (6, 7)
        assert state.start_record is not None
        assert state.progress_record is not None
        assert (state.start_record.seq, state.start_record.type) == (1, "workflow_start")
        assert (state.progress_record.seq, state.progress_record.type) == (2, "workflow_progress")
        assert state.start_record.epoch == state.progress_record.epoch == state.epoch
        assert state.metadata == {"model": "m", "x": "\u00e9\u2028"}
        assert state.progress == 40.5

    async def test_the_number_of_the_end_is_kept_when_it_is_evicted(self) -> None:
        log = self.new_log(max_updates=2)
        await Producer(log).append("workflow_start", "workflow_complete", "workflow_start", *["token"] * 3)
        state = await self.state(log)
        assert (state.oldest, state.final_seq, state.state, state.ended) == (5, 2, "running", False)

    async def test_times_are_those_of_the_log_and_of_the_newest_update(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        await producer.append(encode_update("a", timestamp=2_000.0))
        first = await self.state(log)
        assert first.started_at == pytest.approx(self._harness.now(), abs=60)
        assert first.updated_at == pytest.approx(2_000.0, abs=0.002)
        await producer.append(encode_update("b", timestamp=2_500.25), encode_update("c", timestamp=3_000.5))
        second = await self.state(log)
        assert second.started_at == first.started_at
        assert second.updated_at == pytest.approx(3_000.5, abs=0.002)

    # --- owner and epoch --------------------------------------------------------------------------------------

    async def test_the_first_owner_stays(self) -> None:
        log = self.new_log()
        await Producer(log).append("token")
        assert (await self.state(log)).owner is None
        await Producer(log, owner="alice").append("token")
        assert (await self.state(log)).owner == "alice"
        await Producer(log).append("token")
        try:
            await Producer(log, owner="bob").append("token")
        except RunRefusedError:
            assert (await self.state(log)).head == 3
        assert (await self.state(log)).owner == "alice"

    @pytest.mark.parametrize("owner", ["ключ 🦊", "a:b", "{a}", "*", "a" * 1_000])
    async def test_an_owner_may_be_any_text(self, owner: str) -> None:
        log = self.new_log()
        await Producer(log, owner=owner).append("token")
        assert (await self.state(log)).owner == owner
        await self.settle_ids(log, ["e"], owner=owner)
        assert list(await log.list_ids(owner=owner + "x")) == []

    async def test_a_dropped_execution_has_a_new_epoch(self) -> None:
        log = self.new_log()
        producer = Producer(log, owner="alice")
        await producer.append("workflow_start", "b", "workflow_complete")
        old = await self.state(log)
        await log.drop("e")
        await self._check_new_life(log, producer, old.epoch)

    async def test_an_open_run_may_be_dropped(self) -> None:
        log = self.new_log()
        await Producer(log, run_id="r1").append("workflow_start", "token")
        await log.drop("e")
        for _ in range(3):
            assert await log.state("e") is None
            assert list(await log.list_ids()) == []

    async def test_lost_data_has_a_new_epoch(self) -> None:
        log = self.new_log()
        producer = Producer(log, owner="alice")
        await producer.append("workflow_start", "b", "workflow_complete")
        old = await self.state(log)
        assert list(await log.list_ids(owner="alice")) == ["e"]
        await self.lose_data()
        await self._check_new_life(log, producer, old.epoch)

    async def _check_new_life(self, log: EventLog, producer: Producer, old_epoch: str) -> None:
        assert await log.state("e") is None
        assert await log.read("e", 0, 10) is None
        assert await log.read("e", 2, 10) is None
        assert list(await log.executions()) == []
        assert list(await log.list_ids(owner="alice")) == []
        producer.owner = None
        await producer.append("c")
        new = await self.state(log)
        assert new.epoch != old_epoch
        assert (new.oldest, new.head, new.owner, new.state, new.final_seq) == (1, 1, None, "running", 0)
        assert (new.start_record, new.progress_record) == (None, None)
        assert [(record.epoch, record.seq) for record in await self.records(log)] == [(new.epoch, 1)]

    async def test_each_epoch_is_new(self) -> None:
        log = self.new_log()
        epochs: set[str] = set()
        for _ in range(20):
            await Producer(log).append("token")
            epochs.add((await self.state(log)).epoch)
            await log.drop("e")
        assert len(epochs) == 20

    # --- closing ----------------------------------------------------------------------------------------------

    async def test_closing_twice_does_nothing(self) -> None:
        log = self.new_log()
        await log.aclose()
        await log.aclose()

    async def test_closing_after_use_twice_does_nothing(self) -> None:
        log = self.new_log()
        stop, unwatch = log.listen(lambda _: None), await self.watch(log, "e")
        await Producer(log).append("token")
        assert await self.seqs(log) == [1]
        await log.aclose()
        await log.aclose()
        stop()
        unwatch()

    async def test_a_closed_log_may_be_used_again(self) -> None:
        log = self.new_log()
        await Producer(log, "before").append("token")
        await log.aclose()
        for name in ("one", "two"):
            notified: list[str] = []
            stop, unwatch = log.listen(notified.append), await self.watch(log, name)
            await Producer(log, name).append("a", "b")
            await self.settle(lambda name=name, notified=notified: name in notified)
            assert await self.types(log, name) == ["a", "b"]
            stop()
            unwatch()
            await log.aclose()
