"""Tests in Node of the parts of the Graph and Timeline tabs that need no browser, over runs recorded here."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.support.node import node_executable
from tests.watch.journeys import functional, run_journey
from tests.watch.support import Site, site

HERE = Path(__file__).parent
TIMEOUT = 120.0


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with the paths of recorded runs, and of the server's descriptions of their graphs."""
    folder = tmp_path_factory.mktemp("runs")
    with site() as server:
        asyncio.run(record(server, folder))
    return {"RUNS": str(folder / "runs.json"), "GRAPHS": str(folder / "graphs.json")}


async def record(server: Site, folder: Path) -> None:
    await run_journey(server, "journey")
    await run_journey(server, "broken", is_broken=True)
    await (await server.streaming.runs.start(functional, "rain", execution_id="functional"))
    runs, graphs = {}, {}
    async with httpx2.AsyncClient(base_url=server.url) as http:
        for name in ("journey", "broken", "functional"):
            runs[name] = [
                {"type": update.type, "data": update.data, "metadata": update.metadata.to_dict()}
                async for update in server.streaming.hub.subscribe(name)
            ]
            graphs[name] = (await http.get(f"/executions/{name}/graph")).raise_for_status().json()
    (folder / "runs.json").write_text(json.dumps(runs), encoding="utf-8")
    (folder / "graphs.json").write_text(json.dumps(graphs), encoding="utf-8")


@pytest.mark.parametrize("name", ["layout", "lines", "structure", "spans"])
def test_in_node(name: str, recorded: dict[str, str]) -> None:
    command = [node_executable(), "--no-warnings", "--test", str(HERE / f"{name}.test.mjs")]
    environment = {**os.environ, **recorded}
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
