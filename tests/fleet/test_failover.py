"""The replica becomes the master, with all writes or without the last ones."""

import asyncio
from collections.abc import Generator

import pytest

from lg_streaming.events import Position
from lg_streaming.hub.carry import read_when_available
from tests.fleet.harness import (
    Producing,
    Reading,
    check_accounted,
    check_everything,
    data_of,
    process,
    program,
    until,
    until_listed,
)
from tests.support.redis_server import RedisPair, RedisServer, redis_pair, wait_until
from tests.support.tcp_proxy import tcp_proxy


@pytest.fixture
def pair() -> Generator[RedisPair]:
    with redis_pair() as running:
        yield running


def detach(pair: RedisPair) -> RedisServer:
    """Let the replica get nothing more from the master, which does not notice it; return the replica."""
    replica = pair.replica
    replica.execute("CONFIG", "SET", "repl-timeout", "3600")
    replica.execute("REPLICAOF", "NO", "ONE")
    return replica


async def promote(pair: RedisPair, replica: RedisServer) -> None:
    """The master is gone, and clients find the detached replica."""
    old = next(server for server in pair.servers if server is not replica)
    name = RedisPair.service
    pair.sentinel.execute("SENTINEL", "REMOVE", name)
    pair.sentinel.execute("SENTINEL", "MONITOR", name, "127.0.0.1", replica.port, 1)
    wait_until(lambda: pair.master is replica, "the sentinel has the new master")
    old.kill()


