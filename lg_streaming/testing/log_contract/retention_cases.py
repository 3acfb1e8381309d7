"""Cases of retention: limits, expiry, and the oldest number that is kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from lg_streaming.testing.log_contract.base import LogCases
from lg_streaming.testing.log_contract.producer import Producer, encode_update, trim

if TYPE_CHECKING:
    from lg_streaming.log import EventLog

__all__ = ["RetentionCases"]


class RetentionCases(LogCases):
    """Cases of limits and expiry, with `EventLog.trim`."""

    async def test_no_more_than_max_updates_are_kept(self) -> None:
        log = self.new_log(max_updates=3)
        producer = Producer(log)
        for count in range(1, 10):
            await producer.append("token")
            assert await self.seqs(log) == list(range(max(1, count - 2), count + 1))
            state = await self.state(log)
            assert (state.oldest, state.head) == (max(1, count - 2), count)

    async def test_the_end_of_a_large_batch_is_kept(self) -> None:
        log = self.new_log(max_updates=3)
        producer = Producer(log)
        await producer.append(*"abcdefgh")
        assert await self.types(log) == ["f", "g", "h"]
        await producer.append("i")
        assert await self.types(log) == ["g", "h", "i"]
        assert (await self.state(log)).oldest == 7

    async def test_exactly_the_end_of_a_long_stream_is_kept(self) -> None:
        log = self.new_log(max_updates=10)
        producer = Producer(log)
        for size in (1, 3, 100, 7, 10, 11, 2, 250, 1):
            await producer.append(*["token"] * size)
            state = await self.state(log)
            assert await self.seqs(log) == list(range(max(1, state.head - 9), state.head + 1))
            assert state.oldest == max(1, state.head - 9)
            assert await self.seqs(log, state.head - 4) == list(range(max(1, state.head - 3), state.head + 1))

    async def test_a_read_before_the_oldest_begins_at_the_oldest(self) -> None:
        log = self.new_log(max_updates=3)
        await Producer(log).append(*"abcdefgh")
        assert await self.seqs(log, 0, limit=2) == [6, 7]
        assert await self.seqs(log, 5, limit=2) == [6, 7]
        assert await self.seqs(log, 6, limit=2) == [7, 8]

    async def test_a_watched_execution_is_read_from_the_oldest(self) -> None:
        log = self.new_log(max_updates=3)
        producer = Producer(log)
        await producer.append("token")
        unwatch = await self.watch(log, "e")
        for head in range(2, 9):
            await producer.append("token")
            await self.settle(lambda head=head: self._is_head(log, head))
            oldest = max(1, head - 2)
            assert (await self.state(log)).oldest == oldest
            assert await self.seqs(log, 0, limit=2) == [oldest, oldest + 1]
            assert await self.seqs(log, oldest) == list(range(oldest + 1, head + 1))
        unwatch()

    @staticmethod
    async def _is_head(log: EventLog, head: int) -> bool:
        state = await log.state("e")
        return state is not None and state.head == head

    async def test_no_more_than_max_bytes_are_kept(self) -> None:
        log = self.new_log(max_bytes=100_000)
        producer = Producer(log)
        for number in range(40):
            await producer.append(*(encode_update("token", "x" * 4_000) for _ in range(1 + number % 3)))
            found = await self.records(log)
            assert sum(len(record.json) for record in found) <= 100_000
            assert found[0].seq == (await self.state(log)).oldest
            assert [record.seq for record in found] == list(range(found[0].seq, found[-1].seq + 1))
        assert sum(len(record.json) for record in await self.records(log)) > 50_000, "too much is evicted"

    async def test_the_newest_update_is_kept_at_any_size(self) -> None:
        log = self.new_log(max_bytes=1)
        producer = Producer(log)
        await producer.append("a")
        assert await self.seqs(log) == [1]
        await producer.append("b", "c")
        assert await self.seqs(log) == [3]
        assert (await self.state(log)).oldest == 3

    async def test_defaults_keep_a_whole_run(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        for _ in range(10):
            await producer.append(*["token"] * 500)
        assert await self.seqs(log) == list(range(1, 5_001))

    # --- expiry -----------------------------------------------------------------------------------------------

    async def test_an_ended_execution_keeps_its_final_update(self) -> None:
        log = self.new_log(ttl=100, record_ttl=1_000)
        await Producer(log, owner="alice").append("workflow_start", "token", "workflow_complete")
        before = await self.state(log)
        await self.advance(log, 80)
        assert await self.seqs(log) == [1, 2, 3]
        await self.advance(log, 30)
        assert await self.types(log) == ["workflow_complete"]
        after = await self.state(log)
        assert (after.oldest, after.head, after.epoch, after.owner) == (3, 3, before.epoch, "alice")
        assert (after.state, after.ended, after.final_seq) == ("completed", True, 3)
        assert after.start_record == before.start_record

    async def test_an_ended_execution_is_removed_after_record_ttl(self) -> None:
        log = self.new_log(ttl=100, record_ttl=1_000)
        await Producer(log, owner="alice").append("workflow_start", "workflow_error")
        await self.advance(log, 900)
        assert await log.state("e") is not None
        await self.advance(log, 200)
        await self._must_be_unknown(log)
        assert list(await log.list_ids(owner="alice")) == []

    async def test_a_removed_execution_begins_anew(self) -> None:
        log = self.new_log(ttl=100, record_ttl=1_000)
        producer = Producer(log, owner="alice")
        await producer.append("workflow_start", "a=k", "workflow_complete")
        before = await self.state(log)
        await self.advance(log, 1_100)
        await self._must_be_unknown(log)
        assert await producer.append("b=k") == 0
        after = await self.state(log)
        assert after.epoch != before.epoch
        assert (after.oldest, after.head, after.state) == (1, 1, "running")

    @pytest.mark.parametrize("last", ["workflow_start", "token", "workflow_interrupted"])
    async def test_updates_of_an_open_run_do_not_expire(self, last: str) -> None:
        log = self.new_log(ttl=100, record_ttl=1_000)
        await Producer(log).append("workflow_start", last)
        await self.advance(log, 900)
        assert await self.seqs(log) == [1, 2]

    async def test_each_append_postpones_the_expiry(self) -> None:
        log = self.new_log(ttl=100, record_ttl=1_000)
        producer = Producer(log)
        await producer.append("workflow_start", "workflow_complete")
        await self.advance(log, 80)
        await producer.append("workflow_start", "workflow_complete")
        await self.advance(log, 80)
        assert await self.seqs(log) == [1, 2, 3, 4]

    async def test_an_open_run_keeps_the_updates_of_the_run_before(self) -> None:
        log = self.new_log(ttl=100, record_ttl=1_000)
        producer = Producer(log)
        await producer.append("workflow_start", "workflow_complete")
        await self.advance(log, 80)
        await producer.append("workflow_start", "token")
        await self.advance(log, 500)
        assert await self.seqs(log) == [1, 2, 3, 4]

    async def test_numbers_go_on_after_updates_expired(self) -> None:
        log = self.new_log(ttl=100, record_ttl=1_000)
        producer = Producer(log)
        await producer.append("workflow_start", "a=k", "workflow_complete")
        epoch = (await self.state(log)).epoch
        await self.advance(log, 500)
        assert await producer.append("workflow_start", "b=k") == 0, "the key is removed with its update"
        state = await self.state(log)
        assert (state.epoch, state.head, state.state) == (epoch, 5, "running")
        assert state.oldest in {3, 4}, "the final update of the run before may be removed now"
        assert await self.seqs(log) == list(range(state.oldest, 6))

    async def test_trimming_again_changes_nothing(self) -> None:
        log = self.new_log(ttl=100, record_ttl=1_000)
        await Producer(log).append("workflow_start", "workflow_complete")
        await Producer(log, "running").append("workflow_start")
        await self.advance(log, 500)
        for _ in range(3):
            await trim(log)
            assert await self.seqs(log) == [2]
            assert await self.seqs(log, execution_id="running") == [1]

    async def test_trim_may_be_limited(self) -> None:
        log = self.new_log(ttl=100, record_ttl=1_000)
        names = [f"e{number}" for number in range(7)]
        for name in names:
            await Producer(log, name).append("workflow_start", "workflow_complete")
        if not await self._harness.advance(1_100):
            pytest.skip("the harness does not let time pass")
        rounds = 0
        while await trim(log, 2):
            rounds += 1
            assert rounds <= len(names)
        for name in names:
            await self._must_be_unknown(log, name)

    async def _must_be_unknown(self, log: EventLog, execution_id: str = "e") -> None:
        assert await log.state(execution_id) is None
        assert await log.read(execution_id, 0, 10) is None
        await self.settle(lambda: self._is_removed_from_index(log, execution_id))

    @staticmethod
    async def _is_removed_from_index(log: EventLog, execution_id: str) -> bool:
        await trim(log)
        return execution_id not in {*await log.list_ids(), *await log.executions()}
