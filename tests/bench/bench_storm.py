"""2,000 clients that come back at the same moment, each 200 updates behind: until the last of them has the last."""

import operator
import statistics
import time
from typing import Any

import uvloop

from tests.bench.readers import EXECUTION, Wanted
from tests.bench.stage import ours, readers, tell

CLIENTS = 2_000
BEHIND = 200
UPDATES = 1_000
ROUNDS = 3
TARGET_S = 5.0
MODES: dict[str, dict[str, Any]] = {
    "single": {},
    "batch": {"batch": True},
    "SSE": {"transport": "sse"},
}


async def measure(mode: str) -> tuple[float, float]:
    """Seconds, and those of them that this process was on a processor: on a busy machine only these can be compared."""
    async with ours() as server:
        await server.publish(UPDATES - 1)
        state = await server.hub.describe(EXECUTION)
        assert state is not None
        after = f"{state.epoch}:{UPDATES - BEHIND}"
        wanted = Wanted(port=server.port, count=CLIENTS, last=UPDATES, after=after, at_once=True, **MODES[mode])
        busy = time.process_time()
        async with readers(wanted) as clients:
            report = await clients.report(BEHIND)
            return report["seconds"], time.process_time() - busy


async def measure_all() -> dict[str, list[tuple[float, float]]]:
    """Each way in turn, several times over."""
    found: dict[str, list[tuple[float, float]]] = {mode: [] for mode in MODES}
    for _ in range(ROUNDS):
        for mode, taken in found.items():
            taken.append(await measure(mode))
    return found


def main() -> None:
    for mode, taken in uvloop.run(measure_all()).items():
        seconds, busy = ([each[index] for each in taken] for index in (0, 1))
        middle = statistics.median(seconds)
        more = {
            "seconds": round(middle, 2),
            "best_seconds": round(min(seconds), 2),
            "server_busy_seconds": round(statistics.median(busy), 2),
            "clients": CLIENTS,
        }
        tell(f"storm of reconnects, {mode}", middle / TARGET_S, 1.0, operator.le, **more)


if __name__ == "__main__":
    main()
