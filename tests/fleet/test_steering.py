"""Pause, resume and inject from a process that does not hold the run."""

import pytest

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError, ExecutionNotFoundError
from lg_streaming.settings import RedisSettings, StreamingSettings
from tests.fleet.harness import until
from tests.runs.graphs import Gate
from tests.runs.test_steering import stepping
from tests.support.redis_server import RedisServer


@pytest.mark.row("HIVE-75")
async def test_a_run_is_steered_from_another_process(shared_redis: RedisServer, redis_prefix: str) -> None:
    settings = StreamingSettings(log=shared_redis.url, redis=RedisSettings(prefix=redis_prefix))
    async with StreamingModule(settings) as holder, StreamingModule(settings) as other:
        gate = Gate()
        run = await holder.runs.start(stepping(gate), {}, execution_id="e")
        await gate.entered.wait()
        await holder.hub.writer.flush()
        await other.runs.pause("e", "a look first")
        with pytest.raises(BadRequestError, match="no field 'nope'"):
            await other.runs.inject("e", {"nope": 1})
        await other.runs.inject("e", {"note": "from afar"})
        gate.open.set()
        await until(lambda: run.status == "interrupted", "the run is paused")
        assert await other.runs.resume("e")
        assert (await run)["done"] == ["first", "second from afar", "third"]
        await holder.hub.writer.flush()
        with pytest.raises(ExecutionNotFoundError):
            await other.runs.pause("e")
