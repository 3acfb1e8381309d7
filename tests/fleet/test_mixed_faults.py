"""Random faults, one after the other and together, while two processes produce and two read."""

import asyncio
import random
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
import redis

from lg_streaming.hub import StreamHub
from lg_streaming.settings import LimitSettings, RetentionSettings
from tests.fleet.harness import Producing, Reading, check_accounted, check_everything, process
from tests.fleet.resp import NotificationFilter, double_some, drop_all, drop_some, swap_some
from tests.support.redis_server import RedisServer
from tests.support.tcp_proxy import TcpProxy, tcp_proxy

NAMES = ["a", "b", "c", "d"]
ROOM: dict[str, Any] = {
    "retention": RetentionSettings(max_updates=1_000_000, max_bytes=1 << 30),
    "limits": LimitSettings(producer_buffer_updates=1_000_000, producer_buffer_bytes=1 << 30),
}
"""Room for all updates of a test, so that no limit drops some of them while Redis is away."""


class Schedule:
    """Faults of one test. Each holds for a moment, and then Redis and the network work again.

    Args:
        seed: Seed of the choices.
        loses: Whether faults may lose data.
    """

    def __init__(self, server: RedisServer, proxy: TcpProxy, prefix: str, seed: int, *, loses: bool) -> None:
        self.server, self.proxy, self.prefix = server, proxy, prefix
        self.random = random.Random(seed)
        self.faults: list[Callable[[], Awaitable[None]]] = [
            self.restart,
            self.pause,
            self.kill_connections,
            self.reset,
            self.cut_answers,
            self.freeze,
            self.break_notifications,
            self.refuse_writes,
            self.run_a_long_script,
        ]
        if loses:
            self.faults += [self.restart_without_data, self.flush, self.evict_state, self.evict_stream]
        self.done: list[str] = []

    async def run(self, count: int) -> None:
        for _ in range(count):
            fault = self.random.choice(self.faults)
            self.done.append(fault.__name__)
            await fault()
            await asyncio.sleep(self.random.uniform(0, 0.2))

    async def moment(self) -> None:
        await asyncio.sleep(self.random.choice([0.01, 0.1, 0.7]))

    async def restart(self) -> None:
        self.server.kill()
        await self.moment()
        self.server.restart(keep_data=True)

    async def restart_without_data(self) -> None:
        self.server.restart(keep_data=False)

    async def flush(self) -> None:
        self.server.flush()

    async def evict_state(self) -> None:
        self.server.execute("UNLINK", f"{self.prefix}:{{{self.random.choice(NAMES)}}}:x")

    async def evict_stream(self) -> None:
        self.server.execute("UNLINK", f"{self.prefix}:{{{self.random.choice(NAMES)}}}:u")

    async def pause(self) -> None:
        self.server.pause()
        await self.moment()
        self.server.resume()

    async def kill_connections(self) -> None:
        for _ in range(20):
            self.server.execute("CLIENT", "KILL", "TYPE", self.random.choice(["normal", "pubsub"]), "SKIPME", "yes")
            await asyncio.sleep(0.004)

    async def reset(self) -> None:
        self.proxy.reset()

    async def cut_answers(self) -> None:
        self.proxy.cut_after = self.random.choice([500, 5_000])
        await self.moment()
        self.proxy.cut_after = None
        self.proxy.reset()  # connections have given more bytes by now

    async def freeze(self) -> None:
        self.proxy.freeze()
        await self.moment()
        self.proxy.thaw()

    async def break_notifications(self) -> None:
        edit = self.random.choice([drop_all, drop_some, double_some, swap_some])
        self.proxy.new_filter = lambda: NotificationFilter(edit)
        self.proxy.reset()
        await self.moment()
        self.proxy.new_filter = None
        self.proxy.reset()

    async def refuse_writes(self) -> None:
        self.server.execute("CONFIG", "SET", "min-replicas-to-write", "1")
        await self.moment()
        self.server.execute("CONFIG", "SET", "min-replicas-to-write", "0")

    async def run_a_long_script(self) -> None:
        def run() -> None:
            with suppress(redis.RedisError):  # it is killed
                self.server.execute("EVAL", "while true do end", 0)

        thread = threading.Thread(target=run)
        thread.start()
        await self.moment()
        while thread.is_alive():
            with suppress(redis.RedisError):
                self.server.execute("SCRIPT", "KILL")
            await asyncio.to_thread(thread.join, 0.05)


class Hopping:
    """A reader that goes on in another process from time to time."""

    def __init__(self, hubs: list[StreamHub], execution_id: str, choose: random.Random) -> None:
        self.hubs, self.execution_id, self.choose = hubs, execution_id, choose
        self.reading = Reading(hubs[0], execution_id)

    async def hop(self) -> None:
        before = self.reading
        await before.stop()
        hub, limit = self.choose.choice(self.hubs), self.choose.choice([3, 500])
        if before.ended:
            return
        self.reading = Reading(hub, self.execution_id, after=before.position, limit=limit)
        self.reading.items[:0] = before.items


@asynccontextmanager
async def hopping(readers: list[Hopping], choose: random.Random) -> AsyncGenerator[None]:
    stopping = asyncio.Event()

    async def run() -> None:
        while not stopping.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), 0.1)
            await choose.choice(readers).hop()

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        stopping.set()
        await task  # a hop that is cancelled half way leaves a reader that has stopped


@pytest.mark.parametrize("loses", [False, True], ids=["keeps", "loses"])
@pytest.mark.parametrize("count", [pytest.param(6, id="ci"), pytest.param(400, id="long", marks=pytest.mark.soak)])
async def test_mixed_faults(redis_on_disk: RedisServer, redis_prefix: str, count: int, *, loses: bool) -> None:
    server, seed = redis_on_disk, random.randrange(2**32)
    server.execute("CONFIG", "SET", "busy-reply-threshold", "50")
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(tcp_proxy(server.port))
        url = f"redis://127.0.0.1:{proxy.port}"
        room = {} if loses else ROOM
        hubs = [await stack.enter_async_context(process(url, redis_prefix, lease=30, **room)) for _ in range(4)]
        writers = {name: hubs[number % 2] for number, name in enumerate(NAMES)}
        for name, writer in writers.items():
            writer.open(name)
        schedule = Schedule(server, proxy, redis_prefix, seed, loses=loses)
        readers = [Hopping(hubs[2:], name, schedule.random) for name in NAMES]
        steady = [Reading(hubs[2 + number % 2], name) for number, name in enumerate(NAMES)]
        producers = [Producing(writers[name], name, pause=0.004) for name in NAMES]
        for reading in (*steady, *(reader.reading for reader in readers)):
            await reading.reach(1)
        async with hopping(readers, schedule.random):
            await schedule.run(count)
        lasts = [await producing.finish() for producing in producers]
        for name, writer in writers.items():
            await writer.close(name)
        try:
            for readings in ([reader.reading for reader in readers], steady):
                for reading, last in zip(readings, lasts, strict=True):
                    await reading.end()
                    if loses:
                        check_accounted(reading, last)
                    else:
                        check_everything(reading, last)
        except AssertionError as error:
            error.add_note(f"seed {seed}: {schedule.done[-20:]}")
            raise
        slowest = max(producing.slowest for producing in producers)
        assert slowest < 0.5, f"seed {seed}: a call took {slowest} s"
