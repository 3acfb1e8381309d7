"""A run that a client starts over HTTP and reads as Server-Sent Events, compared with `graph.astream`.

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
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvloop
from langchain_core.outputs import ChatGenerationChunk
from langgraph.graph import START, StateGraph
from starlette.applications import Starlette

from lg_streaming import StreamingModule
from lg_streaming.settings import TokenDefaults
from tests.bench.bench_capture import ReadyModel, model_of
from tests.bench.graphs import State
from tests.bench.stage import ROOT, serving, settings, tell

TOKENS = 5_000
ROUNDS = 7
SHORT, SHORT_ROUNDS = 20, 30
"""Tokens, and rounds, in which the time to the first token is measured."""
FIRST_MS = 5.0
UNBATCHED = (60.0, 300.0)
"""Microseconds over `astream`, and bytes, of each token."""
BATCHED = (20.0, 60.0)
ONE_EACH = TokenDefaults(buffer_size=1, batch_size=1)


class TurningModel(ReadyModel):
    """Gives the event loop a turn after each chunk, as a network does."""

    async def _astream(self, *arguments: Any, **options: Any) -> AsyncIterator[ChatGenerationChunk]:
        async for chunk in super()._astream(*arguments, **options):
            yield chunk
            await asyncio.sleep(0)


def graph_of(model: ReadyModel) -> Any:
    async def write(state: State) -> dict[str, str]:
        chunks = [chunk.text async for chunk in model.astream(state["topic"])]
        return {"text": "".join(chunks)[:100]}

    builder = StateGraph(State)
    builder.add_node("write", write)
    builder.add_edge(START, "write")
    return builder.compile()


@asynccontextmanager
async def client_of(graph: Any, tokens: TokenDefaults) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A client in another process of a server in this one."""
    chosen = settings().model_copy(update={"token_defaults": tokens})
    module = StreamingModule(chosen)
    module.graphs["write"] = graph
    app = Starlette()
    module.install(app)
    async with serving(app) as port:
        client = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.bench.starter", str(port)),
            cwd=ROOT,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield client
        finally:
            client.kill()
            await client.wait()
    await module.aclose()


async def start(client: asyncio.subprocess.Process, coding: str = "identity", tokens: int = TOKENS) -> dict[str, float]:
    """The client's report of one run, with `us`: microseconds of the server's processor for each token."""
    assert client.stdin is not None
    assert client.stdout is not None
    began = time.process_time()
    client.stdin.write(coding.encode() + b"\n")
    report: dict[str, float] = json.loads(await client.stdout.readline())
    assert report["tokens"] == tokens, report
    return {**report, "us": (time.process_time() - began) / TOKENS * 1e6, "size": report["bytes"] / TOKENS}


async def plain(graph: Any) -> dict[str, float]:
    """The same figures of `graph.astream`."""
    began, cpu, first = time.perf_counter(), time.process_time(), 0.0
    async for _ in graph.astream({"topic": "t", "text": ""}, stream_mode="messages"):
        first = first or time.perf_counter()
    return {"first_s": first - began, "us": (time.process_time() - cpu) / TOKENS * 1e6}


async def measure() -> dict[str, list[dict[str, float]]]:
    """All ways in turn, several times over."""
    graph, short = (graph_of(TurningModel(ready=model_of(tokens).ready)) for tokens in (TOKENS, SHORT))
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ("plain", "unbatched", "batched")}
    found |= {f"{name}, gzip": [] for name in ("unbatched", "batched")}
    async with client_of(graph, ONE_EACH) as unbatched, client_of(graph, TokenDefaults()) as batched:
        for _ in range(ROUNDS):
            found["plain"].append(await plain(graph))
            for name, client in {"unbatched": unbatched, "batched": batched}.items():
                found[name].append(await start(client))
                found[f"{name}, gzip"].append(await start(client, "gzip"))
    found |= {"short": [], "short plain": []}
    async with client_of(short, TokenDefaults()) as client:
        for _ in range(SHORT_ROUNDS):
            found["short plain"].append(await plain(short))
            found["short"].append(await start(client, tokens=SHORT))
    return found


def main() -> None:
    found = uvloop.run(measure())
    middle = {
        name: {figure: statistics.median(each[figure] for each in rounds) for figure in rounds[0]}
        for name, rounds in found.items()
    }
    # On a machine that others use too, the least of the rounds is the one that was disturbed least.
    ours, plain_ms = (min(each["first_s"] for each in found[name]) * 1e3 for name in ("short", "short plain"))
    first_ms = {"ours_ms": round(ours, 2), "astream_ms": round(plain_ms, 2)}
    middle_ms = {"ours_median_ms": round(middle["short"]["first_s"] * 1e3, 2)}
    over = (ours - plain_ms) / FIRST_MS
    tell("HTTP start to first token, over astream, to 5 ms", over, 1.0, operator.le, **first_ms, **middle_ms)
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
