"""Tokens a second to 500 clients in a second process, in turns on the same work.

Our gateway is compared with a stock python-socketio `emit`, and with the Socket.IO server for Node.
"""

import asyncio
import operator
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import socketio
import uvloop

from tests.bench.readers import EXECUTION, Wanted
from tests.bench.stage import ours, readers, serving, tell
from tests.support.node import node_executable
from tests.support.server import ROOT

CLIENTS = 500
ROUNDS = 3
TOKENS = {"stock": 100, "node": 400, "single": 2_000, "batch": 8_000}
TARGETS = (("single", "stock", 1.7), ("batch", "stock", 15.0), ("batch", "node", 5.0))
METADATA = {
    "timestamp": "2026-11-20T20:00:00.123Z",
    "execution_id": EXECUTION,
    "run_id": "01a1fae7-2df2-7489-8ff7-7e10cd4e3cb8",
    "epoch": "1645bb62",
}

Produce = Callable[[int], Awaitable[None]]
"""Sends tokens, so many, one a turn of the event loop."""


@asynccontextmanager
async def our_server() -> AsyncGenerator[tuple[int, Produce]]:
    """Our gateway."""
    async with ours() as server:

        async def produce(count: int) -> None:
            await server.publish(count - 1)  # the run's start is number 1

        yield server.port, produce


@asynccontextmanager
async def stock_server() -> AsyncGenerator[tuple[int, Produce]]:
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
                "metadata": {**METADATA, "sequence_number": index + 1},
            }
            await server.emit("token", update, room=EXECUTION)
            await asyncio.sleep(0)

    async with serving(socketio.ASGIApp(server)) as port:
        yield port, produce
        await server.shutdown()


@asynccontextmanager
async def node_server() -> AsyncGenerator[tuple[int, Produce]]:
    """Run the Socket.IO server for Node, in another process."""
    process = await asyncio.create_subprocess_exec(
        *(node_executable(), ROOT / "tests/js/fanout_server.mjs"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    stdin, stdout = process.stdin, process.stdout
    assert stdin is not None
    assert stdout is not None

    async def produce(count: int) -> None:
        stdin.write(b"%d\n" % count)
        await stdin.drain()

    try:
        yield int(await stdout.readline()), produce
    finally:
        stdin.close()
        await process.wait()


SERVERS = {"stock": stock_server, "node": node_server, "single": our_server, "batch": our_server}


async def measure(mode: str) -> tuple[float, float]:
    """Deliveries per second of one round, and how busy the clients were, 0 to 1; raises when one missed a token."""
    count = TOKENS[mode]
    async with SERVERS[mode]() as (port, produce):
        wanted = Wanted(port=port, count=CLIENTS, last=count, batch=mode == "batch", events=("token",), at_once=True)
        async with readers(wanted) as clients:
            began = time.perf_counter()
            await produce(count)
            report = await clients.report(count if SERVERS[mode] is not our_server else count - 1)
            elapsed = time.perf_counter() - began
    return report["updates"] / elapsed, report["busy_after_ready"] / elapsed


async def measure_all() -> dict[str, list[tuple[float, float]]]:
    """Each way in turn, several times over, so that a busy machine is as busy for all."""
    found: dict[str, list[tuple[float, float]]] = {mode: [] for mode in TOKENS}
    for _ in range(ROUNDS):
        for mode, values in found.items():
            values.append(await measure(mode))
    return found


def main() -> None:
    found = uvloop.run(measure_all())
    rates = {mode: [rate for rate, _ in values] for mode, values in found.items()}
    busy = {mode: round(statistics.median(load for _, load in values), 2) for mode, values in found.items()}
    for mode, against, target in TARGETS:
        ratio = statistics.median(our / their for our, their in zip(rates[mode], rates[against], strict=True))
        more: dict[str, Any] = {
            "deliveries_per_s": round(statistics.median(rates[mode])),
            f"{against}_deliveries_per_s": round(statistics.median(rates[against])),
            "clients": CLIENTS,
            "clients_busy": {mode: busy[mode], against: busy[against]},
        }
        tell(f"fan-out, {mode} to {against}", ratio, target, operator.ge, **more)


if __name__ == "__main__":
    main()
