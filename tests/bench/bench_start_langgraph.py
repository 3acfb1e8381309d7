"""A run that a client starts over HTTP and reads as Server-Sent Events: ours, and LangGraph's own development server.

Theirs (`langgraph dev`) is installed into `.venv-langgraph-dev`, with the LangGraph of this environment. That needs a
package index, so `make bench` runs this only when it is named. Both run the graph of `start_graph`, for the same client
in another process. Theirs streams in the mode `messages-tuple`, from a thread that was made before the clock starts.
"""

import importlib.metadata
import operator
import statistics
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import uvloop

from lg_streaming.settings import TokenDefaults
from tests.bench.bench_start import ONE_EACH, Process, client_of, client_process, start
from tests.bench.peers import install, langgraph_dev, version_of
from tests.bench.stage import tell

ROUNDS = 3
SHORT_ROUNDS = 9
GRAPHS = {"write": "graph", "short": "short"}


@asynccontextmanager
async def their_client() -> AsyncGenerator[tuple[Process, Callable[[], float]]]:
    """A client of their server, and the server's processor time."""
    async with langgraph_dev(GRAPHS) as (port, busy), client_process(port, "langgraph") as client:
        yield client, busy


async def measure() -> dict[str, list[dict[str, float]]]:
    """All servers in turn, several times over."""
    found: dict[str, list[dict[str, float]]] = {}
    async with (
        client_of(ONE_EACH) as unbatched,
        client_of(TokenDefaults()) as batched,
        their_client() as (theirs, busy),
    ):
        await start(theirs, name="short")  # loads their graphs
        for _ in range(ROUNDS):
            found.setdefault("theirs", []).append(await start(theirs, busy=busy))
            found.setdefault("unbatched", []).append(await start(unbatched))
            found.setdefault("batched", []).append(await start(batched))
            for name, client in {"unbatched": unbatched, "batched": batched, "theirs": theirs}.items():
                found.setdefault(f"{name}, gzip", []).append(await start(client, "gzip"))
        for _ in range(SHORT_ROUNDS):
            found.setdefault("their first", []).append(await start(theirs, name="short", busy=busy))
            found.setdefault("our first", []).append(await start(batched, name="short"))
    return found


def main() -> None:
    install()
    found = uvloop.run(measure())
    middle = {
        name: {figure: statistics.median(each[figure] for each in rounds) for figure in rounds[0]}
        for name, rounds in found.items()
    }
    versions = {
        "langgraph": importlib.metadata.version("langgraph"),
        "langgraph_api": version_of("langgraph-api"),
    }
    first, their_first = (middle[name]["first_s"] * 1e3 for name in ("our first", "their first"))
    shown = {"ours_ms": round(first, 2), "theirs_ms": round(their_first, 2), **versions}
    tell("HTTP start to first token, to LangGraph's server", first / their_first, 1.0, operator.le, **shown)
    theirs = middle["theirs"]
    for name in ("unbatched", "batched"):
        ours = middle[name]
        shown = {"ours_us": round(ours["us"], 1), "theirs_us": round(theirs["us"], 1)}
        shown |= {"ours_s": round(ours["all_s"], 3), "theirs_s": round(theirs["all_s"], 3)}
        tell(f"a token of a started run, {name}, to LangGraph's", ours["us"] / theirs["us"], 1.0, operator.le, **shown)
        sizes = {"ours": ours, "ours_gzip": middle[f"{name}, gzip"]}
        sizes |= {"theirs": theirs, "theirs_gzip": middle["theirs, gzip"]}
        shown = {f"{which}_bytes": round(each["size"], 1) for which, each in sizes.items()}
        tell(f"bytes of a token, {name}, to LangGraph's", ours["size"] / theirs["size"], 1.0, operator.le, **shown)


if __name__ == "__main__":
    main()
