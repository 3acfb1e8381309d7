"""10,000 updates that are there already, to one client that comes: from connecting to the last one's arrival."""

import operator
import statistics
from typing import Any

import uvloop

from tests.bench.readers import Wanted
from tests.bench.stage import ours, readers, tell

UPDATES = 10_000
ROUNDS = 7
TARGET_MS = 300.0
MODES: dict[str, dict[str, Any]] = {
    "single": {},
    "batch": {"batch": True},
    "SSE": {"transport": "sse"},
}


async def measure() -> dict[str, list[float]]:
    """Milliseconds, each way in turn, several times over."""
    found: dict[str, list[float]] = {mode: [] for mode in MODES}
    async with ours() as server:
        await server.publish(UPDATES - 1)
        for _ in range(ROUNDS):
            for mode, taken in found.items():
                wanted = Wanted(port=server.port, count=1, last=UPDATES, **MODES[mode])
                async with readers(wanted) as client:
                    taken.append((await client.report(UPDATES))["seconds"] * 1e3)
    return found


def main() -> None:
    for mode, taken in uvloop.run(measure()).items():
        middle = statistics.median(taken)
        more = {"ms": round(middle), "best_ms": round(min(taken)), "updates": UPDATES}
        tell(f"replay, {mode}", middle / TARGET_MS, 1.0, operator.le, **more)


if __name__ == "__main__":
    main()
