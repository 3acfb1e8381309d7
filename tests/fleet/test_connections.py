"""Connections to Redis are killed, or cut before an answer: everything is stored once and read once."""

import asyncio
import random
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from tests.fleet.harness import PATIENCE, Producing, Reading, check_everything, process, until
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import tcp_proxy


@asynccontextmanager
async def killing(server: RedisServer, interval: float = 0.004) -> AsyncGenerator[None]:
    """Kill all connections again and again."""
    stop = threading.Event()

    def kill() -> None:
        with server.client() as client:
            while not stop.wait(interval):
                client.client_kill_filter(_type=random.choice(["normal", "pubsub"]), skipme=True)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)


async def test_killed_connections(redis_of_this_test: RedisServer, redis_prefix: str, scale: int) -> None:
    """Eight producers, eight readers, and every 4 ms all connections of a kind are killed."""
    server = redis_of_this_test
    async with process(server.url, redis_prefix) as writer, process(server.url, redis_prefix) as other:
        names = [f"a{number}" for number in range(8)]
        for name in names:
            writer.open(name)
        await writer.writer.flush()
        async with killing(server):
            readings = [Reading(other, name) for name in names]
            producers = [Producing(writer, name, count=200 * scale, pause=0.004) for name in names]
            lasts = [await producing.finish() for producing in producers]
            await asyncio.sleep(0.3)
        for name in names:
            await writer.close(name)
        for reading, last in zip(readings, lasts, strict=True):
            await reading.end()
            check_everything(reading, last)


@pytest.mark.parametrize("bytes_per_connection", [900, 5_000])
async def test_lost_answers(
    shared_redis: RedisServer, redis_prefix: str, bytes_per_connection: int, scale: int
) -> None:
    """The connection ends in the middle of an answer, after the script has run: its updates are stored once."""
    async with tcp_proxy(shared_redis.port) as proxy:
        proxy.cut_after = bytes_per_connection
        url = f"redis://127.0.0.1:{proxy.port}"
        async with process(url, redis_prefix) as writer, process(shared_redis.url, redis_prefix) as other:
            for name in ("a", "b"):
                writer.open(name)
            readings = [Reading(other, name) for name in ("a", "b")]
            producers = [Producing(writer, name, pause=0.002) for name in ("a", "b")]
            await until(lambda: proxy.connections > 6 * scale, "connections were cut", PATIENCE * scale)
            for producing, reading in zip(producers, readings, strict=True):
                last = await producing.finish()
                await writer.close(reading.execution_id)
                await reading.end()
                check_everything(reading, last)
            proxy.cut_after = None


async def test_answers_to_readers_are_cut(shared_redis: RedisServer, redis_prefix: str, scale: int) -> None:
    async with tcp_proxy(shared_redis.port) as proxy:
        proxy.cut_after = 30_000
        url = f"redis://127.0.0.1:{proxy.port}"
        async with process(shared_redis.url, redis_prefix) as writer, process(url, redis_prefix) as other:
            await asyncio.to_thread(writer.open, "a")
            await Producing(writer, "a", count=1_000, pause=0).finish()
            readings = [Reading(other, "a", limit=limit) for limit in (20, 60)]
            producing = Producing(writer, "a", first=1_001, pause=0.003)
            await until(lambda: proxy.connections > 5 * scale, "connections were cut", PATIENCE * scale)
            last = await producing.finish()
            await writer.close("a")
            proxy.cut_after = None
            for reading in readings:
                await reading.end()
                check_everything(reading, last)
