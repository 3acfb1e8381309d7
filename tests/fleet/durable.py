"""Processes with a durable checkpointer, on a shared log or each with a memory log."""

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from lg_streaming.client import SSEClient
from lg_streaming.events import StreamUpdate
from tests.fleet.processes import PATIENCE, Member
from tests.support.server import ServerProcess, serve_process

__all__ = ["LEASE", "Durable"]

LEASE = 1.0


@dataclass(kw_only=True)
class Durable:
    """Processes that share a checkpointer. Without a log URL each has a memory log."""

    checkpoints: str
    folder: Path
    log: str | None = None
    prefix: str = ""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @classmethod
    @asynccontextmanager
    async def of(cls, **fields: Any) -> AsyncGenerator["Durable"]:
        """Return the processes, none of which runs; those that are started end with the context."""
        durable = cls(**fields)
        async with durable._stack:
            yield durable

    async def start(self, **settings: Any) -> Member:
        """Start a process."""
        settings = {"limits": {"cancel_grace": 1.0}, "runs": {"shutdown_grace": 0.2}} | self.settings | settings
        if self.log is not None:
            settings |= {"log": self.log, "redis": {"prefix": self.prefix, "lease": LEASE, "check_interval": 0.5}}
        env = {"SETTINGS": json.dumps(settings), "CHECKPOINTS": self.checkpoints, "FOLDER": str(self.folder)}
        serving = serve_process("tests.fleet.durable_app:make()", env=env, timeout_graceful_shutdown=1)
        server = await asyncio.to_thread(serving.__enter__)
        self._stack.callback(_end, server, serving)
        http = await self._stack.enter_async_context(httpx2.AsyncClient())
        return Member(server=server, http=http)

    @property
    def calls(self) -> list[str]:
        """Nodes that have begun, in all processes."""
        path = self.folder / "calls"
        return path.read_text().split("\n")[:-1] if path.exists() else []

    def open_gate(self) -> None:
        """Let the node ``work`` end."""
        (self.folder / "gate").touch()

    async def reach(self, call: str, count: int = 1) -> None:
        """Wait until a node has begun so many times."""
        deadline = time.monotonic() + PATIENCE
        while self.calls.count(call) < count:
            assert time.monotonic() < deadline, f"{call} did not begin: {self.calls}"
            await asyncio.sleep(0.01)


def _end(server: ServerProcess, _serving: object) -> None:
    if server.process.returncode is None:
        server.kill()


async def until_interrupted(member: Member, execution_id: str = "e") -> list[StreamUpdate]:
    """Read an execution to its pause; return its updates."""
    async with asyncio.timeout(PATIENCE), SSEClient(member.server.url) as client:
        found: list[StreamUpdate] = []
        async for update in client.subscribe(execution_id):
            found.append(update)
            if update.type == "workflow_interrupted":
                return found
        raise AssertionError(f"the run ended: {types_of(found)}")


def types_of(updates: Sequence[StreamUpdate]) -> list[str]:
    """Return the types of updates."""
    return [each.type for each in updates]
