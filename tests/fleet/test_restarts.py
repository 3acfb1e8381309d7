"""Redis restarts, with and without its data, while processes produce and read."""

import asyncio
import time

from tests.fleet.harness import (
    CHECK_INTERVAL,
    Producing,
    Reading,
    check_accounted,
    check_everything,
    log_of,
    process,
    until,
    until_listed,
)
from tests.support.redis_server import RedisServer


async def test_a_restart_with_its_data_loses_nothing(redis_on_disk: RedisServer, redis_prefix: str, scale: int) -> None:
    server = redis_on_disk
    async with process(server.url, redis_prefix) as writer, process(server.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        readings = [Reading(writer, "a"), Reading(other, "a"), Reading(other, "a", limit=7)]
        producing = Producing(writer, "a")
        for number in range(scale):
            await readings[1].reach(100 * (number + 1))
            server.kill()
            await asyncio.sleep(0.05)
            server.restart(keep_data=True)
        last = await producing.finish()
        await writer.close("a")
        for reading in readings:
            await reading.end()
            check_everything(reading, last)
        assert producing.slowest < 0.3


async def test_a_restart_without_data_is_a_gap(redis_of_this_test: RedisServer, redis_prefix: str, scale: int) -> None:
    server = redis_of_this_test
    async with process(server.url, redis_prefix) as writer, process(server.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a", owner="ann")
        readings = [Reading(writer, "a"), Reading(other, "a")]
        producing = Producing(writer, "a")
        for number in range(scale):
            await readings[1].reach(50 * (number + 1))
            server.restart(keep_data=False)
        await readings[1].reach(producing.published + 20)
        last = await producing.finish()
        await writer.close("a")
        for reading in readings:
            await reading.end()
            assert {gap.reason for gap in reading.gaps} == {"epoch_changed"}
            assert reading.steps[-1] == last
            check_accounted(reading, last)
        await until_listed(other, "a")
        await until_listed(other, "a", owner="ann")


async def test_a_silent_run_survives_a_restart_without_data(redis_of_this_test: RedisServer, redis_prefix: str) -> None:
    server = redis_of_this_test
    async with process(server.url, redis_prefix) as writer, process(server.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        reading = Reading(other, "a")
        writer.publish("a", "step", {"n": 1})
        await reading.reach(1)
        server.restart(keep_data=False)
        began = time.monotonic()
        await until(lambda: reading.gaps, "the gap")
        assert time.monotonic() - began < CHECK_INTERVAL + 1  # the pause before a new connection
        assert reading.gaps[0].reason == "epoch_changed"
        await until(lambda: log_of(other).fleet.live >= {log_of(writer).fleet.process_id}, "the lease")
        writer.publish("a", "step", {"n": 2})
        await writer.close("a")
        await reading.end()
        check_accounted(reading, 2)
        state = await other.log.state("a")
        assert state is not None
        assert state.state == "completed"


async def test_a_flush_during_a_silent_run_is_a_gap(redis_of_this_test: RedisServer, redis_prefix: str) -> None:
    """The connections outlast a `FLUSHALL`, so that only comparisons find it."""
    server = redis_of_this_test
    async with process(server.url, redis_prefix) as writer, process(server.url, redis_prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        reading = Reading(other, "a")
        writer.publish("a", "step", {"n": 1})
        await reading.reach(1)
        server.flush()
        began = time.monotonic()
        await until(lambda: reading.gaps, "the gap")
        assert time.monotonic() - began < 2 * CHECK_INTERVAL + 0.2
        await until(lambda: server.execute("EXISTS", f"{redis_prefix}:{{a}}:x"), "the run is there again")
        await until_listed(other, "a")
        await writer.close("a")
        await reading.end()
        check_accounted(reading, 1)
