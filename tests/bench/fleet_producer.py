"""A process that publishes to Redis: `python -m tests.bench.fleet_producer WORK`, the fields of `Work` as JSON.

Prints `ready` when it has connected, begins with a line on stdin, and prints one line of JSON when Redis has all. It
ends with stdin. The kinds are the library, redis-py without the library, and python-socketio's Redis manager.
"""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import redis
import socketio
import uvloop

from lg_streaming.hub import StreamHub
from tests.bench.fleet_gateway import fleet_settings
from tests.bench.readers import name_of, until_stdin_ends

WAITING = 8_000
"""Updates in the buffer, which takes 10,000, with which a publisher waits."""
PIPELINE = 100
"""Commands of a pipeline of raw Redis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Orders of a producer.

    Attributes:
        url: Of Redis.
        kind: `ours`; `raw`, XADD and SPUBLISH; `stock`, an `emit` by python-socketio's manager.
        executions: So many.
        first: Number of the first of them.
        updates: Of each execution.
        burst: Consecutive updates of one execution.
        rate: Updates a second of all; 0: as many as possible.
        late: The runs begin with their first updates, and not before all.
        size: Bytes of an update of raw Redis.
    """

    url: str
    kind: Literal["ours", "raw", "stock"] = "ours"
    executions: int = 1
    first: int = 0
    updates: int
    burst: int = 1
    rate: float = 0.0
    late: bool = False
    size: int = 270

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.executions)

    @property
    def total(self) -> int:
        return self.executions * self.updates


class Producer(Protocol):
    """A way to publish."""

    async def begin(self) -> None:
        """Connect, and begin all executions."""

    async def put(self, number: int, index: int) -> None:
        """Publish a burst to an execution, its `index`-th update first."""

    async def flush(self) -> None:
        """Return when Redis has all."""


class Ours:
    """The library."""

    def __init__(self, work: Work, hub: StreamHub) -> None:
        self._work = work
        self._hub = hub

    async def begin(self) -> None:
        for number in () if self._work.late else self._work.numbers:
            self._hub.open(name_of(number))
        await self.flush()

    async def put(self, number: int, index: int) -> None:
        hub, name = self._hub, name_of(number)
        if self._work.late and index == 0:
            hub.open(name)
        for at in range(index, index + self._work.burst):
            hub.publish(name, "token", {"content": f"token{at} ", "sent": time.monotonic_ns()})
        if self._work.rate:
            return
        buffer = hub.writer.buffer
        assert buffer is not None
        await asyncio.sleep(0 if buffer.waiting < WAITING else 0.001)

    async def flush(self) -> None:
        await self._hub.writer.flush()


class Raw:
    """A pipeline of redis-py: what Redis and its client cost for the same updates."""

    def __init__(self, work: Work, client: "redis.Redis") -> None:
        self._work = work
        self._pipeline: Any = client.pipeline(transaction=False)

    async def begin(self) -> None:
        self._pipeline.ping().execute()

    async def put(self, number: int, index: int) -> None:
        work, tag = self._work, f"lg:{{{name_of(number)}}}:"
        records = (b"%d" % time.monotonic_ns()).ljust(work.size * work.burst, b"x")
        last = index + work.burst
        self._pipeline.xadd(tag + "u", {"n": work.burst, "r": records}, id=f"{last + 1}-0")
        self._pipeline.execute_command("SPUBLISH", tag + "n", records)
        if work.rate or len(self._pipeline) >= PIPELINE:
            self._pipeline.execute()

    async def flush(self) -> None:
        self._pipeline.execute()


class Stock:
    """The manager of python-socketio, which emits to a room of servers in other processes."""

    def __init__(self, work: Work) -> None:
        self._manager = socketio.AsyncRedisManager(work.url, write_only=True)

    async def begin(self) -> None:
        await self._emit("nowhere", 0)

    async def put(self, number: int, index: int) -> None:
        await self._emit(name_of(number), index)

    async def flush(self) -> None:
        pass

    async def _emit(self, name: str, index: int) -> None:
        update = {
            "type": "token",
            "data": {"content": f"token{index} ", "sent": time.monotonic_ns()},
            "metadata": {
                "timestamp": "2026-11-20T20:00:00.123Z",
                "execution_id": name,
                "run_id": "01a1fae7-2df2-7489-8ff7-7e10cd4e3cb8",
                "sequence_number": index + 1,
                "epoch": "1645bb62",
            },
        }
        await self._manager.emit("token", update, room=name)


@asynccontextmanager
async def producer(work: Work) -> AsyncGenerator[Producer]:
    """The producer of a kind of work."""
    match work.kind:
        case "ours":
            hub = StreamHub(fleet_settings(work.url))
            try:
                yield Ours(work, hub)
            finally:
                await hub.aclose()
        case "raw":
            with redis.Redis.from_url(work.url) as client:
                yield Raw(work, client)
        case "stock":
            yield Stock(work)


async def publish(work: Work, to: Producer) -> None:
    """Give each execution a burst in turn, until each has all its updates."""
    clock = asyncio.get_running_loop().time
    began, done = clock(), 0
    for index in range(0, work.updates, work.burst):
        for number in work.numbers:
            if work.rate:
                await asyncio.sleep(began + done / work.rate - clock())
            await to.put(number, index)
            done += work.burst
    await to.flush()


async def run(work: Work) -> None:
    async with producer(work) as to:
        await to.begin()
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        began = time.perf_counter()
        await publish(work, to)
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
        await until_stdin_ends()


if __name__ == "__main__":
    uvloop.run(run(Work(**json.loads(sys.argv[1]))))
