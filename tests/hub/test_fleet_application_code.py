"""Code of the application that a request of another process calls: it never runs on the thread of the leases."""

import asyncio
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from lg_streaming.hub.callbacks import CallbackRunner, RegisteredHandler
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.settings import RedisSettings, StreamingSettings
from tests.hub.helpers import collect, types, until
from tests.support.redis_server import RedisServer


class Pair:
    """Two hubs on Redis with a short lease, as in two processes; `redact` of the first waits for `go`."""

    def __init__(self, url: str, prefix: str) -> None:
        self.threads: list[str] = []
        self.go = threading.Event()
        settings = StreamingSettings.model_validate({"redis": {"request_timeout": 0.3}})
        logs = [RedisLog(url, redis=RedisSettings(prefix=prefix, lease=1.0)) for _ in "ab"]
        self.a = StreamHub(settings, log=logs[0], redact=self._redact)
        self.b = StreamHub(settings, log=logs[1])
        self.slow = {"workflow_cancelled", "human_response"}

    def _redact(self, type: str, data: Any) -> Any:
        if type in self.slow:
            self.threads.append(threading.current_thread().name)
            self.go.wait(20)
        return data


@pytest.fixture
async def pair(shared_redis: RedisServer, redis_prefix: str) -> AsyncGenerator[Pair]:
    pair = Pair(shared_redis.url, redis_prefix)
    yield pair
    pair.go.set()
    await pair.a.aclose()
    await pair.b.aclose()


async def renewals(hub: StreamHub) -> float:
    """Wait for two renewals of the hub's lease."""
    log = hub.log
    assert isinstance(log, RedisLog)
    before = log.fleet._renewed_at  # pyright: ignore[reportPrivateUsage]
    await until(lambda: log.fleet._renewed_at > before + 0.5)  # pyright: ignore[reportPrivateUsage]
    return log.fleet._renewed_at  # pyright: ignore[reportPrivateUsage]


async def test_a_redact_that_hangs_delays_no_lease(pair: Pair) -> None:
    pair.a.open("e")
    pair.a.publish("e", "human_prompt", {"prompt_id": "p", "question": "?"})
    await pair.a.writer.flush()
    fleet = pair.a.log.fleet
    assert fleet is not None
    before = fleet.process_id
    cancelling = asyncio.create_task(pair.b.cancel("e"))
    answering = asyncio.create_task(pair.b.respond("e", "p", 1))
    await until(lambda: len(pair.threads) == 2)
    await renewals(pair.a)
    assert fleet.process_id == before
    assert set(pair.threads) == {"lg-streaming-callback"}
    pair.go.set()
    await asyncio.gather(cancelling, answering, return_exceptions=True)
    assert types(await collect(pair.b.subscribe("e")))[-1] == "workflow_cancelled"


async def test_handlers_without_an_event_loop_run_in_the_background() -> None:
    runner, called = CallbackRunner(), threading.Event()

    async def handle(reason: str) -> None:
        await asyncio.sleep(0)
        assert reason == "why"
        called.set()

    calling = threading.Thread(target=runner.call, args=([RegisteredHandler(handle, None)], "e", "why"))
    calling.start()
    await until(called.is_set)
    calling.join()
    await runner.aclose()


async def test_a_handler_in_the_background_is_cancelled_with_its_runner() -> None:
    runner, ended = CallbackRunner(), threading.Event()
    begun = threading.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    calling = threading.Thread(target=runner.call, args=([RegisteredHandler(hang, None)], "e"))
    calling.start()
    await until(begun.is_set)
    calling.join()
    await runner.aclose()
    assert ended.is_set()


# ---------------------------------------------------------------- broadcasts
async def test_a_broadcast_after_the_end_in_another_process_publishes_nothing(pair: Pair) -> None:
    pair.go.set()
    gateway = Gateway(pair.b)
    pair.a.open("e")
    await pair.a.close("e")
    gateway.broadcast_to_execution("e", "note", 1)
    await pair.b.writer.flush()
    assert types(await collect(pair.a.subscribe("e"))) == ["workflow_start", "workflow_complete"]
    assert not pair.b.registry.is_running("e")
    assert pair.b.statistics().dropped["refused"] == 2
    pair.a.open("e")
    await pair.a.writer.flush()
    gateway.broadcast_to_execution("e", "note", 2)  # this process had refused the execution before
    await pair.b.writer.flush()
    await pair.a.close("e")
    runs = [["workflow_start", "workflow_complete"], ["workflow_start", "note", "workflow_complete"]]
    assert types(await collect(pair.a.subscribe("e"))) == runs[0] + runs[1]
    gateway.broadcast_to_execution("new", "note", 3)
    await pair.b.writer.flush()
    await pair.b.close("new")
    assert types(await collect(pair.a.subscribe("new"))) == ["workflow_start", "note", "workflow_complete"]


# ---------------------------------------------------------------- runs of a lost lease
async def test_a_process_that_lost_its_lease_holds_no_run(pair: Pair, shared_redis: RedisServer) -> None:
    log, other = pair.a.log, pair.b.log
    assert isinstance(log, RedisLog)
    assert isinstance(other, RedisLog)
    pair.a.open("e")
    await pair.a.writer.flush()
    await other.fleet.processes()
    old = log.fleet.process_id
    keys = [f"{log.keys.prefix}:{kind}:{{{old}}}" for kind in ("process", "runs")]
    shared_redis.execute("DEL", *keys)  # as with a run that begins while its process is reaped
    assert await other._io.run(other.fleet._lease.reap(old))  # pyright: ignore[reportPrivateUsage]
    await until(lambda: log.fleet.process_id != old)
    await until(lambda: log._runs.executions == ())  # pyright: ignore[reportPrivateUsage]
    assert types(await collect(pair.b.subscribe("e"))) == ["workflow_start", "workflow_abandoned"]
    pair.a.publish("e", "note", 1)
    await pair.a.writer.flush()
    assert pair.a.statistics().dropped["refused"] == 1
