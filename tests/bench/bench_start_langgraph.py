"""A run that a client starts over HTTP and reads as Server-Sent Events: ours, and LangGraph's own development server.

Theirs (`langgraph dev`) is installed into `.venv-langgraph-dev`, with the LangGraph of this environment. That needs a
package index, so `make bench` runs this only when it is named. Both run the graph of `start_graph`, for the same client
in another process. Theirs streams in the mode `messages-tuple`, from a thread that was made before the clock starts.
"""

import asyncio
import importlib.metadata
import json
import operator
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import uvloop

from lg_streaming.settings import TokenDefaults
from tests.bench.bench_start import ONE_EACH, Process, client_of, client_process, start
from tests.bench.stage import ROOT, tell
from tests.support.server import free_socket

ROUNDS = 3
SHORT_ROUNDS = 9
FOLDER = ROOT / ".venv-langgraph-dev"
SERVER = FOLDER / "bin/langgraph"
START_TIMEOUT = 60.0
GRAPHS = {"write": "graph", "short": "short"}
TICKS = os.sysconf("SC_CLK_TCK")
QUIET = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGSMITH_TRACING": "false", "NO_COLOR": "1"}


def install() -> None:
    """Install their server, with the versions of LangGraph and LangChain that this environment has."""
    same = [f"{name}=={importlib.metadata.version(name)}" for name in ("langgraph", "langchain-core")]
    command = [str(ROOT / "tools/virtual-environment"), FOLDER.name, "langgraph-cli[inmem]", *same]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not SERVER.exists():
        sys.exit(
            f"LangGraph's development server cannot be installed into {FOLDER.name}, so there is nothing to compare "
            f"with:\n{(done.stdout + done.stderr)[-2000:]}"
        )


def processor_time(process: int) -> float:
    """Seconds of the processor that a process has used, in all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@asynccontextmanager
async def their_client() -> AsyncGenerator[tuple[Process, Callable[[], float]]]:
    """A client of their server, and the server's processor time."""
    with tempfile.TemporaryDirectory() as folder:
        graphs = {name: f"{ROOT / 'tests/bench/start_graph.py'}:{graph}" for name, graph in GRAPHS.items()}
        settings = {"dependencies": ["."], "graphs": graphs}
        (Path(folder) / "langgraph.json").write_text(json.dumps(settings), encoding="utf-8")
        with free_socket() as sock:
            port = sock.getsockname()[1]
        server = await asyncio.create_subprocess_exec(
            *(SERVER, "dev", "--no-browser", "--no-reload", "--allow-blocking", "--port", str(port)),
            cwd=folder,
            env={**os.environ, **QUIET},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            await wait_until_it_listens(server, port)
            async with client_process(port, "langgraph") as client:
                yield client, lambda: processor_time(server.pid)
        finally:
            with suppress(ProcessLookupError):
                server.terminate()
            await server.wait()


async def wait_until_it_listens(server: Process, port: int) -> None:
    async with asyncio.timeout(START_TIMEOUT):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            if server.returncode is not None:
                sys.exit(f"LangGraph's development server ended with {server.returncode}")
            await asyncio.sleep(0.2)


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
        "langgraph_api": their_version(),
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


def their_version() -> str:
    """The version of their server."""
    (found,) = FOLDER.glob("lib/python*/site-packages/langgraph_api-*.dist-info")
    return found.name.removeprefix("langgraph_api-").removesuffix(".dist-info")


if __name__ == "__main__":
    main()
