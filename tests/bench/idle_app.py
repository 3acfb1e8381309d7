"""The server whose memory `bench_idle` looks at. `python -m tests.bench.idle_app socketio` shows, by line of source,
what an idle connection over a transport allocates: bytes, as tracemalloc knows them.
"""

import asyncio
import json
import sys
import tracemalloc
import urllib.request
from collections import Counter
from typing import Literal

import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from tests.bench.readers import EXECUTION, Wanted
from tests.bench.stage import readers, settings
from tests.support.server import ROOT, serve_process

CONNECTIONS = 1_000
SHOWN = 40


def make() -> Starlette:
    """Our gateway with one execution."""
    hub = StreamHub(settings())
    app = Starlette()
    Gateway(hub).install(app)
    app.add_route("/allocated", allocated)
    hub.open(EXECUTION)
    return app


async def allocated(_: Request) -> JSONResponse:
    """Bytes by line of source."""
    found: Counter[str] = Counter()
    for each in tracemalloc.take_snapshot().statistics("lineno"):
        frame = each.traceback[0]
        found[f"{frame.filename.removeprefix(str(ROOT))}:{frame.lineno}"] += each.size
    return JSONResponse(found)


def ask(url: str) -> Counter[str]:
    with urllib.request.urlopen(f"{url}/allocated") as answer:
        return Counter(json.load(answer))


async def measure(transport: Literal["socketio", "sse"]) -> Counter[str]:
    """Bytes of a connection by line."""
    with serve_process(
        "tests.bench.idle_app:make()", env={"PYTHONTRACEMALLOC": "1"}, fresh=True, lifespan="off"
    ) as server:
        async with readers(Wanted(port=server.port, count=CONNECTIONS // 10, transport=transport)) as first:
            await first.report()
        before = await asyncio.to_thread(ask, server.url)
        async with readers(Wanted(port=server.port, count=CONNECTIONS, transport=transport)) as clients:
            after = await asyncio.to_thread(ask, server.url)
            await clients.report()
    return Counter({line: (size - before[line]) // CONNECTIONS for line, size in after.items()})


if __name__ == "__main__":
    found = uvloop.run(measure("sse" if sys.argv[1:] == ["sse"] else "socketio"))
    print(f"{found.total():8} in all")
    for line, size in found.most_common(SHOWN):
        print(f"{size:8} {line}")
