"""A module in a process that serves nothing: it publishes to Redis, and others read."""

import asyncio
import threading

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.log.redis import RedisLog
from lg_streaming.settings import RedisSettings
from tests.log.redis.conftest import RedisServer
from tests.runs.graphs import Gate, gated
from tests.support.forks import run_program

PROGRAM = """
import asyncio, json, os, sys, threading
from lg_streaming import StreamingModule, StreamingSettings

async def main():
    async with StreamingModule(StreamingSettings(log=sys.argv[1])) as streaming:
        before = threading.active_count()
        async with streaming.execution("job"):
            streaming.hub.emitter("job").token("from a worker")
        names = sorted(thread.name for thread in threading.enumerate())
    return before, names

before, names = asyncio.run(main())
print(json.dumps({
    "before": before,
    "names": names,
    "after": threading.active_count(),
}))
"""


async def test_a_worker_that_serves_nothing_publishes(redis_of_this_test: RedisServer) -> None:
    url = redis_of_this_test.url
    worker = await asyncio.to_thread(run_program, PROGRAM, url)
    assert worker["before"] == 1  # it connects with its first use
    assert worker["names"] == ["MainThread", "lg-streaming-redis", "lg-streaming-timer", "lg-streaming-writer"]
    assert worker["after"] <= 2  # the timer is the process's, and ends with it
    async with StreamingModule(StreamingSettings(log=url)) as streaming:
        assert isinstance(streaming.hub.log, RedisLog)
        found = [update async for update in streaming.hub.subscribe("job")]
    assert [update.type for update in found] == ["workflow_start", "token", "workflow_complete"]


async def test_the_first_graph_connects(shared_redis: RedisServer, redis_prefix: str) -> None:
    def connections() -> int:
        return sum(thread.name == "lg-streaming-redis" for thread in threading.enumerate())

    before = connections()
    settings = StreamingSettings(log=shared_redis.url, redis=RedisSettings(prefix=redis_prefix))
    async with StreamingModule(settings) as streaming:
        assert connections() == before
        streaming.graphs["chat"] = gated(Gate())
        assert connections() == before + 1, "runs of other processes may be left"
