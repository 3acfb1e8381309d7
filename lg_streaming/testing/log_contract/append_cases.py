"""Cases of appending: order, numbers, repeated batches, keys, threads."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

from lg_streaming.testing.log_contract.base import LogCases
from lg_streaming.testing.log_contract.producer import Producer, append, append_all, encode_update

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["AppendCases"]


class AppendCases(LogCases):
    """Cases of `EventLog.append` and `EventLog.append_all`."""

    async def test_updates_are_numbered_from_one_in_order(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        assert await producer.append("a", "b") == 0
        assert await producer.append("c") == 0
        assert [(record.seq, record.type) for record in await self.records(log)] == [(1, "a"), (2, "b"), (3, "c")]

    async def test_executions_have_separate_numbers_and_epochs(self) -> None:
        log = self.new_log()
        await Producer(log, "one").append("a", "b")
        await Producer(log, "two").append("c")
        assert await self.seqs(log, execution_id="one") == [1, 2]
        assert await self.seqs(log, execution_id="two") == [1]
        assert (await self.state(log, "one")).epoch != (await self.state(log, "two")).epoch

    async def test_several_producers_share_the_numbers(self) -> None:
        log = self.new_log()
        one, two = Producer(log), Producer(log)
        for name in "abc":
            await one.append(f"1{name}")
            await two.append(f"2{name}")
        assert await self.types(log) == ["1a", "2a", "1b", "2b", "1c", "2c"]

    # --- repeated batches -------------------------------------------------------------------------------------

    async def test_a_repeated_batch_is_stored_once(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        first, second = producer.batch("a", "b"), producer.batch("c")
        for batch in (first, first, second, first, second):
            await append(log, batch)
        assert await self.types(log) == ["a", "b", "c"]

    async def test_a_repeated_batch_may_lack_updates(self) -> None:
        """A producer that retries leaves out its ``at-most-once`` updates."""
        log = self.new_log()
        producer = Producer(log)
        batch = producer.batch(producer.encode("a"), producer.encode("b")._replace(delivery="at-most-once"))
        await append(log, batch)
        await append(log, batch._replace(updates=batch.updates[:1]))
        assert await self.types(log) == ["a", "b"]

    async def test_a_repeated_batch_is_recognized_between_other_producers(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        batch = producer.batch("a")
        await append(log, batch)
        for _ in range(300):
            await Producer(log).append("b")
        await append(log, batch)
        assert await self.types(log) == ["a", *["b"] * 300]
        await producer.append("c")
        assert (await self.state(log)).head == 302

    async def test_a_repeated_batch_is_recognized_after_its_updates_are_evicted(self) -> None:
        log = self.new_log(max_updates=2)
        batch = Producer(log).batch("a", "b")
        await append(log, batch)
        await Producer(log).append("c", "d", "e")
        await append(log, batch)
        assert await self.types(log) == ["d", "e"]

    async def test_producers_and_executions_number_separately(self) -> None:
        log = self.new_log()
        await Producer(log, name="one").append("a")
        await Producer(log, name="two").append("b")
        await Producer(log, "other", name="one").append("c")
        assert await self.seqs(log) == [1, 2]
        assert await self.seqs(log, execution_id="other") == [1]

    # --- keys -------------------------------------------------------------------------------------------------

    async def test_an_update_is_skipped_if_its_key_is_kept(self) -> None:
        log = self.new_log()
        one, two = Producer(log), Producer(log)
        assert await one.append("a=k1", "b=k2", "c") == 0
        assert await two.append("d=k2", "e=k3", "f=k3", "g=k1", "h") == 3
        assert await one.append("i=k1") == 1
        assert await self.types(log) == ["a", "b", "c", "e", "h"]
        assert await self.seqs(log) == [1, 2, 3, 4, 5]

    async def test_a_batch_may_be_skipped_whole(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        await producer.append("a=k1", "b=k2")
        assert await producer.append("c=k1", "d=k2") == 2
        assert await producer.append("e") == 0
        assert await self.types(log) == ["a", "b", "e"]

    async def test_executions_have_separate_keys(self) -> None:
        log = self.new_log()
        await Producer(log, "one").append("a=k")
        assert await Producer(log, "two").append("a=k") == 0
        assert await self.seqs(log, execution_id="two") == [1]

    async def test_keys_are_compared_exactly(self) -> None:
        keys = [
            "k",
            "K",
            "k ",
            " k",
            "k\n",
            "k:1",
            "k\0",
            "{k}",
            "*",
            "ключ",
            "🔑",
            "e\u0301",
            "\u00e9",
            "1",
            "01",
            "k" * 500,
        ]
        log = self.new_log()
        producer = Producer(log)
        updates = [encode_update("a", key=key) for key in keys]
        assert await producer.append(*updates) == 0
        assert await producer.append(*updates) == len(keys)
        assert [record.key for record in await self.records(log)] == keys

    async def test_a_batch_may_have_thousands_of_keys(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        updates = [encode_update("a", key=f"k{n}") for n in range(6_000)]
        assert await producer.append(*updates) == 0
        assert await producer.append(*updates, "b") == 6_000
        assert await self.seqs(log, after=5_999) == [6_000, 6_001]

    async def test_a_key_is_kept_as_long_as_its_update(self) -> None:
        log = self.new_log(max_updates=2)
        producer = Producer(log)
        await producer.append("a=k1", "b=k2")
        assert await producer.append("a=k1") == 1
        await producer.append("c")
        assert await producer.append("b=k2", "d=k1") == 1
        assert await self.types(log) == ["c", "d"]

    async def test_a_key_of_an_evicted_update_of_the_same_batch_is_removed(self) -> None:
        log = self.new_log(max_updates=2)
        producer = Producer(log)
        assert await producer.append("a=k1", "b", "c", "d=k2") == 0
        assert await producer.append("e=k1", "f=k2") == 1
        assert await self.types(log) == ["d", "e"]

    async def test_a_key_is_removed_with_its_execution(self) -> None:
        log = self.new_log()
        producer = Producer(log)
        await producer.append("a=k")
        await log.drop("e")
        assert await producer.append("b=k") == 0
        assert await self.types(log) == ["b"]

    # --- several executions -----------------------------------------------------------------------------------

    async def test_batches_of_several_executions_are_appended_at_once(self) -> None:
        log = self.new_log()
        await Producer(log, "two").append("x=k")
        again = Producer(log, "three").batch("c")
        await append(log, again)
        batches = [
            Producer(log, "one").batch("a", "b"),
            Producer(log, "two").batch("y=k", "z"),
            again,
            *(Producer(log, f"more-{number}").batch("d") for number in range(50)),
        ]
        assert list(await append_all(log, batches)) == [0, 1, 0, *[0] * 50]
        assert await self.types(log, "one") == ["a", "b"]
        assert await self.types(log, "two") == ["x", "z"]
        assert await self.types(log, "three") == ["c"]
        assert await self.seqs(log, execution_id="more-49") == [1]

    async def test_no_batch_is_a_no_op(self) -> None:
        log = self.new_log()
        assert list(await append_all(log, [])) == []

    # --- threads ----------------------------------------------------------------------------------------------

    async def test_many_threads_append_without_a_hole(self) -> None:
        log = self.new_log()
        producers = [Producer(log, name=str(index)) for index in range(8)]

        def work(producer: Producer) -> None:
            for index in range(50):
                log.append(producer.batch(f"{producer.name}:{index}"))

        await _at_once([partial(work, producer) for producer in producers])
        found = await self.records(log)
        assert [record.seq for record in found] == list(range(1, 8 * 50 + 1))
        assert [record.update.metadata.sequence_number for record in found] == [record.seq for record in found]
        for producer in producers:
            own = [record.type for record in found if record.type.startswith(f"{producer.name}:")]
            assert own == [f"{producer.name}:{index}" for index in range(50)]

    async def test_a_batch_is_in_one_piece_among_threads(self) -> None:
        log = self.new_log()

        def work(producer: Producer) -> None:
            for index in range(30):
                log.append(producer.batch(*(f"{producer.name}:{index}/{part}" for part in "123")))

        await _at_once([partial(work, Producer(log, name=str(index))) for index in range(4)])
        types = [each.partition("/")[0] for each in await self.types(log)]
        assert len(types) == 4 * 30 * 3
        assert types[::3] == types[1::3] == types[2::3]

    async def test_threads_that_begin_an_execution_get_one_epoch(self) -> None:
        log = self.new_log()
        for round_ in range(10):
            name = f"e{round_}"
            jobs = [partial(log.append, Producer(log, name).batch("token")) for _ in range(4)]
            await _at_once(jobs)
            found = await self.records(log, execution_id=name)
            assert [record.seq for record in found] == [1, 2, 3, 4]
            assert len({record.epoch for record in found}) == 1


async def _at_once(jobs: Sequence[Callable[[], object]]) -> None:
    """Run functions on threads at the same time."""
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[[], object]) -> None:
        barrier.wait()
        job()

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(len(jobs)) as pool:
        await asyncio.gather(*(loop.run_in_executor(pool, run, job) for job in jobs))
