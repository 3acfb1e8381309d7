"""Cost of a token on each wire, compared with our own event stream, and with the other systems' own servers.

`encoder`: the encoder of one stream alone, in pages of ten updates. `server`: a whole chat, of 5,000 tokens, that a
client in another process starts and reads: graph, capture, log and stream. `unbatched`: one update for each token;
`batched`: the default, ten. Bytes are those on the network, without and with gzip.

Their servers are `langgraph dev` and the package ag-ui-langgraph, each with the same graph and the same client. They
are installed into `.venv-langgraph-dev`. That needs a package index, so `make bench` runs this only when it is named.
"""

import asyncio
import json
import operator
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import uvloop
from langgraph.checkpoint.memory import InMemorySaver
from starlette.applications import Starlette

from lg_streaming import StreamingModule
from lg_streaming.settings import TokenDefaults
from lg_streaming.types import WireName
from tests.bench.peers import ag_ui_langgraph, install, langgraph_dev, version_of
from tests.bench.stage import ROOT, serving, settings, tell
from tests.bench.start_graph import TOKENS, chat_of
from tests.bench.wire_encoders import ENCODERS, encode, updates_of_a_chat

ROUNDS = 5
THEIR_ROUNDS = 3
ONE_EACH = TokenDefaults(buffer_size=1, batch_size=1)
MOST_US = 10.0
"""Target of an update in an encoder, in microseconds."""
MOST = 2.0
"""Target of a token's cost on a wire, as a multiple of that in our own event stream."""
WIRES: Mapping[str, tuple[WireName, str]] = {
    "ai-sdk": ("ai-sdk", "/api/chat"),
    "ag-ui": ("ag-ui", "/agui"),
    "langgraph": ("langgraph", "/"),
    "langgraph-events": ("langgraph", "/"),
    "durable-streams": ("durable-streams", "/v1/stream"),
}
"""Chats of `tests.bench.chats`, with the wire that serves them, and the path."""
THEIRS = {
    "langgraph": ("langgraph dev", "langgraph-api"),
    "langgraph-events": ("langgraph dev", "langgraph-api"),
    "ag-ui": ("ag-ui-langgraph", "ag-ui-langgraph"),
}

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Chatter:
    """A client in another process, and the server that it chats with."""

    process: asyncio.subprocess.Process
    chat: str
    path: str
    busy: Callable[[], float]

    async def once(self, coding: str = "identity") -> Figures:
        """Chat once: `us` are microseconds of the server's processor for each token, `size` is a token's bytes."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        began = self.busy()
        self.process.stdin.write(f"{self.chat} {self.path} {coding}\n".encode())
        line = await self.process.stdout.readline()
        if not line:
            sys.exit(f"the client of {self.chat} ended with {await self.process.wait()}")
        report: Figures = json.loads(line)
        assert report["tokens"] == TOKENS, (self.chat, report)
        return {**report, "us": (self.busy() - began) / TOKENS * 1e6, "size": report["bytes"] / TOKENS}


@asynccontextmanager
async def chatter(port: int, chat: str, path: str, busy: Callable[[], float]) -> AsyncGenerator[Chatter]:
    """A client of a server."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.bench.chats", str(port)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Chatter(process, chat, path, busy)
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def ours(chat: str, tokens: TokenDefaults) -> AsyncGenerator[Chatter]:
    """Our server in this process, with the one wire."""
    wire, path = WIRES.get(chat, (None, "/"))
    module = StreamingModule(settings().model_copy(update={"token_defaults": tokens}))
    module.graphs["chat"] = chat_of(TOKENS, checkpointer=InMemorySaver())
    app = Starlette()
    module.install(app, wires=[wire] if wire else [])
    async with serving(app) as port, chatter(port, chat, path, time.process_time) as client:
        yield client
    await module.aclose()


