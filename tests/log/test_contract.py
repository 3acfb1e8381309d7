"""Contract of every log: order, positions without holes, recognized retries, reads that show gaps."""

import threading
from collections.abc import Callable
from functools import partial

import pytest

from lg_streaming.events import FINAL_TYPES
from lg_streaming.log import EventLog
from lg_streaming.log.base import ExecutionState
from tests.log.drafts import Producer, records, seqs, state_of


async def test_updates_are_numbered_from_one_in_the_order_of_their_appends(log: EventLog) -> None:
    producer = Producer(log)
    producer.append("a", "b")
    producer.append("c")
    found = await records(log)
    assert [(record.seq, record.type) for record in found] == [(1, "a"), (2, "b"), (3, "c")]


async def test_an_update_says_where_it_stands(log: EventLog) -> None:
    Producer(log).append("token", "workflow_complete")
    epoch = (await state_of(log)).epoch
    first, last = await records(log)
    assert first.update.metadata.sequence_number == 1
    assert first.update.metadata.epoch == epoch
    assert str(first.position) == f"{epoch}:1" == str(first.update.position)
    assert (first.kind, first.is_final) == ("token", False)
    assert (last.kind, last.is_final) == ("status", True)


async def test_executions_have_numbers_and_epochs_of_their_own(log: EventLog) -> None:
    Producer(log, "one").append("a", "b")
    Producer(log, "two").append("c")
    assert await seqs(log, execution_id="one") == [1, 2]
    assert await seqs(log, execution_id="two") == [1]
    assert (await state_of(log, "one")).epoch != (await state_of(log, "two")).epoch
    assert sorted(await log.executions()) == ["one", "two"]


async def test_a_batch_that_is_appended_again_is_stored_once(log: EventLog) -> None:
    producer = Producer(log)
    first = producer.append("a", "b")
    log.append(first)
    second = producer.append("c")
    log.append(first)
    log.append(second)
    assert [record.type for record in await records(log)] == ["a", "b", "c"]


async def test_the_same_number_of_another_producer_or_execution_is_another_batch(log: EventLog) -> None:
    Producer(log, name="one").append("a")
    Producer(log, name="two").append("b")
    Producer(log, "other", name="one").append("c")
    assert await seqs(log) == [1, 2]
    assert await seqs(log, execution_id="other") == [1]


@pytest.mark.row("HIVE-33")
async def test_an_update_with_a_key_that_is_there_already_is_left_out(log: EventLog) -> None:
    one, two = Producer(log, name="one"), Producer(log, name="two")
    assert one.append_keyed("a=k1", "b=k2", "c") == 0
    assert two.append_keyed("d=k2", "e=k3", "f=k3", "g=k1", "h") == 3
    assert one.append_keyed("i=k1") == 1
    assert [record.type for record in await records(log)] == ["a", "b", "c", "e", "h"]
    assert await seqs(log) == [1, 2, 3, 4, 5]


@pytest.mark.row("HIVE-33")
async def test_keys_are_an_executions_own(log: EventLog) -> None:
    Producer(log, "one").append_keyed("a=k")
    assert Producer(log, "two").append_keyed("a=k") == 0
    assert await seqs(log, execution_id="two") == [1]


@pytest.mark.row("HIVE-33")
async def test_a_key_is_forgotten_with_its_execution(log: EventLog) -> None:
    producer = Producer(log)
    producer.append_keyed("a=k")
    await log.drop("e")
    assert producer.append_keyed("b=k") == 0
    assert [record.type for record in await records(log)] == ["b"]


async def test_nobody_is_told_of_what_is_left_out(log: EventLog) -> None:
    heard: list[str] = []
    producer = Producer(log)
    producer.append_keyed("a=k")
    log.listen(heard.append)
    producer.append_keyed("a=k")
    assert heard == []


@pytest.mark.parametrize(
    ("after", "limit", "expected"),
    [
        (0, 3, [1, 2, 3]),
        (3, 3, [4, 5, 6]),
        (9, 3, [10]),
        (10, 3, []),
        (99, 3, []),
        (4, 0, []),
        (0, 99, [*range(1, 11)]),
    ],
)
async def test_a_read_gives_what_follows_up_to_its_limit(
    log: EventLog, after: int, limit: int, expected: list[int]
) -> None:
    Producer(log).append(*"abcdefghij")
    assert await seqs(log, after, limit=limit) == expected


async def test_an_execution_nobody_wrote_to_is_not_known(log: EventLog) -> None:
    assert await log.read("e", 0, 10) is None
    assert await log.state("e") is None
    assert list(await log.executions()) == []
    await log.drop("e")


async def test_a_read_brings_the_state_of_the_same_moment(log: EventLog) -> None:
    Producer(log).append("a", "b")
    found = await log.read("e", 0, 1)
    assert found is not None
    assert (found.state.oldest, found.state.head) == (1, 2)
    assert found.state == await log.state("e")


