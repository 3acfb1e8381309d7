"""The server whose memory `bench_idle` looks at; `python -m tests.bench.idle_app sse` shows where it goes, by line."""

import asyncio
import sys
import tracemalloc
from collections import Counter

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse

from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from tests.bench.readers import EXECUTION, Wanted
from tests.bench.stage import readers, settings
from tests.support.server import serve_process

CONNECTIONS = 500
SHOWN = 30
FRAMES = 1


def make() -> Starlette:
    """Our gateway with one execution."""
    hub = StreamHub(settings())
    gateway = Gateway(hub)
    app = Starlette()
    gateway.install(app)
    app.add_route("/allocated", allocated)
    hub.open(EXECUTION)
    return app


async def allocated(_: Request) -> JSONResponse:
    """Bytes by line, as tracemalloc knows them."""
    found: Counter[str] = Counter()
    for each in tracemalloc.take_snapshot().statistics("lineno"):
        frame = each.traceback[0]
        found[f"{frame.filename}:{frame.lineno}"] += each.size
    return JSONResponse(found)
