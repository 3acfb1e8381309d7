"""Fleets of this process, and of others."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from typing import Any, cast

from lg_streaming.errors import LogUnavailableError
from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.log.redis.connection import AsyncClient, connect_async
from lg_streaming.log.redis.fleet import RedisFleet
from lg_streaming.log.redis.follower import Follower
from lg_streaming.log.redis.io_thread import IoThread
from lg_streaming.log.redis.keys import Keys
from lg_streaming.log.redis.reading import Reader
from lg_streaming.log.redis.store import Store
from lg_streaming.log.redis.target import RedisTarget

LEASE = 0.6
PATIENCE = 10.0


class Member:
    """A process of a fleet: what a log has, and the runs that it has ended for others."""

    def __init__(
        self, url: str, prefix: str, *, lease: float = LEASE, open_runs: Callable[[], Iterable[str]] | None = None
    ) -> None:
        self._target = RedisTarget.parse(url)
        self._clients: dict[int, AsyncClient] = {}
        self.io = IoThread()
        self.abandoned: list[tuple[str, str]] = []
        self.abandon: Callable[[str, str], Awaitable[None]] = self._abandon
        keys = Keys(prefix)
        store = Store(self.client, prefix)
        self.reader = Reader(store, keys)
        self._follower = Follower(
            self,
            self.io,
            keys,
            check_interval=PATIENCE,
            notify=lambda _execution_id: None,
            notify_position=lambda _execution_id, _before: None,
        )
        self.fleet = RedisFleet(
            store,
            self.io,
            self._follower.subscribe,
            lease=lease,
            abandon=self._call_abandon,
            open_runs=open_runs,
        )
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Connect anew."""
        bury(self._clients)
        self._follower.reset()
        self._clients = {}

    def client(self) -> AsyncClient:
        here = threading.get_ident()
        if here not in self._clients:
            self._clients[here] = connect_async(self._target)
        return self._clients[here]

    async def repair_runs(self) -> None:
        """Return: there are no executions."""

    async def renew_epoch(self, execution_id: str, epoch: str) -> None:
        """Return: there are no executions."""

    async def recent_ids(self, seconds: float, *, running: bool) -> set[str]:
        return set()

    async def _abandon(self, execution_id: str, process_id: str) -> None:
        self.abandoned.append((execution_id, process_id))

    async def _call_abandon(self, execution_id: str, process_id: str) -> None:
        await self.abandon(execution_id, process_id)

    def execute(self, *command: object) -> Any:
        """Execute a command, as the log does."""

        async def run() -> Any:
            return await cast("Any", self.client()).execute_command(*command)

        return self.io.call(run()).result(PATIENCE)

    async def crash(self) -> None:
        """End the thread without a word to the others."""

        async def cancel_all() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

        self.fleet._closed, self.fleet._serving = True, None  # pyright: ignore[reportPrivateUsage]
        await self.io.run(cancel_all())
        await asyncio.to_thread(self.close)

    def close(self) -> None:
        """Leave the fleet, and end the thread."""

        async def disconnect() -> None:
            await self.client().aclose()

        with suppress(LogUnavailableError):  # a test has ended Redis
            self.io.call(self.fleet.aclose()).result(PATIENCE)
        self.io.call(disconnect()).result(PATIENCE)
        assert self.io.close(PATIENCE)


async def stop(member: Member, seconds: float) -> None:
    """Stop a member's thread, as SIGSTOP stops a process."""
    signal.sigtimedwait([], seconds)


async def stop_until(event: threading.Event) -> None:
    """Stop the thread of a member, as SIGSTOP and SIGCONT stop and continue a process."""
    deadline = time.monotonic() + PATIENCE
    while not event.is_set() and time.monotonic() < deadline:
        signal.sigtimedwait([], 0.01)


@contextmanager
def members(url: str, prefix: str) -> Generator[Callable[..., Member]]:
    """Make members of a fleet, which leave it at the end."""
    made: list[Member] = []

    def make(**options: Any) -> Member:
        made.append(Member(url, prefix, **options))
        return made[-1]

    try:
        yield make
    finally:
        for each in made:
            each.close()


async def until(condition: Callable[[], object], what: str = "", timeout: float = PATIENCE) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.005)


async def until_live(*all_members: Member) -> None:
    """Wait until each member has found all others."""
    for each in all_members:
        await each.fleet.processes()
    ids = {each.fleet.process_id for each in all_members}
    await until(lambda: all(each.fleet.live >= ids for each in all_members), "all are live")
