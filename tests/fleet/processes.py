"""Processes of a fleet that a test pauses, kills and restarts; what their readers get, and the oracle for it."""

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from lg_streaming.client import SSEClient
from lg_streaming.errors import StreamingError
from lg_streaming.events import FINAL_TYPES, StreamUpdate
from lg_streaming.hub import StreamHub
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.settings import StreamingSettings
from tests.support.redis_server import RedisServer
from tests.support.server import ServerProcess, serve_process

__all__ = ["PATIENCE", "Fleet", "Hopper", "Member", "finals", "numbers", "until"]

PATIENCE = 30.0


@dataclass(kw_only=True)
class Member:
    """A process: a producer and a gateway."""

    server: ServerProcess
    http: httpx2.AsyncClient

    async def do(self, code: str) -> Any:
        """Run code in the process: `p` is its `FleetProcess`, `hub` its hub. Return what it returns.

        Raises:
            AssertionError: If it raises; `str` of it begins with the name of the exception.
        """
        answer = await self.http.post(f"{self.server.url}/do", content=code, timeout=PATIENCE)
        found = answer.json()
        assert answer.status_code == 200, f"{found['error']}: {found['message']}"
        return found

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.server.kill()

    def pause(self) -> None:
        """Stop it, as a debugger or a hypervisor does."""
        os.kill(self.server.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it continue."""
        os.kill(self.server.pid, signal.SIGCONT)

    async def stop(self) -> float:
        """Stop it as a deploy does; return the seconds that it took."""
        return await asyncio.to_thread(self.server.stop, 15.0)

    async def read(self, execution_id: str, **options: Any) -> list[StreamUpdate]:
        """Return the updates of an execution to the end of its run, over HTTP."""
        async with asyncio.timeout(PATIENCE), SSEClient(self.server.url) as client:
            return [update async for update in client.subscribe(execution_id, **options)]


class Hopper:
    """Reader that goes to another process when its connection breaks, and resumes there."""

    def __init__(self, *members: Member) -> None:
        self.members = list(members)
        self.at = 0
        """Process that is read next."""
        self.updates: list[StreamUpdate] = []
        self.breaks = 0

    async def read(self, execution_id: str) -> list[StreamUpdate]:
        """Read to the end of a run; return its updates."""
        async with asyncio.timeout(2 * PATIENCE):
            while not (self.updates and self.updates[-1].is_final):
                member = self.members[self.at % len(self.members)]
                self.at += 1
                after = self.updates[-1].position if self.updates else None
                with suppress(StreamingError, OSError):
                    async with SSEClient(member.server.url, auto_reconnect=False) as client:
                        async for update in client.subscribe(execution_id, after=after):
                            self.updates.append(update)
                if self.updates and not self.updates[-1].is_final:
                    self.breaks += 1
                await asyncio.sleep(0.01)
        return self.updates


@dataclass(kw_only=True)
class Fleet:
    """Processes on one Redis, and a hub of this process that reads. The hub is no process of the fleet's leases."""

    redis: RedisServer
    prefix: str
    folder: Path
    lease: float = 1.0
    record_ttl: float = 86_400.0
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @classmethod
    @asynccontextmanager
    async def of(cls, redis: RedisServer, prefix: str, folder: Path, **options: Any) -> AsyncGenerator["Fleet"]:
        """Return a fleet without processes; those that are started end with the context."""
        fleet = cls(redis=redis, prefix=prefix, folder=folder, **options)
        async with fleet._stack:
            yield fleet

    @property
    def settings(self) -> StreamingSettings:
        return StreamingSettings.model_validate(
            {
                "log": self.redis.url,
                "redis": {"prefix": self.prefix, "lease": self.lease, "check_interval": 0.5},
                "retention": self._retention,
                "limits": {"cancel_grace": 1.0},
            }
        )

    @property
    def _retention(self) -> dict[str, float]:
        return {"record_ttl": self.record_ttl, "ttl": min(self.record_ttl, 3_600.0)}

    async def start(self, *, port: int = 0, fresh: bool = False, **env: str) -> Member:
        """Start a process. With `CLOCK` its clock is so many seconds ahead."""
        env |= {
            "LOG": self.redis.url,
            "PREFIX": self.prefix,
            "LEASE": str(self.lease),
            "RETENTION": json.dumps(self._retention),
        }
        env |= {"CHECKPOINTS": str(self.folder / "checkpoints")}
        serving = serve_process("tests.fleet.app:make()", port=port, env=env, fresh=fresh, timeout_graceful_shutdown=1)
        server = await asyncio.to_thread(serving.__enter__)
        self._stack.callback(_end, server, serving)
        http = await self._stack.enter_async_context(httpx2.AsyncClient())
        return Member(server=server, http=http)

    async def hub(self) -> StreamHub:
        """Return a hub of this process, which is a member of the fleet, too."""
        hub = StreamHub(self.settings, log=RedisLog.from_settings(self.settings))
        self._stack.push_async_callback(hub.aclose)
        return hub


def _end(server: ServerProcess, _serving: object) -> None:
    """End a process at once. The second argument ends it, too, when it is collected as garbage."""
    if server.process.returncode is None:
        server.kill()


async def until(condition: Callable[[], Awaitable[object]], what: str, timeout: float = PATIENCE) -> None:
    """Wait until `await condition()` is true."""
    deadline = time.monotonic() + timeout
    while not await condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        await asyncio.sleep(0.02)


def numbers(updates: Sequence[StreamUpdate]) -> None:
    """Assert that the updates are 1..N, each once, in one epoch."""
    found = [update.metadata.sequence_number for update in updates]
    assert found == list(range(1, len(found) + 1))
    assert len({update.metadata.epoch for update in updates}) == 1


def finals(updates: Sequence[StreamUpdate]) -> list[str]:
    """Return the types of the final updates, and assert that each run has one, its last update."""
    types = [update.type for update in updates if update.type in FINAL_TYPES]
    open_run: str | None = None
    for update in updates:
        if update.type == "workflow_start":
            assert open_run is None, f"a run starts in a run, at {update.metadata.sequence_number}"
            open_run = update.metadata.scope.run_id
        assert open_run is not None, f"{update.type} follows the end of its run"
        if update.type in FINAL_TYPES:
            open_run = None
    return types
