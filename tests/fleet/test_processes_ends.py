"""Programs that end without closing their hub: what they have published is in the log."""

import asyncio
import threading
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from lg_streaming.errors import LogUnavailableError
from lg_streaming.hub import StreamHub
from lg_streaming.log.redis.io_thread import IoThread
from tests.fleet.processes import Fleet, finals, numbers
from tests.hub.helpers import collect
from tests.support.redis_server import RedisServer, free_port
from tests.support.warm import run

_PROGRAM = """
import logging, multiprocessing, sys, time, types
from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.hub import exit_flush
from tests.fleet.app import make_sync_graph
logging.basicConfig()
url, prefix, how = sys.argv[1:]

def produce():
    if multiprocessing.parent_process() is None:
        exit_flush.sys = types.SimpleNamespace(modules={})  # only atexit remains
    streaming = StreamingModule(StreamingSettings(log=url, redis={"prefix": prefix}))
    make_sync_graph(300).invoke({}, streaming.config("e"))

def lose():
    exit_flush._TIMEOUT = 1.0
    produce()

def wait():
    "Publish, and end when nothing waits."
    streaming = StreamingModule(StreamingSettings(log=url, redis={"prefix": prefix}))
    streaming.hub.publish("e", "note")
    while streaming.hub.statistics().waiting:
        time.sleep(0.001)
    print(time.time(), flush=True)

if how in {"fork", "forkserver"}:
    child = multiprocessing.get_context(how).Process(target=produce)
    child.start()
    child.join()
else:
    globals()[how]()
"""


@pytest.mark.parametrize("how", ["produce", "fork"])
async def test_a_synchronous_program_that_ends_after_its_graph_loses_nothing(
    redis_of_this_test: RedisServer, redis_prefix: str, tmp_path: Path, how: str
) -> None:
    redis = redis_of_this_test
    redis.pause()
    running = asyncio.create_task(asyncio.to_thread(run, "-c", _PROGRAM, redis.url, redis_prefix, how))
    await asyncio.wait([running], timeout=1.5)  # the graph has ended by then
    redis.resume()
    done = await running
    assert (done.returncode, done.stderr) == (0, "")
    async with Fleet.of(redis, redis_prefix, tmp_path) as fleet:
        updates = await collect((await fleet.hub()).subscribe("e"))
    numbers(updates)
    assert finals(updates) == ["workflow_complete"]
    assert len([update for update in updates if update.type == "token"]) == 300


async def test_the_end_takes_no_longer_when_nothing_waits(fleet: Fleet) -> None:
    done = await asyncio.to_thread(run, "-c", _PROGRAM, fleet.redis.url, fleet.prefix, "wait")
    assert time.time() - float(done.stdout) < 2


async def test_without_redis_a_program_ends_in_time_and_logs_the_loss(redis_prefix: str) -> None:
    began = time.monotonic()
    done = await asyncio.to_thread(run, "-c", _PROGRAM, f"redis://127.0.0.1:{free_port()}", redis_prefix, "lose")
    assert 0.9 < time.monotonic() - began < 5
    assert done.returncode == 0
    assert "304 updates are lost: the log did not take them before the process ended" in done.stderr


@pytest.fixture
async def hub(fleet: Fleet) -> AsyncGenerator[StreamHub]:
    hub = await fleet.hub()
    yield hub
    await hub.aclose()


async def test_an_interpreter_that_starts_no_thread_any_more_appends_all_the_same(
    hub: StreamHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "lg-streaming-redis":
            raise RuntimeError("can't create new thread at interpreter shutdown")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    hub.publish("e", "note", 1)
    await asyncio.wait_for(hub.writer.flush(), 5)
    assert not any(hub.statistics().dropped.values())
    monkeypatch.undo()
    state = await hub.describe("e")
    assert state is not None
    assert state.head == 2


async def test_a_coroutine_for_a_thread_that_cannot_start_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    io = IoThread()
    assert isinstance(io.spawn(asyncio.sleep(0)).exception(), LogUnavailableError)
