"""Cost of a decorated node while no module is configured, in turns with the plain function."""

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from lg_streaming import stream_event, stream_progress, stream_token

CALLS = 50_000
ROUNDS = 9
TARGET_US = 2.0


async def node(state: dict[str, Any]) -> dict[str, Any]:
    return state


def node_sync(state: dict[str, Any]) -> dict[str, Any]:
    return state


async def time_async(call: Callable[[dict[str, Any]], Awaitable[Any]]) -> float:
    state: dict[str, Any] = {}
    started = time.perf_counter()
    for _ in range(CALLS):
        await call(state)
    return (time.perf_counter() - started) / CALLS * 1e6


def time_sync(call: Callable[[dict[str, Any]], Any]) -> float:
    state: dict[str, Any] = {}
    started = time.perf_counter()
    for _ in range(CALLS):
        call(state)
    return (time.perf_counter() - started) / CALLS * 1e6


def result(name: str, plain: list[float], decorated: list[float]) -> dict[str, Any]:
    before, after = statistics.median(plain), statistics.median(decorated)
    return {
        "name": name,
        "ratio": round(after / before, 2),
        "target": f"<= {TARGET_US} us over the plain node",
        "ok": after - before <= TARGET_US,
        "over_us": round(after - before, 3),
        "plain_us": round(before, 3),
        "decorated_us": round(after, 3),
    }


async def measure() -> list[dict[str, Any]]:
    decorated = stream_token(stream_event(stream_progress(node)))
    decorated_sync = stream_token(stream_event(stream_progress(node_sync)))
    times: dict[str, list[float]] = {"plain": [], "decorated": [], "plain sync": [], "decorated sync": []}
    for _ in range(ROUNDS):
        times["plain"].append(await time_async(node))
        times["decorated"].append(await time_async(decorated))
        times["plain sync"].append(time_sync(node_sync))
        times["decorated sync"].append(time_sync(decorated_sync))
    return [
        result("pass-through of an async node", times["plain"], times["decorated"]),
        result("pass-through of a sync node", times["plain sync"], times["decorated sync"]),
    ]


def main() -> None:
    for line in asyncio.run(measure()):
        print(json.dumps(line))
