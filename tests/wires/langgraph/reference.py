"""LangChain's own development server with the same graphs, to see that a check asks for what stock servers do."""

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.bench.peers import QUIET, SERVER, START_TIMEOUT, install
from tests.support.npm import progress
from tests.support.server import ROOT, free_socket

__all__ = ["reference_server"]

GRAPHS = ROOT / "tests/wires/langgraph/graphs.py"


@asynccontextmanager
async def reference_server(gates: Path) -> AsyncGenerator[str]:
    """The URL of a running server, whose gates are files in `gates`."""
    if not SERVER.exists():
        progress("installing LangGraph's own server into .venv-langgraph-dev, which takes a minute or two")
        await asyncio.to_thread(install)
    with tempfile.TemporaryDirectory() as folder:
        graphs = {name: f"{GRAPHS}:{name}" for name in ("agent", "other")}
        (Path(folder) / "langgraph.json").write_text(json.dumps({"dependencies": ["."], "graphs": graphs}))
        with free_socket() as sock:
            port = sock.getsockname()[1]
        options = ("--no-browser", "--no-reload", "--allow-blocking", "--n-jobs-per-worker", "20")
        with (Path(folder) / "log").open("wb") as log:
            server = await asyncio.create_subprocess_exec(
                *(SERVER, "dev", *options, "--port", str(port)),
                cwd=folder,
                env={**os.environ, **QUIET, "PYTHONPATH": str(ROOT), "GATES": str(gates)},
                stdout=log,
                stderr=log,
            )
            try:
                await _wait_until_it_listens(server, port)
                yield f"http://127.0.0.1:{port}"
            finally:
                with suppress(ProcessLookupError):
                    server.terminate()
                await server.wait()


async def _wait_until_it_listens(server: asyncio.subprocess.Process, port: int) -> None:
    async with asyncio.timeout(START_TIMEOUT):
        while True:
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            assert server.returncode is None, "LangGraph's development server ended"
            await asyncio.sleep(0.1)
