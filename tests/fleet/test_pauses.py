"""Redis does not answer for a while, or refuses to write: updates wait, and none is lost within the buffer."""

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from lg_streaming.hub import StreamHub
from lg_streaming.settings import LimitSettings
from tests.fleet.harness import Producing, Reading, check_accounted, check_everything, data_of, process, until
from tests.support.redis_server import RedisServer, redis_server, wait_until

SLOWEST = 0.25
"""Most seconds of a publish call, on a machine that does other work."""


@asynccontextmanager
async def writer_and_reader(
    server: RedisServer, prefix: str, limits: LimitSettings | None = None
) -> AsyncGenerator[tuple[StreamHub, Reading]]:
    async with process(server.url, prefix, limits=limits) as writer, process(server.url, prefix) as other:
        await asyncio.to_thread(writer.open, "a")
        reading = Reading(other, "a")
        yield writer, reading
        await reading.stop()


@pytest.mark.parametrize("seconds", [0.3, 1.2, pytest.param(5.5, marks=pytest.mark.soak)])
async def test_a_pause_delays_updates_only(redis_of_this_test: RedisServer, redis_prefix: str, seconds: float) -> None:
    """The timeout is 0.5 s: a shorter pause is no outage, a longer one is."""
    server = redis_of_this_test
    async with writer_and_reader(server, redis_prefix) as (writer, reading):
        producing = Producing(writer, "a")
        await reading.reach(50)
        server.pause()
        before = producing.published
        await asyncio.sleep(seconds)
        server.resume()
        assert producing.published > before + 20, "the producer waited"
        await reading.reach(producing.published + 50)
        last = await producing.finish()
        await writer.close("a")
        await reading.end()
        check_everything(reading, last)
        assert producing.slowest < SLOWEST
        assert writer.statistics().lost == 0


async def test_updates_beyond_the_buffer_are_counted(redis_of_this_test: RedisServer, redis_prefix: str) -> None:
    server = redis_of_this_test
    async with writer_and_reader(server, redis_prefix, LimitSettings(producer_buffer_updates=100)) as (writer, reading):
        producing = Producing(writer, "a", count=20)
        await producing.finish()
        await reading.reach(20)
        server.pause()
        producing = Producing(writer, "a", first=21, count=400, pause=0)
        last = await producing.finish()
        assert producing.slowest < SLOWEST
        lost = writer.statistics().lost
        assert 290 <= lost <= 320
        server.resume()
        await writer.writer.flush()
        writer.publish("a", "step", {"n": last + 1})
        await writer.close("a")
        await reading.end()
        check_accounted(reading, last + 1)
        (notice,) = [each for each in reading.records if each.type == "updates_lost"]
        assert data_of(notice)["count"] == lost
        assert len(reading.steps) == last + 1 - lost


# ---------------------------------------------------------------- Redis refuses to write


def fill(server: RedisServer) -> Callable[[], object]:
    """No memory is left until the result is called."""
    server.execute("CONFIG", "SET", "maxmemory-policy", "noeviction")
    server.execute("CONFIG", "SET", "maxmemory", "1mb")
    return lambda: server.execute("CONFIG", "SET", "maxmemory", "0")


def follow_no_master(server: RedisServer) -> Callable[[], object]:
    server.execute("REPLICAOF", "127.0.0.1", "1")
    return lambda: server.execute("REPLICAOF", "NO", "ONE")


def require_replicas(server: RedisServer) -> Callable[[], object]:
    server.execute("CONFIG", "SET", "min-replicas-to-write", "1")
    return lambda: server.execute("CONFIG", "SET", "min-replicas-to-write", "0")


def fail_to_save(server: RedisServer) -> Callable[[], object]:
    """MISCONF: a background save has failed, because a folder has the name of its file."""
    (server.folder / "dump.rdb").mkdir()
    server.execute("CONFIG", "SET", "save", "3600 1000000")
    server.execute("BGSAVE")
    with server.client() as client:
        wait_until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the save fails")
    return lambda: server.execute("CONFIG", "SET", "save", "")


def run_a_long_script(server: RedisServer) -> Callable[[], object]:
    """BUSY: a script of another application runs for long."""
    server.execute("CONFIG", "SET", "busy-reply-threshold", "50")

    def run() -> None:
        with contextlib.suppress(redis.RedisError):  # it is killed
            server.execute("EVAL", "while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()

    def kill() -> None:
        server.execute("SCRIPT", "KILL")
        thread.join()

    return kill


REFUSALS: list[Callable[[RedisServer], Callable[[], Any]]] = [
    fill,
    follow_no_master,
    require_replicas,
    fail_to_save,
    run_a_long_script,
]


@pytest.mark.parametrize("refuse", REFUSALS, ids=lambda each: each.__name__)
async def test_updates_wait_while_redis_refuses_to_write(
    redis_of_this_test: RedisServer, redis_prefix: str, refuse: Callable[[RedisServer], Callable[[], object]]
) -> None:
    server = redis_of_this_test
    async with writer_and_reader(server, redis_prefix) as (writer, reading):
        producing = Producing(writer, "a", pause=0.002)
        await reading.reach(30)
        mend = await asyncio.to_thread(refuse, server)
        try:
            await until(lambda: writer.health().status == "log_unavailable", "an append fails")
            await asyncio.sleep(0.2)
        finally:
            await asyncio.to_thread(mend)
        await reading.reach(producing.published + 20)
        last = await producing.finish()
        await writer.close("a")
        await reading.end()
        check_everything(reading, last)
        assert producing.slowest < SLOWEST


async def test_updates_wait_while_redis_loads_its_data(redis_prefix: str) -> None:
    slow = {"key_load_delay": "5000", "loading_process_events_interval_bytes": "1024"}  # microseconds for each command
    with redis_server(appendonly="yes", appendfsync="always", **slow) as server:
        async with writer_and_reader(server, redis_prefix) as (writer, reading):
            producing = Producing(writer, "a", pause=0.002)
            await reading.reach(30)
            server.kill()
            server.restart(keep_data=True)
            (loading,) = re.findall(r"DB loaded from append only file: ([\d.]+) seconds", server.log())
            assert float(loading) > 0.1, "the server was loading its data"  # 5 ms for each command
            await reading.reach(producing.published + 20)
            last = await producing.finish()
            await writer.close("a")
            await reading.end()
            check_everything(reading, last)


async def test_an_execution_that_the_index_refused_is_added_later(
    redis_of_this_test: RedisServer, redis_prefix: str
) -> None:
    """A user without rights to the index's keys stores updates; with the rights, the next update adds the execution."""
    server = redis_of_this_test
    async with process(server.url, redis_prefix) as writer:
        writer.open("warm")
        await writer.writer.flush()
        server.execute("ACL", "SETUSER", "default", "resetkeys", f"~{redis_prefix}:{{*", f"~{redis_prefix}:runs*")
        writer.open("a")
        await writer.writer.flush()
        server.execute("ACL", "SETUSER", "default", "allkeys")
        assert await writer.log.executions() == ["warm"]
        writer.publish("a", "step", {"n": 1})
        await writer.writer.flush()
        assert await writer.log.executions() == ["a", "warm"]
