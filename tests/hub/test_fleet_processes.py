"""A process that is killed: another takes over its sink, and ends its run."""

import asyncio
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from lg_streaming import StreamingSettings
from lg_streaming.hub import StreamHub, sink_claim
from lg_streaming.sinks import JsonLinesSink
from tests.hub.helpers import until
from tests.support.redis_server import RedisServer

importlib.import_module("lg_streaming.log.redis.log")  # it reads files: before that is watched

_PROGRAM = """
import asyncio, sys
from lg_streaming import StreamingSettings
from lg_streaming.hub import StreamHub
from lg_streaming.sinks import JsonLinesSink

async def main(url, prefix, path):
    hub = StreamHub(StreamingSettings(log=url, redis={"prefix": prefix, "lease": 1.0}))
    attached = hub.attach("e", JsonLinesSink(path))
    hub.publish("e", "note", 1)
    while attached.delivered < 2:
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.Event().wait()

asyncio.run(main(*sys.argv[1:]))
"""


def lines_of(path: Path) -> list[int]:
    return [json.loads(line)["metadata"]["sequence_number"] for line in path.read_text().splitlines()]


async def test_a_killed_process_leaves_its_sink_and_its_run_to_another(
    shared_redis: RedisServer, redis_prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_claim, "_RETRY", 0.1)
    path = tmp_path / "updates.jsonl"
    command = [sys.executable, "-c", _PROGRAM, shared_redis.url, redis_prefix, str(path)]
    settings = StreamingSettings.model_validate(
        {"log": shared_redis.url, "redis": {"prefix": redis_prefix, "lease": 1.0}}
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:  # noqa: ASYNC220 (it returns at once)
        hub = StreamHub(settings)
        try:
            assert other.stdout is not None
            assert await asyncio.to_thread(other.stdout.readline) == "ready\n"
            waiting = hub.attach("e", JsonLinesSink(path))
            hub.publish("e", "note", 2)
            await until(lambda: len(lines_of(path)) == 3)
            assert waiting.waiting
            other.kill()
            hub.publish("e", "note", 3)
            await hub.cancel("e", "its process is gone")
            await asyncio.wait_for(waiting.wait(), 20)
            state = await hub.describe("e")
            assert state is not None
            assert state.state in {"cancelled", "abandoned"}
            assert waiting.delivered
            assert sorted(set(lines_of(path))) == list(range(1, state.head + 1))
        finally:
            other.kill()
            await hub.aclose()
