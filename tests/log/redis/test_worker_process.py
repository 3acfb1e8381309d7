"""A module in a process that serves nothing: it publishes to Redis, and others read."""

import asyncio

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.log.redis import RedisLog
from tests.log.redis.conftest import RedisServer
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
