"""Processes on one Redis, producers and readers in them, and the oracle of the faults.

Each hub with its own log counts as a process. Producers publish `step` updates numbered 1, 2, 3 …; readers record all
that they get. A reader has everything, each update once and in order, or a gap or notice covers what is missing.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from lg_streaming.events import Position, StreamUpdate
from lg_streaming.hub import Gap, StreamHub
from lg_streaming.hub.carry import read_when_available
from lg_streaming.log.base import StoredUpdate
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.settings import LimitSettings, RedisSettings, RetentionSettings, StreamingSettings

CHECK_INTERVAL = 0.2
TIMEOUTS = "socket_timeout=0.5&socket_connect_timeout=0.5"
PATIENCE = 20.0


@asynccontextmanager
async def process(
    url: str,
    prefix: str,
    *,
    check_interval: float = CHECK_INTERVAL,
    lease: float = 5.0,
    retention: RetentionSettings | None = None,
    limits: LimitSettings | None = None,
) -> AsyncGenerator[StreamHub]:
    """One process: a hub on its own log."""
    settings = StreamingSettings(
        log=f"{url}{'&' if '?' in url else '?'}{TIMEOUTS}",
        redis=RedisSettings(prefix=prefix, check_interval=check_interval, lease=lease),
        retention=retention or RetentionSettings(),
        limits=limits or LimitSettings(),
    )
    hub = StreamHub(settings)
    try:
        yield hub
    finally:
        await hub.aclose()


def log_of(hub: StreamHub) -> RedisLog:
    return cast("RedisLog", hub.log)


async def until(condition: Callable[[], object], what: str, timeout: float = PATIENCE) -> None:
    """Wait for a condition, with the event loop running."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.005)


async def until_listed(hub: StreamHub, *execution_ids: str, owner: str | None = None) -> None:
    """Wait until a process lists these executions and no other: the index follows an append by a moment."""
    async with asyncio.timeout(PATIENCE):
        while list(await hub.log.list_ids(owner=owner)) != list(execution_ids):
            await asyncio.sleep(0.005)


_PROGRAM = """
import asyncio, sys
from lg_streaming.hub import StreamHub

async def main():
    hub = StreamHub({"log": sys.argv[1], "redis": {"prefix": sys.argv[2], "lease": 60}})
    steps = {}
    while line := await asyncio.to_thread(sys.stdin.readline):
        execution_id, count = line.split()
        hub.open(execution_id)
        for _ in range(int(count)):
            steps[execution_id] = steps.get(execution_id, 0) + 1
            hub.publish(execution_id, "step", {"n": steps[execution_id]})
        await hub.writer.flush()
        print("published", flush=True)

asyncio.run(main())
"""


class Program:
    """A producer in its own process, which a test may kill."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def publish(self, execution_id: str, count: int) -> None:
        """Publish further steps, and wait until Redis has them."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{execution_id} {count}\n".encode())
        assert await asyncio.wait_for(stdout.readline(), PATIENCE) == b"published\n"

    def kill(self) -> None:
        self._process.kill()


@asynccontextmanager
async def program(url: str, prefix: str) -> AsyncGenerator[Program]:
    """A `Program`; killed at the end."""
    pipe = asyncio.subprocess.PIPE
    running = await asyncio.create_subprocess_exec(sys.executable, "-c", _PROGRAM, url, prefix, stdin=pipe, stdout=pipe)
    try:
        yield Program(running)
    finally:
        with suppress(ProcessLookupError):
            running.kill()
        await running.communicate()


