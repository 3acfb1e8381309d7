"""Memory of an idle connection: the server's process with 2,000 subscribed readers and without them."""

import asyncio
import operator
from pathlib import Path
from typing import Literal

import uvloop

from tests.bench.readers import Wanted
from tests.bench.stage import readers, tell
from tests.support.server import serve_process

CONNECTIONS = 2_000
WARM_UP = 200
TARGETS_KB: tuple[tuple[Literal["socketio", "sse"], float], ...] = (("socketio", 32.0), ("sse", 25.0))


def kilobytes(pid: int) -> dict[str, int]:
    """The process's memory: `Rss`, resident, and `Pss`, without what it shares with others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    fields = (line.split() for line in lines[1:])
    return {name.rstrip(":"): int(size) for name, size, *_ in fields if name in {"Rss:", "Pss:"}}


async def measure(transport: Literal["socketio", "sse"]) -> dict[str, float]:
    """Kilobytes a connection."""
    with serve_process("tests.bench.idle_app:make()", fresh=True, lifespan="off") as server:
        # What the first connections leave behind for good (imports, caches, pools) does not count.
        async with readers(Wanted(port=server.port, count=WARM_UP, transport=transport, at_once=True)) as first:
            await first.report()
        await asyncio.sleep(0.5)
        before = kilobytes(server.pid)
        async with readers(Wanted(port=server.port, count=CONNECTIONS, transport=transport)) as clients:
            after = kilobytes(server.pid)
            await clients.report()
    return {name: (after[name] - before[name]) / CONNECTIONS for name in after}


def main() -> None:
    for transport, target in TARGETS_KB:
        found = uvloop.run(measure(transport))
        more = {f"{name.lower()}_kb": round(value, 1) for name, value in found.items()}
        tell(f"idle connection, {transport}", found["Rss"] / target, 1.0, operator.le, **more, connections=CONNECTIONS)


if __name__ == "__main__":
    main()
