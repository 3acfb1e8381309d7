"""Cost of one reader that has stopped reading, with full buffers, for 499 others.

Measured is their 99th percentile from publishing to arrival, with it and without.
"""

import operator
import statistics
from typing import Any

import uvloop

from tests.bench.readers import Wanted
from tests.bench.stage import ours, readers, tell

CLIENTS = 499
RATE = 20
"""Updates a second."""
UPDATES = 80
BALLAST = 1_000
BALLAST_SIZE = 8_192
"""Updates, and bytes of each, that only the stalled reader asks for: its buffers are full from the beginning."""
ROUNDS = 5
TARGET = 2.0


async def measure(stalled: int) -> dict[str, Any]:
    async with ours() as server:
        await server.publish(BALLAST, content="x" * BALLAST_SIZE)
        wanted = Wanted(
            port=server.port,
            count=CLIENTS,
            last=BALLAST + UPDATES + 1,
            after="latest",
            delays=True,
            stalled=stalled,
            at_once=True,
        )
        async with readers(wanted) as clients:
            await server.publish_at(RATE, UPDATES)
            return await clients.report(UPDATES)


async def measure_all() -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Without and with, in turn, several times over."""
    return [(await measure(0), await measure(1)) for _ in range(ROUNDS)]


def main() -> None:
    rounds = uvloop.run(measure_all())
    ratio = statistics.median(with_it["p99_ms"] / without["p99_ms"] for without, with_it in rounds)
    more = {
        "p99_ms": statistics.median(without["p99_ms"] for without, _ in rounds),
        "p99_ms_with_a_stalled_reader": statistics.median(with_it["p99_ms"] for _, with_it in rounds),
        "clients": CLIENTS,
    }
    tell("one stalled reader", ratio, TARGET, operator.le, **more)


if __name__ == "__main__":
    main()
