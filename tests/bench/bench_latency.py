"""From publishing an update to its arrival at a client, at 10,000 deliveries a second."""

import asyncio
import operator
import statistics
from typing import Any

import uvloop

from tests.bench.readers import Wanted
from tests.bench.stage import ours, readers, tell

CLIENTS = 100
RATE = 100
"""Updates a second."""
UPDATES = 500
ROUNDS = 3
TARGET_MS = 20.0
MODES: dict[str, dict[str, Any]] = {
    "single": {},
    "batch": {"batch": True},
    "SSE": {"transport": "sse"},
}


async def measure(mode: str) -> dict[str, Any]:
    async with ours() as server:
        wanted = Wanted(port=server.port, count=CLIENTS, last=UPDATES + 1, delays=True, **MODES[mode])
        async with readers(wanted) as clients:
            await server.publish_at(RATE, UPDATES)
            return await clients.report()


async def measure_all() -> dict[str, list[dict[str, Any]]]:
    """Each way in turn, several times over."""
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in MODES}
    for _ in range(ROUNDS):
        for mode, reports in found.items():
            reports.append(await measure(mode))
            await asyncio.sleep(0.2)
    return found


def main() -> None:
    for mode, reports in uvloop.run(measure_all()).items():
        middle = {name: statistics.median(each[name] for each in reports) for name in ("p50_ms", "p99_ms", "max_ms")}
        rate = CLIENTS * RATE
        tell(f"latency, {mode}", middle["p99_ms"] / TARGET_MS, 1.0, operator.le, **middle, deliveries_per_s=rate)


if __name__ == "__main__":
    main()
