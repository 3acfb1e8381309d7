"""Tokens a second to 100 clients in a second process: our gateway against a stock python-socketio `emit`."""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import socketio
import uvicorn
import uvloop
from starlette.applications import Starlette

from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from lg_streaming.settings import RetentionSettings, StreamingSettings
from tests.bench.fanout_clients import EXECUTION
from tests.support.server import DEFAULTS, ROOT, free_socket

CLIENTS = 100
ROUNDS = 3
TOKENS = {"stock": 1_500, "single": 15_000, "batch": 30_000}
TARGETS = {"single": 1.7, "batch": 15.0}

Produce = Callable[[int], Awaitable[None]]


@asynccontextmanager
async def serving(app: Any) -> AsyncGenerator[int]:
    """The app on uvicorn, in this process and on this event loop."""
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


@asynccontextmanager
async def ours() -> AsyncGenerator[tuple[Any, Produce]]:
    """Our gateway, and what publishes tokens, one a turn of the event loop."""
    # Nobody may fall behind the end of what is kept: every token has to be delivered.
    settings = StreamingSettings(retention=RetentionSettings(max_updates=1_000_000, max_bytes=2**30))
    hub = StreamHub(settings)
    gateway = Gateway(hub, settings)
    app = Starlette()
    gateway.install(app)
    hub.open(EXECUTION)

    async def produce(count: int) -> None:
        # The run's start is number 1.
        for index in range(count - 1):
            hub.publish(EXECUTION, "token", {"content": f"token{index} ", "index": index})
            await asyncio.sleep(0)

    try:
        yield app, produce
    finally:
        await gateway.shutdown()
        await hub.aclose()


@asynccontextmanager
async def stock() -> AsyncGenerator[tuple[Any, Produce]]:
    """python-socketio as it comes: everybody in one room, one `emit` a token."""
    server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])

    async def subscribe(sid: str, _: object) -> bool:
        await server.enter_room(sid, EXECUTION)
        return True

    server.on("subscribe_execution", subscribe)

    async def produce(count: int) -> None:
        for index in range(count):
            update = {
                "type": "token",
                "data": {"content": f"token{index} ", "index": index},
                "metadata": {
                    "timestamp": "2026-11-20T20:00:00.123Z",
                    "execution_id": EXECUTION,
                    "run_id": "01a1fae7-2df2-7489-8ff7-7e10cd4e3cb8",
                    "sequence_number": index + 1,
                    "epoch": "1645bb62",
                },
            }
            await server.emit("token", update, room=EXECUTION)
            await asyncio.sleep(0)

    yield socketio.ASGIApp(server), produce
    await server.shutdown()


async def measure(mode: str) -> float:
    """Deliveries per second of one round; raises when a client missed a token."""
    count = TOKENS[mode]
    async with (stock if mode == "stock" else ours)() as (app, produce), serving(app) as port:
        clients = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "tests.bench.fanout_clients", str(port), str(CLIENTS), str(count), mode),
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
        )
        assert clients.stdout is not None
        assert await clients.stdout.readline() == b"ready\n"
        began = time.perf_counter()
        await produce(count)
        line = await clients.stdout.readline()
        elapsed = time.perf_counter() - began
        await clients.wait()
    report = json.loads(line)
    expected = (count if mode == "stock" else count - 1) * CLIENTS
    if report["holes"] or report["tokens"] != expected:
        raise AssertionError(f"{mode}: {report}, expected {expected} tokens without a hole")
    return expected / elapsed


async def measure_all() -> dict[str, list[float]]:
    """Each way in turn, several times over, so that a busy machine is as busy for all."""
    rates: dict[str, list[float]] = {mode: [] for mode in TOKENS}
    for _ in range(ROUNDS):
        for mode, found in rates.items():
            found.append(await measure(mode))
    return rates


def main() -> None:
    rates = uvloop.run(measure_all())
    for mode, target in TARGETS.items():
        ratio = statistics.median(our / their for our, their in zip(rates[mode], rates["stock"], strict=True))
        result = {
            "name": f"fan-out, {mode}",
            "ratio": round(ratio, 2),
            "target": target,
            "ok": ratio >= target,
            "deliveries_per_s": round(statistics.median(rates[mode])),
            "stock_deliveries_per_s": round(statistics.median(rates["stock"])),
            "clients": CLIENTS,
            "holes": 0,
        }
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
