"""Other systems' servers, installed into `.venv-langgraph-dev` with the LangGraph of this environment."""

import asyncio
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.bench.stage import ROOT
from tests.support.server import free_socket

FOLDER = ROOT / ".venv-langgraph-dev"
SERVER = FOLDER / "bin/langgraph"
AG_UI = "ag-ui-langgraph[fastapi]==0.0.47"
START_TIMEOUT = 60.0
TICKS = os.sysconf("SC_CLK_TCK")
QUIET = {"LANGGRAPH_CLI_NO_ANALYTICS": "1", "LANGSMITH_TRACING": "false", "NO_COLOR": "1"}


def install() -> None:
    """Install the servers, with the versions of LangGraph and LangChain that this environment has."""
    same = [f"{name}=={importlib.metadata.version(name)}" for name in ("langgraph", "langchain-core")]
    command = [str(ROOT / "tools/virtual-environment"), FOLDER.name, "langgraph-cli[inmem]", AG_UI, *same]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0 or not SERVER.exists():
        sys.exit(
            f"LangGraph's development server cannot be installed into {FOLDER.name}, so there is nothing to compare "
            f"with:\n{(done.stdout + done.stderr)[-2000:]}"
        )


def version_of(package: str) -> str:
    """The version of an installed package of theirs."""
    name = package.replace("-", "_")
    (found,) = FOLDER.glob(f"lib/python*/site-packages/{name}-*.dist-info")
    return found.name.removeprefix(f"{name}-").removesuffix(".dist-info")


def processor_time(process: int) -> float:
    """Seconds of the processor that a process has used, in all its threads."""
    fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


@asynccontextmanager
async def langgraph_dev(graphs: Mapping[str, str]) -> AsyncGenerator[tuple[int, Callable[[], float]]]:
    """LangGraph's development server with graphs of `start_graph.py`, by name: its port and its processor time."""
    with tempfile.TemporaryDirectory() as folder:
        places = {name: f"{ROOT / 'tests/bench/start_graph.py'}:{graph}" for name, graph in graphs.items()}
        (Path(folder) / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": places}))
        options = ("dev", "--no-browser", "--no-reload", "--allow-blocking", "--port")
        async with _server([str(SERVER), *options], folder, "LangGraph's development server") as found:
            yield found


@asynccontextmanager
async def ag_ui_langgraph() -> AsyncGenerator[tuple[int, Callable[[], float]]]:
    """The package ag-ui-langgraph with the chat of `start_graph.py`: its port and its processor time."""
    command = [str(FOLDER / "bin/python"), str(ROOT / "tests/bench/ag_ui_server.py")]
    async with _server(command, str(ROOT), "the server of ag-ui-langgraph") as found:
        yield found


@asynccontextmanager
async def _server(command: Sequence[str], folder: str, name: str) -> AsyncGenerator[tuple[int, Callable[[], float]]]:
    with free_socket() as sock:
        port = sock.getsockname()[1]
    server = await asyncio.create_subprocess_exec(
        *command,
        str(port),
        cwd=folder,
        env={**os.environ, **QUIET},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        await _wait_until_it_listens(server, port, name)
        yield port, lambda: processor_time(server.pid)
    finally:
        with suppress(ProcessLookupError):
            server.terminate()
        await server.wait()


async def _wait_until_it_listens(server: asyncio.subprocess.Process, port: int, name: str) -> None:
    async with asyncio.timeout(START_TIMEOUT):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            if server.returncode is not None:
                sys.exit(f"{name} ended with {server.returncode}")
            await asyncio.sleep(0.2)