async def test_a_failover_with_all_writes_loses_nothing(pair: RedisPair, redis_prefix: str) -> None:
    async with process(pair.url, redis_prefix) as writer, process(pair.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        reading = Reading(other, "a")
        await Producing(writer, "a", count=100).finish()
        await reading.reach(100)
        pair.wait_for_replica()
        await asyncio.to_thread(pair.fail_over)
        last = await Producing(writer, "a", first=101, count=100).finish()
        await writer.close("a")
        await reading.end()
        check_everything(reading, last)


async def test_a_failover_under_load(pair: RedisPair, redis_prefix: str) -> None:
    """Writes that the replica lacks at the failover may be lost; then there is a gap."""
    async with process(pair.url, redis_prefix) as writer, process(pair.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        readings = [Reading(other, "a"), Reading(writer, "a")]
        producing = Producing(writer, "a")
        await readings[0].reach(100)
        await asyncio.to_thread(pair.fail_over)
        await readings[0].reach(producing.published + 50)
        last = await producing.finish()
        await writer.close("a")
        for reading in readings:
            await reading.end()
            check_accounted(reading, last, loses_writes=True)
            assert reading.steps[-1] == last


async def test_lost_writes_are_a_gap(pair: RedisPair, redis_prefix: str) -> None:
    async with process(pair.url, redis_prefix) as writer, process(pair.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        reading = Reading(other, "a")
        await Producing(writer, "a", count=50).finish()
        await reading.reach(50)
        pair.wait_for_replica()
        replica = detach(pair)
        await Producing(writer, "a", first=51, count=50).finish()
        await reading.reach(100)
        await promote(pair, replica)
        await until(lambda: reading.gaps, "the gap, without another update")
        assert reading.gaps[0].reason == "epoch_changed"
        last = await Producing(writer, "a", first=101, count=50).finish()
        await writer.close("a")
        await reading.end()
        check_accounted(reading, last, loses_writes=True)
        assert reading.steps[-50:] == list(range(101, 151))
        await until_listed(other, "a")


async def test_lost_writes_of_a_dead_producer_are_a_gap(pair: RedisPair, redis_prefix: str) -> None:
    """Only the reader's process has what Redis has lost."""
    async with process(pair.url, redis_prefix) as other, program(pair.url, redis_prefix) as producer:
        await producer.publish("a", 50)
        reading = Reading(other, "a")
        await reading.reach(50)
        pair.wait_for_replica()
        replica = detach(pair)
        await producer.publish("a", 50)
        await reading.reach(100)
        producer.kill()
        await promote(pair, replica)
        await until(lambda: reading.gaps, "the gap")
        assert reading.gaps[0].reason == "epoch_changed"
        await reading.reach(50)
        assert reading.steps.count(51) == 1
        await reading.stop()


async def test_lost_writes_of_a_dead_producer_whose_numbers_another_one_took(
    pair: RedisPair, redis_prefix: str
) -> None:
    """The reader's process finds another update at the number of its newest one."""
    async with (
        tcp_proxy(pair.sentinel.port) as sentinel,
        process(f"redis+sentinel://127.0.0.1:{sentinel.port}/{pair.service}", redis_prefix) as other,
        process(pair.url, redis_prefix) as second,
        program(pair.url, redis_prefix) as producer,
    ):
        await producer.publish("a", 1)
        await asyncio.to_thread(second.open, "a")
        second.publish("a", "step", {"n": 100})
        reading = Reading(other, "a")
        await reading.reach(100)
        pair.wait_for_replica()
        replica = detach(pair)
        await producer.publish("a", 10)
        await reading.reach(11)
        producer.kill()
        sentinel.freeze()  # the reader's process finds the new master later than the producer's
        await promote(pair, replica)
        await Producing(second, "a", first=101, count=50).finish()
        await second.writer.flush()
        sentinel.thaw()
        await until(lambda: reading.gaps, "the gap")
        assert reading.gaps[0].reason == "epoch_changed"
        await reading.reach(150)
        await reading.stop()


async def test_lost_writes_whose_numbers_another_producer_took(pair: RedisPair, redis_prefix: str) -> None:
    """Two processes produce; after the failover one appends beyond all that the other has, before that one appends."""
    async with (
        process(pair.url, redis_prefix) as first,
        process(pair.url, redis_prefix) as second,
        process(pair.url, redis_prefix, check_interval=30) as other,
    ):
        await asyncio.to_thread(first.open, "a")
        await first.writer.flush()
        await asyncio.to_thread(second.open, "a")
        reading = Reading(other, "a")
        second.publish("a", "step", {"n": 1, "of": "second"})
        await reading.reach(1)
        pair.wait_for_replica()
        replica = detach(pair)
        for number in range(2, 12):
            first.publish("a", "step", {"n": number, "of": "first"})
        await reading.reach(11)
        position = reading.position
        assert position is not None
        await promote(pair, replica)
        for number in range(20, 60):
            second.publish("a", "step", {"n": number, "of": "second"})
        await second.writer.flush()
        await until(lambda: reading.gaps, "the gap")
        assert reading.gaps[0].reason == "epoch_changed"
        first.publish("a", "step", {"n": 100, "of": "first"})
        await first.writer.flush()
        second.publish("a", "step", {"n": 101, "of": "second"})
        await reading.reach(101)
        after_gap = [each for each in reading.records if each.epoch != position.epoch]
        seconds = [number_of_second["n"] for each in after_gap if (number_of_second := step_of(each, "second"))]
        assert seconds == [1, *range(20, 60), 101]
        await check_resumed(other, position)
        await first.close("a")
        await second.close("a")
        await reading.end()


def step_of(record: object, who: str) -> dict[str, int] | None:
    from lg_streaming.log.base import StoredUpdate

    assert isinstance(record, StoredUpdate)
    if record.type != "step":
        return None
    data = data_of(record)
    return data if data["of"] == who else None


async def check_resumed(hub: object, position: Position) -> None:
    """Check that a reader at a position of before gets a gap."""
    from lg_streaming.hub import StreamHub

    assert isinstance(hub, StreamHub)
    async with hub.subscribe("a", after=position) as subscription:
        page = await read_when_available(subscription.next_page, 500)
        assert page.gap is not None
        assert page.gap.reason == "epoch_changed"


async def test_the_start_of_a_run_is_lost(pair: RedisPair, redis_prefix: str) -> None:
    """Redis has the former run only, of which it also lost the end; the producer's run goes on."""
    async with process(pair.url, redis_prefix) as writer, process(pair.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        reading = Reading(other, "a", follow=True)
        writer.publish("a", "step", {"n": 1})
        await reading.reach(1)
        pair.wait_for_replica()
        replica = detach(pair)
        await writer.close("a")
        writer.open("a")
        writer.publish("a", "step", {"n": 2})
        await reading.reach(2)
        await promote(pair, replica)
        await until(lambda: reading.gaps, "the gap")
        writer.publish("a", "step", {"n": 3})
        await writer.close("a")
        await reading.reach(3)
        await until(lambda: reading.types[-1] == "workflow_complete", "the end")
        state = await other.log.state("a")
        assert state is not None
        assert state.state == "completed"
        await reading.stop()
