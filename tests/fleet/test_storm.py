"""All clients of a killed gateway reconnect to the other one at the same moment."""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Literal

import pytest

from lg_streaming import StreamHub
from tests.bench.readers import EXECUTION, Wanted
from tests.bench.stage import readers
from tests.fleet.storm_app import settings
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import serve_process

pytestmark = pytest.mark.row("PYEV-20")

UPDATES = 600
BEHIND = 200
LIVE = 100
READS = 20
PER_CLIENT = 3
"""Scripts of a client: the rate of connections, their number, and the state of the execution."""
OF_PROCESSES = 40
"""Scripts that the processes run for themselves in that time."""


importlib.import_module("lg_streaming.log.redis.log")  # it reads files: before that is watched


def commands(redis: RedisServer) -> Counter[str]:
    """Commands that Redis has carried out, by name: scripts and what they call."""
    with redis.client() as client:
        return Counter({name: each["calls"] for name, each in client.info("commandstats").items()})


@pytest.mark.parametrize("transport", ["socketio", "sse"])
@pytest.mark.parametrize("count", [200, pytest.param(2_000, marks=pytest.mark.soak)])
async def test_all_complete_with_few_commands(count: int, transport: Literal["socketio", "sse"]) -> None:
    wanted = Wanted(port=0, count=count, transport=transport, at_once=True)
    with redis_server() as redis, ExitStack() as stack:
        env = {"LG_STREAMING_LOG": redis.url}
        first, second = [stack.enter_context(serve_process("tests.fleet.storm_app:make()", env=env)) for _ in range(2)]
        async with hub_on(redis) as hub:
            await publish(hub, UPDATES - 1)
            state = await hub.describe(EXECUTION)
            assert state is not None
            assert state.head == UPDATES
            async with readers(replace(wanted, port=first.port, last=UPDATES)) as before:
                await before.report(UPDATES)
                first.kill()
            calls = commands(redis)
            last, after = UPDATES + LIVE, f"{state.epoch}:{UPDATES - BEHIND}"
            async with readers(replace(wanted, port=second.port, last=last, after=after)) as again:
                used = commands(redis) - calls
                await publish(hub, LIVE)
                await again.report(BEHIND + LIVE)
        second.stop()
    assert used["cmdstat_evalsha"] <= PER_CLIENT * count + OF_PROCESSES, used
    assert used["cmdstat_xrange"] + used["cmdstat_xrevrange"] <= READS, used
    assert "Traceback" not in second.log
    assert "ERROR" not in second.log


@asynccontextmanager
async def hub_on(redis: RedisServer) -> AsyncGenerator[StreamHub]:
    hub = StreamHub(settings(log=redis.url))
    try:
        yield hub
    finally:
        await hub.aclose()


async def publish(hub: StreamHub, count: int) -> None:
    for index in range(count):
        hub.publish(EXECUTION, "token", {"content": f"{index} "})
    await hub.writer.flush()
