"""A run that a client starts over HTTP and reads as Server-Sent Events, compared with `graph.astream`.

The first token is measured over Socket.IO too.

The processor time of the server counts: graph, capture, log and stream. The client is another process. A model answers
with chunks that were made before. `unbatched`: one update for each token; `batched`: the default, ten. Bytes are those
on the network, for a client that accepts gzip, as browsers do, and for one that does not.
"""

import asyncio
import json
import operator
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from starlette.applications import Starlette

from lg_streaming import StreamingModule
from lg_streaming.settings import TokenDefaults
from tests.bench.stage import ROOT, serving, settings, tell
from tests.bench.start_graph import SHORT, TOKENS, graph, short

ROUNDS = 7
SHORT_ROUNDS = 30
"""Rounds in which the time to the first token is measured."""
FIRST_MS = 5.0
UNBATCHED = (60.0, 300.0)
"""Microseconds over `astream`, and bytes, of each token."""
BATCHED = (20.0, 60.0)
ONE_EACH = TokenDefaults(buffer_size=1, batch_size=1)

Process = asyncio.subprocess.Process


@asynccontextmanager
async def client_of(tokens: TokenDefaults, kind: str = "ours") -> AsyncGenerator[Process]:
    """A client in another process of a server in this one; ``kind``: see `tests.bench.starter`."""
    module = StreamingModule(settings().model_copy(update={"token_defaults": tokens}))
    module.graphs["write"], module.graphs["short"] = graph, short
    app = Starlette()
    module.install(app)
    async with serving(app) as port, client_process(port, kind) as client:
        yield client
    await module.aclose()


@asynccontextmanager
async def client_process(port: int, kind: str = "ours") -> AsyncGenerator[Process]:
    """A client in another process; see `tests.bench.starter`."""
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.starter", str(port), kind),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield client
    finally:
        client.kill()
        await client.wait()


async def start(
    client: Process,
    coding: str = "identity",
    name: str = "write",
    *,
    busy: Callable[[], float] = time.process_time,
) -> dict[str, float]:
    """The client's report of one run, with `us`: microseconds of the server's processor for each token."""
    assert client.stdin is not None
    assert client.stdout is not None
    tokens, began = SHORT if name == "short" else TOKENS, busy()
    client.stdin.write(f"{name} {coding}\n".encode())
    report: dict[str, float] = json.loads(await client.stdout.readline())
    assert report["tokens"] == tokens, report
    return {**report, "us": (busy() - began) / tokens * 1e6, "size": report["bytes"] / tokens}


async def plain(graph: Any) -> dict[str, float]:
    """The same figures of `graph.astream`."""
    began, cpu, first = time.perf_counter(), time.process_time(), 0.0
    async for _ in graph.astream({"topic": "t", "text": ""}, stream_mode="messages"):
        first = first or time.perf_counter()
    return {"first_s": first - began, "us": (time.process_time() - cpu) / TOKENS * 1e6}


async def measure() -> dict[str, list[dict[str, float]]]:
    """All ways in turn, several times over."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("plain", "unbatched", "batched")}
    found |= {f"{name}, gzip": [] for name in ("unbatched", "batched")}
    async with client_of(ONE_EACH) as unbatched, client_of(TokenDefaults()) as batched:
        for _ in range(ROUNDS):
            found["plain"].append(await plain(graph))
            for name, client in {"unbatched": unbatched, "batched": batched}.items():
                found[name].append(await start(client))
                found[f"{name}, gzip"].append(await start(client, "gzip"))
    found |= {"HTTP": [], "Socket.IO": [], "short plain": []}
    async with client_of(TokenDefaults()) as http, client_of(TokenDefaults(), "socketio") as socketio:
        for _ in range(SHORT_ROUNDS):
            found["short plain"].append(await plain(short))
            found["HTTP"].append(await start(http, name="short"))
            found["Socket.IO"].append(await start(socketio, name="short"))
    return found


def main() -> None:
    found = uvloop.run(measure())
    middle = {
        name: {figure: statistics.median(each[figure] for each in rounds) for figure in rounds[0]}
        for name, rounds in found.items()
    }
    # On a machine that others use too, the least of the rounds is the one that was disturbed least.
    plain_ms = min(each["first_s"] for each in found["short plain"]) * 1e3
    for name in ("HTTP", "Socket.IO"):
        ours = min(each["first_s"] for each in found[name]) * 1e3
        first_ms = {"ours_ms": round(ours, 2), "astream_ms": round(plain_ms, 2)}
        middle_ms = {"ours_median_ms": round(middle[name]["first_s"] * 1e3, 2)}
        over = (ours - plain_ms) / FIRST_MS
        tell(f"{name} start to first token, over astream, to 5 ms", over, 1.0, operator.le, **first_ms, **middle_ms)
    for name, (most_us, most_bytes) in {"unbatched": UNBATCHED, "batched": BATCHED}.items():
        packed = middle[f"{name}, gzip"]
        micros, size = middle[name]["us"] - middle["plain"]["us"], packed["size"]
        shown = {
            "over_astream_us": round(micros, 1),
            "server_us": round(middle[name]["us"], 1),
            "server_gzip_us": round(packed["us"], 1),
            "astream_us": round(middle["plain"]["us"], 1),
            "bytes": round(middle[name]["size"], 1),
            "gzip_bytes": round(size, 1),
        }
        tell(f"a token of a started run, {name}, to {most_us:g} us", micros / most_us, 1.0, operator.le, **shown)
        tell(
            f"a token of a started run, {name}, to {most_bytes:g} bytes with gzip", size / most_bytes, 1.0, operator.le
        )


if __name__ == "__main__":
    main()