async def measure_ours() -> dict[str, list[Figures]]:
    """Our event stream and all wires in turn, several times over."""
    found: dict[str, list[Figures]] = {}
    for name, tokens in (("unbatched", ONE_EACH), ("batched", TokenDefaults())):
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(ours(chat, tokens)) for chat in ("native", *WIRES)]
            for client in clients:
                await client.once()  # imports, and compiles what is used
            for _ in range(ROUNDS):
                for client in clients:
                    found.setdefault(f"{client.chat}, {name}", []).append(await client.once())
                    found.setdefault(f"{client.chat}, {name}, gzip", []).append(await client.once("gzip"))
    return found


async def measure_theirs() -> dict[str, list[Figures]]:
    """Their servers."""
    found: dict[str, list[Figures]] = {}
    async with (
        langgraph_dev({"chat": "chat"}) as (dev, busy_dev),
        ag_ui_langgraph() as (ag_ui, busy_ag_ui),
        chatter(dev, "langgraph", "/", busy_dev) as modes,
        chatter(dev, "langgraph-events", "/", busy_dev) as events,
        chatter(ag_ui, "ag-ui", "/agui", busy_ag_ui) as agent,
    ):
        for round_ in range(THEIR_ROUNDS + 1):
            for client in (modes, events, agent):
                figures = await client.once()
                packed = await client.once("gzip")
                if round_:  # the first loads their graphs
                    found.setdefault(client.chat, []).append(figures)
                    found.setdefault(f"{client.chat}, gzip", []).append(packed)
    return found


def middle(found: Mapping[str, list[Figures]]) -> dict[str, Figures]:
    """The median of the rounds."""
    return {
        name: {figure: statistics.median(each[figure] for each in rounds) for figure in rounds[0]}
        for name, rounds in found.items()
    }


def tell_server(our: Mapping[str, Figures], theirs: Mapping[str, Figures]) -> None:
    """Print the figures of whole servers."""
    for name in ("unbatched", "batched"):
        native = our[f"native, {name}"]
        for chat in ("native", *WIRES):
            figures, packed = our[f"{chat}, {name}"], our[f"{chat}, {name}, gzip"]
            shown: dict[str, Any] = {
                "us": round(figures["us"], 1),
                "gzip_us": round(packed["us"], 1),
                "bytes": round(figures["size"], 1),
                "gzip_bytes": round(packed["size"], 1),
            }
            ratio = figures["us"] / native["us"]
            tell(f"server, {chat}, {name}: a token, to our event stream", ratio, MOST, operator.le, **shown)
            if chat not in theirs:
                continue
            other, other_packed = theirs[chat], theirs[f"{chat}, gzip"]
            server, package = THEIRS[chat]
            shown = {
                "theirs": f"{server} {version_of(package)}",
                "theirs_us": round(other["us"], 1),
                "theirs_gzip_us": round(other_packed["us"], 1),
                "theirs_bytes": round(other["size"], 1),
                "theirs_gzip_bytes": round(other_packed["size"], 1),
            }
            ratio = figures["us"] / other["us"]
            tell(f"server, {chat}, {name}: a token, to {server}", ratio, 1.0, operator.le, **shown)


def tell_encoders() -> None:
    """Measure and print the encoders alone."""
    for name, tokens in (("unbatched", ONE_EACH), ("batched", TokenDefaults())):
        records = uvloop.run(updates_of_a_chat(TOKENS, tokens))
        # On a machine that others use too, the least of the rounds is the one that was disturbed least.
        found = {chat: min(encode(chat, records) for _ in range(ROUNDS)) for chat in ENCODERS}
        for chat, (seconds, size) in found.items():
            micros = seconds / TOKENS * 1e6
            shown = {"us": round(micros, 2), "update_us": round(seconds / len(records) * 1e6, 2)}
            shown["bytes"] = round(size / TOKENS, 1)
            tell(
                f"encoder, {chat}, {name}: an update, to {MOST_US:g} us",
                shown["update_us"] / MOST_US,
                1.0,
                operator.le,
                **shown,
            )


def main() -> None:
    install()
    tell_encoders()
    tell_server(middle(uvloop.run(measure_ours())), middle(uvloop.run(measure_theirs())))


if __name__ == "__main__":
    main()
