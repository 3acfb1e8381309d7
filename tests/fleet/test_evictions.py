"""Redis removes keys: by its memory policy, by hand, by retention. Readers get a gap that names the reason."""

import asyncio

from lg_streaming.hub import Gap
from lg_streaming.hub.carry import read_when_available
from lg_streaming.settings import LimitSettings, RetentionSettings
from tests.fleet.harness import Producing, Reading, check_accounted, number_of, process, until
from tests.support.redis_server import RedisServer


async def test_an_evicted_stream_is_a_gap_for_a_slow_reader(shared_redis: RedisServer, redis_prefix: str) -> None:
    """The state is there, so that the gap has its numbers."""
    async with process(shared_redis.url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        await Producing(writer, "a", count=2_000, pause=0).finish()
        await writer.writer.flush()
        subscription = other.subscribe("a")
        page = await read_when_available(subscription.next_page, 100)
        assert number_of(page.records[-1]) == 99
        shared_redis.execute("UNLINK", f"{redis_prefix}:{{a}}:u")
        await Producing(writer, "a", first=2_001, count=100).finish()
        await writer.close("a")
        page = await read_when_available(subscription.next_page, 100)
        while page.gap is None:  # updates that this process has in memory need no stream
            assert not page.ended
            page = await read_when_available(subscription.next_page, 100)
        assert page.gap.reason == "evicted"
        assert page.records[0].seq == (page.gap.last or 0) + 1
        while not page.ended:
            page = await read_when_available(subscription.next_page, 100)
        assert page.records[-1].type == "workflow_complete"


async def test_an_evicted_state_is_a_new_epoch(shared_redis: RedisServer, redis_prefix: str) -> None:
    """Without its state the rest of an execution cannot be used."""
    async with process(shared_redis.url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        reading = Reading(other, "a", limit=50)
        await Producing(writer, "a", count=200).finish()
        await reading.reach(200)
        shared_redis.execute("DEL", f"{redis_prefix}:{{a}}:x")
        last = await Producing(writer, "a", first=201, count=200).finish()
        await writer.close("a")
        await reading.end()
        assert {gap.reason for gap in reading.gaps} == {"epoch_changed"}
        assert reading.steps[-1] == last
        check_accounted(reading, last)


async def test_all_keys_are_evicted_by_redis(redis_of_this_test: RedisServer, redis_prefix: str) -> None:
    server = redis_of_this_test
    async with process(server.url, redis_prefix) as writer, process(server.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        reading = Reading(other, "a", limit=50)
        producing = Producing(writer, "a")
        await reading.reach(100)
        server.execute("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        server.execute("CONFIG", "SET", "maxmemory", "1mb")  # less than the server itself takes
        await until(lambda: server.execute("DBSIZE") == 0, "all keys are evicted")
        server.execute("CONFIG", "SET", "maxmemory", "0")
        await producing.reach(producing.published + 100)
        last = await producing.finish()
        await writer.close("a")
        await reading.end()
        assert {gap.reason for gap in reading.gaps} == {"epoch_changed"}
        assert reading.steps[-1] == last
        check_accounted(reading, last)


async def test_retention_passes_a_slow_reader(shared_redis: RedisServer, redis_prefix: str, scale: int) -> None:
    """10,000 updates, of which 1,000 are kept: the slow reader gets gaps with exact numbers."""
    retention = RetentionSettings(max_updates=1_000)
    all_fit = LimitSettings(producer_buffer_updates=1_000_000, producer_buffer_bytes=1 << 30)
    async with (
        process(shared_redis.url, redis_prefix, retention=retention, limits=all_fit) as writer,
        process(shared_redis.url, redis_prefix, retention=retention) as other,
    ):
        await asyncio.to_thread(writer.open, "a")
        slow = Reading(other, "a", limit=100, pause=lambda: 0.02)
        last = await Producing(writer, "a", count=10_000 * scale, pause=0).finish()
        await writer.writer.flush()
        await writer.close("a")
        await slow.end(60)
        assert {gap.reason for gap in slow.gaps} == {"evicted"}
        before = 0
        for each in slow.items:
            if isinstance(each, Gap):
                assert each.first == before + 1
                assert each.last is not None
                before = each.last
            else:
                assert each.seq == before + 1
                before = each.seq
        assert before == last + 2
        check_accounted(slow, last)


async def test_a_history_that_is_longer_than_the_tail(shared_redis: RedisServer, redis_prefix: str) -> None:
    """A process keeps 500 to 2,000 updates in memory; readers at any place get all 5,000, live ones included."""
    async with process(shared_redis.url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        live = Reading(other, "a")
        await Producing(writer, "a", count=3_000, pause=0).finish()
        late = [Reading(other, "a", limit=limit) for limit in (40, 333, 5_000)]
        last = await Producing(writer, "a", first=3_001, count=2_000, pause=0).finish()
        late.append(Reading(other, "a"))
        await writer.close("a")
        for reading in (live, *late):
            await reading.end()
            assert reading.gaps == []
            assert reading.steps == list(range(1, last + 1))
