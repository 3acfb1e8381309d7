"""Redis loses its last writes, as in a failover: who has them notices, and readers get a gap.

A copy of the keys of an execution takes the place of the replica.
"""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager
from typing import cast

from lg_streaming.log import EventLog
from tests.fleet.harness import process
from tests.support.redis_server import RedisServer


@contextmanager
def lost_writes(server: RedisServer, prefix: str, execution_id: str) -> Generator[None]:
    """All that is written to an execution within the block is lost after it."""
    with server.client() as client:
        keys = cast("list[bytes]", client.keys(f"{prefix}:{{{execution_id}}}:*"))
        copies = {key: cast("bytes", client.dump(key)) for key in keys}
        yield
        for key, copy in copies.items():
            client.restore(key, 0, copy, replace=True)


async def epoch_of(log: EventLog) -> str:
    state = await log.state("a")
    assert state is not None
    return state.epoch


async def test_the_producer_notices_at_its_next_update(shared_redis: RedisServer, redis_prefix: str) -> None:
    """Also where another producer has appended more than was lost."""
    async with (
        process(shared_redis.url, redis_prefix, check_interval=60) as first,
        process(shared_redis.url, redis_prefix, check_interval=60) as second,
    ):
        for hub in (first, second):
            await asyncio.to_thread(hub.open, "a")
            await hub.writer.flush()
        second.publish("a", "step")
        await second.writer.flush()
        before = await epoch_of(first.log)
        with lost_writes(shared_redis, redis_prefix, "a"):
            first.publish("a", "step")
            await first.writer.flush()
        for _ in range(5):
            second.publish("a", "step")
        await second.writer.flush()
        assert await epoch_of(first.log) == before
        first.publish("a", "step")
        await first.writer.flush()
        after = await epoch_of(first.log)
        assert after != before
        second.publish("a", "step")
        first.publish("a", "step")
        await first.close("a")
        await second.close("a")
        state = await first.log.state("a")
        assert state is not None
        assert (state.epoch, state.state) == (after, "completed")


async def test_a_silent_producer_notices_at_a_comparison(shared_redis: RedisServer, redis_prefix: str) -> None:
    async with (
        process(shared_redis.url, redis_prefix, check_interval=0.5) as first,
        process(shared_redis.url, redis_prefix, check_interval=60) as second,
    ):
        for hub in (first, second):
            await asyncio.to_thread(hub.open, "a")
            await hub.writer.flush()
        before = await epoch_of(second.log)
        with lost_writes(shared_redis, redis_prefix, "a"):
            first.publish("a", "step")
            await first.writer.flush()
        for _ in range(3):  # at once, so that the head shows nothing
            second.publish("a", "step")
        await second.writer.flush()
        async with asyncio.timeout(10):
            while await epoch_of(second.log) == before:
                await asyncio.sleep(0.01)