@pytest.mark.parametrize(
    ("types", "state"),
    [
        (["workflow_start"], "running"),
        (["workflow_start", "token"], "running"),
        (["workflow_start", "workflow_interrupted"], "interrupted"),
        (["workflow_start", "workflow_interrupted", "status"], "running"),
        (["workflow_start", "workflow_complete"], "completed"),
        (["workflow_start", "workflow_error"], "failed"),
        (["workflow_start", "workflow_interrupted", "workflow_cancelled"], "cancelled"),
        (["workflow_start", "workflow_abandoned"], "abandoned"),
        (["workflow_start", "workflow_error", "workflow_start"], "running"),
    ],
)
async def test_the_state_follows_the_updates(log: EventLog, types: list[str], state: ExecutionState) -> None:
    Producer(log).append(*types)
    known = await state_of(log)
    assert known.state == state
    assert known.ended == (types[-1] in FINAL_TYPES)
    assert known.final_seq == max((i for i, each in enumerate(types, 1) if each in FINAL_TYPES), default=0)


async def test_the_state_has_what_the_run_said_of_its_progress_last(log: EventLog) -> None:
    producer = Producer(log)
    told: list[str | None] = []
    for name in ("workflow_start", "progress", "progress", "workflow_progress", "progress", "note", "workflow_start"):
        producer.append(name)
        record = (await state_of(log)).progress_record
        told.append(None if record is None else f"{record.seq} {record.type}")
    assert told == [None, "2 progress", "3 progress", *["4 workflow_progress"] * 3, None]


async def test_the_first_owner_stays(log: EventLog) -> None:
    Producer(log, name="a").append("token")
    assert (await state_of(log)).owner is None
    Producer(log, name="b", owner="alice").append("token")
    Producer(log, name="c", owner="bob").append("token")
    assert (await state_of(log)).owner == "alice"


async def test_what_was_dropped_comes_back_with_a_new_epoch(log: EventLog) -> None:
    producer = Producer(log, owner="alice")
    producer.append("a", "b")
    old = await state_of(log)
    await log.drop("e")
    assert await log.state("e") is None
    assert list(await log.executions()) == []
    producer.owner = None
    producer.append("c")
    new = await state_of(log)
    assert new.epoch != old.epoch
    assert (new.oldest, new.head, new.owner) == (1, 1, None)
    assert [record.epoch for record in await records(log)] == [new.epoch]


async def test_a_listener_hears_of_every_append_and_drop_until_it_stops(log: EventLog) -> None:
    heard: list[str] = []
    stop = log.listen(heard.append)
    producer = Producer(log)
    producer.append("a")
    assert set(heard) == {"e"}
    heard.clear()
    await log.drop("e")
    assert set(heard) == {"e"}
    stop()
    heard.clear()
    producer.append("b")
    assert heard == []


async def test_what_a_listener_hears_of_can_be_read(log: EventLog) -> None:
    heads: list[int] = []

    def look() -> None:
        step = log.read("e", 0, 100).__await__()
        try:
            next(step)
        except StopIteration as answer:
            heads.append(answer.value.state.head)

    if log.blocking:
        pytest.skip("its reads wait, so a listener cannot read")
    log.listen(lambda _: look())
    producer = Producer(log)
    producer.append("a")
    producer.append("b", "c")
    assert heads == [1, 3]


async def test_many_threads_append_at_once_without_a_hole(log: EventLog) -> None:
    producers = [Producer(log, name=str(index)) for index in range(8)]
    _at_once([partial(_append_many, producer) for producer in producers])
    found = await records(log)
    assert [record.seq for record in found] == list(range(1, 8 * 100 + 1))
    assert [record.update.metadata.sequence_number for record in found] == [record.seq for record in found]
    for producer in producers:
        mine = [record.type for record in found if record.type.startswith(f"{producer.name}:")]
        assert mine == [f"{producer.name}:{index}" for index in range(100)]


async def test_a_batch_stays_together_when_threads_append_at_once(log: EventLog) -> None:
    producers = [Producer(log, name=str(index)) for index in range(4)]
    _at_once([partial(_append_pairs, producer) for producer in producers])
    types = [record.type for record in await records(log)]
    assert [first[:-2] for first in types[::2]] == [second[:-2] for second in types[1::2]]


async def test_threads_that_begin_an_execution_agree_on_its_epoch(log: EventLog) -> None:
    for round_ in range(20):
        name = f"e{round_}"
        _at_once([Producer(log, name, name=str(index)).append for index in range(4)], "token")
        assert await seqs(log, execution_id=name) == [1, 2, 3, 4]
        assert len({record.epoch for record in await records(log, execution_id=name)}) == 1


async def test_closing_twice_is_harmless(log: EventLog) -> None:
    await log.aclose()
    await log.aclose()


def _append_many(producer: Producer) -> None:
    for index in range(100):
        producer.append(f"{producer.name}:{index}")


def _append_pairs(producer: Producer) -> None:
    for index in range(50):
        producer.append(f"{producer.name}:{index}/1", f"{producer.name}:{index}/2")


def _at_once(jobs: list[Callable[..., object]], *args: object) -> None:
    barrier = threading.Barrier(len(jobs))

    def run(job: Callable[..., object]) -> None:
        barrier.wait()
        job(*args)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
