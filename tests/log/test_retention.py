"""Retention of every log: limits, expiry, and gaps in reads."""

import pytest

from lg_streaming.log import EventLog
from lg_streaming.log.run_state import memory_of
from tests.log.drafts import Producer, records, seqs, state_of
from tests.log.factories import Clock, MakeLog


async def test_no_more_than_max_updates_are_kept(make_log: MakeLog) -> None:
    log = make_log(max_updates=3)
    producer = Producer(log)
    for count in range(1, 10):
        producer.append("token")
        assert await seqs(log) == list(range(max(1, count - 2), count + 1))
        assert (await state_of(log)).oldest == max(1, count - 2)
        assert (await state_of(log)).head == count


async def test_a_batch_larger_than_the_log_leaves_its_end(make_log: MakeLog) -> None:
    log = make_log(max_updates=3)
    Producer(log).append(*"abcdefgh")
    assert [record.type for record in await records(log)] == ["f", "g", "h"]


async def test_a_long_stream_keeps_exactly_its_end(make_log: MakeLog) -> None:
    log = make_log(max_updates=10)
    producer = Producer(log)
    for _ in range(60):
        producer.append(*["token"] * 100)
        head = (await state_of(log)).head
        assert await seqs(log) == list(range(head - 9, head + 1))
        assert await seqs(log, head - 4) == list(range(head - 3, head + 1))


async def test_no_more_than_max_bytes_are_kept(make_log: MakeLog) -> None:
    log = make_log(max_bytes=10_000)
    producer = Producer(log)
    for _ in range(100):
        producer.append("token")
        assert sum(memory_of(record) for record in await records(log)) <= 10_000
    sizes = [memory_of(record) for record in await records(log)]
    assert sum(sizes) + sizes[0] > 10_000, "it lets go of no more than it must"


async def test_the_newest_update_is_kept_however_large(make_log: MakeLog) -> None:
    log = make_log(max_bytes=1)
    producer = Producer(log)
    producer.append("a")
    assert await seqs(log) == [1]
    producer.append("b", "c")
    assert await seqs(log) == [3]


async def test_a_read_below_the_oldest_starts_at_the_oldest(make_log: MakeLog) -> None:
    log = make_log(max_updates=3)
    Producer(log).append(*"abcdefgh")
    assert await seqs(log, 0, limit=2) == [6, 7]
    assert await seqs(log, 5, limit=2) == [6, 7]
    assert await seqs(log, 6, limit=2) == [7, 8]


async def test_an_ended_execution_keeps_its_state_and_final_update(make_log: MakeLog, clock: Clock) -> None:
    log = make_log(ttl=10, record_ttl=100)
    Producer(log, owner="alice").append("workflow_start", "token", "workflow_complete")
    before = await state_of(log)
    clock.now += 9
    log.trim()
    assert await seqs(log) == [1, 2, 3]
    clock.now += 1
    log.trim()
    assert [record.type for record in await records(log)] == ["workflow_complete"]
    after = await state_of(log)
    assert (after.oldest, after.head, after.epoch, after.owner) == (3, 3, before.epoch, "alice")
    assert after.state == "completed"
    assert after.ended


@pytest.mark.row("PYEV-D11")
async def test_an_ended_execution_is_forgotten_after_record_ttl(make_log: MakeLog, clock: Clock) -> None:
    log = make_log(ttl=10, record_ttl=100)
    heard: list[str] = []
    log.listen(heard.append)
    Producer(log).append("workflow_start", "workflow_error")
    clock.now += 99
    log.trim()
    assert await log.state("e") is not None
    clock.now += 1
    log.trim()
    assert await log.state("e") is None
    assert list(await log.executions()) == []


@pytest.mark.parametrize("last", ["workflow_start", "token", "workflow_interrupted"])
async def test_a_running_execution_does_not_age(make_log: MakeLog, clock: Clock, last: str) -> None:
    log = make_log(ttl=10, record_ttl=100)
    Producer(log).append("workflow_start", last)
    clock.now += 99
    log.trim()
    assert await seqs(log) == [1, 2]


async def test_every_append_begins_the_time_anew(make_log: MakeLog, clock: Clock) -> None:
    log = make_log(ttl=10, record_ttl=100)
    producer = Producer(log, clock=clock)
    producer.append("workflow_start", "workflow_complete")
    clock.now += 9
    producer.append("workflow_start", "workflow_complete")
    clock.now += 9
    log.trim()
    assert await seqs(log) == [1, 2, 3, 4]
    assert (await state_of(log)).updated_at == clock.now - 9
    assert (await state_of(log)).started_at == clock.now - 18


async def test_an_aged_execution_goes_on_with_its_numbers(make_log: MakeLog, clock: Clock) -> None:
    log = make_log(ttl=10, record_ttl=100)
    producer = Producer(log)
    producer.append("workflow_start", "token", "workflow_complete")
    epoch = (await state_of(log)).epoch
    clock.now += 50
    log.trim()
    producer.append("workflow_start")
    assert await seqs(log) == [3, 4]
    assert (await state_of(log)).epoch == epoch


async def test_trimming_again_and_again_changes_nothing(make_log: MakeLog, clock: Clock) -> None:
    log = make_log(ttl=10, record_ttl=100)
    Producer(log).append("workflow_start", "workflow_complete")
    Producer(log, "running").append("workflow_start")
    clock.now += 50
    for _ in range(3):
        log.trim()
        assert await seqs(log) == [2]
        assert await seqs(log, execution_id="running") == [1]


async def test_defaults_keep_a_whole_run(log: EventLog) -> None:
    Producer(log).append(*["token"] * 5_000)
    assert len(await seqs(log)) == 5_000


@pytest.mark.row("HIVE-33")
async def test_a_key_is_kept_as_long_as_its_update(make_log: MakeLog) -> None:
    log = make_log(max_updates=2)
    producer = Producer(log)
    producer.append_keyed("a=k1", "b=k2")
    assert producer.append_keyed("a=k1") == 1
    producer.append("c")
    assert producer.append_keyed("b=k2", "d=k1") == 1
    assert [record.type for record in await records(log)] == ["c", "d"]


@pytest.mark.row("HIVE-33")
async def test_keys_go_when_an_ended_execution_ages(make_log: MakeLog, clock: Clock) -> None:
    log = make_log(ttl=10)
    producer = Producer(log)
    producer.append_keyed("a=k", "workflow_complete")
    clock.now += 11
    log.trim()
    assert producer.append_keyed("a=k") == 0