class Reading:
    """A reader of an execution in one process, from the beginning or a position to the end of the run.

    Attributes:
        items: Records and gaps, in the order in which they came.
    """

    def __init__(
        self,
        hub: StreamHub,
        execution_id: str,
        *,
        after: Position | None = None,
        limit: int = 500,
        pause: Callable[[], float] = lambda: 0.0,
        **options: Any,
    ) -> None:
        self.items: list[StoredUpdate | Gap] = []
        self.position: Position | None = after
        self.ended = False
        self._limit = limit
        self._pause = pause
        self._subscription = hub.subscribe(execution_id, after=after, **options)
        self.execution_id = execution_id
        self.task = asyncio.create_task(self._run(), name=f"reader of {execution_id}")

    async def _run(self) -> None:
        subscription = self._subscription
        try:
            while True:
                page = await read_when_available(subscription.next_page, self._limit)
                if page.gap is not None:
                    self.items.append(page.gap)
                self.items += page.records
                self.position, self.ended = page.position, page.ended
                if page.ended:
                    return
                await asyncio.sleep(self._pause())
        finally:
            subscription.close()

    @property
    def records(self) -> list[StoredUpdate]:
        return [each for each in self.items if isinstance(each, StoredUpdate)]

    @property
    def steps(self) -> list[int]:
        return [number_of(each) for each in self.records if each.type == "step"]

    @property
    def gaps(self) -> list[Gap]:
        return [each for each in self.items if isinstance(each, Gap)]

    @property
    def types(self) -> list[str]:
        return [each.type for each in self.records]

    async def reach(self, count: int) -> None:
        """Wait for a step, or a later one where Redis may have lost it."""
        await until(lambda: max(self.steps, default=0) >= count, f"{self.execution_id}: step {count}")

    async def end(self, timeout: float = PATIENCE) -> None:
        """Wait for the end of the run."""
        await asyncio.wait([self.task], timeout=timeout)
        if not self.task.done():
            await self.stop()
            raise AssertionError(f"{self.execution_id}: no end after {self.items[-2:]}")
        self.task.result()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Producing:
    """A thread that publishes steps of an execution.

    Attributes:
        published: Number of the last step.
        slowest: Seconds of the slowest call.
    """

    def __init__(
        self,
        hub: StreamHub,
        execution_id: str,
        *,
        count: int | None = None,
        pause: float = 0.001,
        first: int = 1,
        size: int = 0,
        who: str = "",
    ) -> None:
        self.published = first - 1
        self.slowest = 0.0
        self._stop = threading.Event()
        self._hub, self._execution_id, self._pause, self._size, self._who = hub, execution_id, pause, size, who
        self._last = None if count is None else first + count - 1
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="test producer")
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and self.published != self._last:
                data = {"n": self.published + 1, "of": self._who, "pad": "x" * self._size}
                began = time.perf_counter()
                self._hub.publish(self._execution_id, "step", data)
                self.slowest = max(self.slowest, time.perf_counter() - began)
                self.published += 1
                if self._pause:
                    self._stop.wait(self._pause)
        except BaseException as error:  # noqa: BLE001 (`finish` raises it)
            self.error = error

    async def finish(self) -> int:
        """Wait for the last step, if there is one, or stop; return the number of the last step."""
        if self._last is None:
            self._stop.set()
        await asyncio.to_thread(self._thread.join)
        if self.error is not None:
            raise self.error
        return self.published

    async def reach(self, count: int) -> None:
        await until(lambda: self.published >= count, f"step {count} is published")


def number_of(record: StoredUpdate) -> int:
    return data_of(record)["n"]


def data_of(record: StoredUpdate) -> dict[str, Any]:
    return orjson.loads(record.json)["data"]


def check_everything(reading: Reading, last: int) -> None:
    """Check that a reader got exactly 1 to ``last``, at rising positions of one epoch, and the end."""
    assert reading.gaps == [], reading.gaps
    assert "updates_lost" not in reading.types, [
        data_of(each) for each in reading.records if each.type == "updates_lost"
    ]
    steps = reading.steps
    assert steps == list(range(1, last + 1)), first_difference(steps)
    assert reading.types[0] == "workflow_start"
    assert reading.types[-1] == "workflow_complete"
    check_positions(reading)


def check_positions(reading: Reading) -> None:
    """Check that positions rise by one within an epoch, except over a gap."""
    before: StoredUpdate | None = None
    for each in reading.items:
        if isinstance(each, Gap):
            before = None
            continue
        if before is not None:
            assert (each.epoch, each.seq) == (before.epoch, before.seq + 1), f"{each} after {before}"
        before = each


def check_accounted(reading: Reading, last: int, *, loses_writes: bool = False) -> None:
    """Check that what a reader missed of 1 to ``last`` lies in a gap, or is counted by `updates_lost`.

    After a gap the reader may get steps again that it had: those of a new epoch, or of another position. With
    ``loses_writes`` each new epoch may lack steps in its middle, those that a failover lost.
    """
    check_positions(reading)
    expected: int | None = 1
    holes = 0
    for each in reading.items:
        if isinstance(each, Gap):
            expected = None  # anything may follow
            holes = 1 if loses_writes and each.reason == "epoch_changed" else 0
        elif each.type == "updates_lost":
            expected = None if expected is None else expected + data_of(each)["count"]
        elif each.type == "step":
            number = number_of(each)
            if expected is not None and number > expected and holes:
                holes -= 1
            else:
                assert expected in {None, number}, f"expected {expected}, got {number}"
            expected = number + 1
    if expected is not None:
        assert expected == last + 1
    assert reading.types[-1] == "workflow_complete"


def first_difference(steps: Sequence[int]) -> str:
    for at, step in enumerate(steps, 1):
        if step != at:
            return f"{step} at place {at}, after {steps[max(0, at - 4) : at - 1]}"
    return f"{len(steps)} steps"


@dataclass
class Observing:
    """An observer of all executions in one process."""

    hub: StreamHub
    updates: list[StreamUpdate] = field(default_factory=list[StreamUpdate])

    def __post_init__(self) -> None:
        from lg_streaming.filters import ALL

        self._disposable = self.hub.readers.observe_all(filter=ALL).subscribe(self.updates.append)

    async def ready(self) -> None:
        await self.hub.log.ready()

    def steps(self, execution_id: str) -> list[int]:
        return [
            cast("dict[str, int]", each.data)["n"]
            for each in self.updates
            if each.type == "step" and each.metadata.execution_id == execution_id
        ]

    def types(self, execution_id: str) -> list[str]:
        return [each.type for each in self.updates if each.metadata.execution_id == execution_id]

    async def reach(self, execution_id: str, count: int, timeout: float = PATIENCE) -> None:
        await until(
            lambda: count in self.steps(execution_id), f"{execution_id}: {count} of {self.steps(execution_id)}", timeout
        )

    def close(self) -> None:
        self._disposable.dispose()
