"""Parts that the benchmarks of the gateway share: our server, readers in another process, a result's line."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Final, get_args

import uvicorn
from starlette.applications import Starlette

from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from lg_streaming.settings import AuthSettings, GatewaySettings, LimitSettings, RetentionSettings, StreamingSettings
from tests.bench.readers import EXECUTION, Wanted
from tests.support.server import DEFAULTS, ROOT, free_socket

KEEP_ALL: Final = RetentionSettings(max_updates=1_000_000, max_bytes=2**30)
"""Limits with which no reader meets a gap: every update has to be delivered."""


def unlimited() -> LimitSettings:
    """No limit to the connections: they all come from one address."""
    return LimitSettings.model_validate(
        {
            name: None
            for name, field in LimitSettings.model_fields.items()
            if name.startswith("connect") and type(None) in get_args(field.annotation)
        }
    )


def settings(*, log: str = "memory://", retention: RetentionSettings = KEEP_ALL, **gateway: Any) -> StreamingSettings:
    """Everybody from this machine is let in; `gateway` are gateway settings that are not the default's."""
    return StreamingSettings(
        log=log,
        auth=AuthSettings(enabled=False),
        gateway=GatewaySettings(**gateway),
        limits=unlimited(),
        retention=retention,
    )


@asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[int]:
    """The app on uvicorn, in this process and on this event loop; gives the port."""
    sock = free_socket()
    options: dict[str, Any] = {**DEFAULTS, "lifespan": "off"}
    server = uvicorn.Server(uvicorn.Config(app, **options))
    task = asyncio.create_task(server.serve(sockets=[sock]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield sock.getsockname()[1]
    finally:
        server.should_exit = True
        await task


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """Our gateway."""

    hub: StreamHub
    port: int

    def publish_one(self, index: int, content: str = "") -> None:
        """One token."""
        self.hub.publish(EXECUTION, "token", {"content": content or f"token{index} ", "index": index})

    async def publish(self, count: int, *, content: str = "") -> None:
        """So many tokens, one a turn of the event loop."""
        for index in range(count):
            self.publish_one(index, content)
            await asyncio.sleep(0)

    async def publish_at(self, rate: float, count: int) -> None:
        """Publish so many tokens, so many a second; each has the time `sent`, in nanoseconds of the monotonic clock."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for index in range(count):
            await asyncio.sleep(began + index / rate - loop.time())
            self.hub.publish(EXECUTION, "token", {"content": f"token{index} ", "sent": time.monotonic_ns()})


@asynccontextmanager
async def ours(chosen: StreamingSettings | None = None) -> AsyncGenerator[Ours]:
    """Our gateway in this process, with an execution whose start is update number 1."""
    chosen = chosen or settings()
    hub = StreamHub(chosen)
    gateway = Gateway(hub, chosen)
    app = Starlette()
    gateway.install(app)
    hub.open(EXECUTION)
    try:
        async with serving(app) as port:
            yield Ours(hub=hub, port=port)
            await gateway.shutdown()
    finally:
        await hub.aclose()


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """A process of readers that have subscribed."""

    wanted: Wanted
    process: asyncio.subprocess.Process

    async def report(self, updates: int | None = None) -> dict[str, Any]:
        """Return the readers' observations, at their end.

        Raises:
            AssertionError: If an update is missing, or a reader got another number of updates than expected.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if not self.wanted.last:
            self.process.stdin.close()
        line = await self.process.stdout.readline()
        report: dict[str, Any] = json.loads(line)
        if report["holes"] or updates not in {None, report["fewest"]}:
            raise AssertionError(f"{report}, expected {updates} updates each without a hole")
        return report


@asynccontextmanager
async def readers(wanted: Wanted, *, ready: bool = True) -> AsyncGenerator[Readers]:
    """Readers in a second process; `ready` waits until all have subscribed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.readers", json.dumps(asdict(wanted))),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        if ready and await process.stdout.readline() != b"ready\n":
            raise AssertionError("the readers did not subscribe")
        yield Readers(wanted=wanted, process=process)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def tell(name: str, ratio: float, target: float, bound: Callable[[float, float], bool], **more: Any) -> None:
    """Prints a result; `bound` is `operator.ge` or `operator.le`."""
    sign = {"ge": ">=", "le": "<="}[bound.__name__]
    line = {"name": name, "ratio": round(ratio, 3), "target": f"{sign} {target:.3g}", "ok": bound(ratio, target)}
    print(json.dumps({**line, **more}), flush=True)
