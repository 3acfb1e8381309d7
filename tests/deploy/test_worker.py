"""The example of a worker: a graph runs in one process, and is watched, answered and cancelled through another."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from lg_streaming import StreamHub
from lg_streaming.client import SocketIOClient, SSEClient
from lg_streaming.events import StreamUpdate
from lg_streaming.log.redis import RedisLog
from tests.deploy.programs import WORKER, redis_server, web, worker
from tests.docs.fences import blocks_of
from tests.support import warm
from tests.support.server import ROOT

REPORT = "Rain is water that falls from clouds in drops."

pytestmark = pytest.mark.row("PYEV-20")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worker")


@pytest.fixture(scope="module")
def server(folder: Path) -> Generator[str]:
    with ExitStack() as stack:
        redis = stack.enter_context(redis_server(folder))
        stack.enter_context(worker(folder, redis))
        yield stack.enter_context(web(folder, redis))
    log = (folder / "worker.log").read_text()
    assert "Traceback" not in log, log  # neither of a cancelled job, nor when the worker stops


@pytest.fixture(params=[SSEClient, SocketIOClient])
async def client(request: pytest.FixtureRequest, server: str) -> AsyncGenerator[SSEClient | SocketIOClient]:
    kind: type[SSEClient | SocketIOClient] = request.param
    async with kind(server) as client:
        yield client


async def start(server: str) -> str:
    async with httpx2.AsyncClient(base_url=server) as http:
        return str((await http.post("/jobs", params={"topic": "rain"})).raise_for_status().json()["execution_id"])


def text_of(updates: list[StreamUpdate]) -> str:
    return "".join(update.data["content"] for update in updates if update.type == "token")


@pytest.mark.parametrize("accepted", [True, False])
async def test_a_run_of_a_worker_is_watched_and_answered_through_a_web_process(
    server: str, client: SSEClient | SocketIOClient, accepted: bool
) -> None:
    execution_id = await start(server)
    updates: list[StreamUpdate] = []
    async for update in client.subscribe(execution_id):
        updates.append(update)
        if update.type == "human_prompt":
            await client.respond(execution_id, update.data["prompt_id"], accepted)
    assert [update.metadata.sequence_number for update in updates] == list(range(1, len(updates) + 1))
    assert text_of(updates) == REPORT
    types = [update.type for update in updates]
    assert types.index("human_prompt") < types.index("human_response")
    assert updates[-1].type == "workflow_complete"
    (response,) = (update for update in updates if update.type == "human_response")
    assert response.data["response"] is accepted
    assert {update.node_id for update in updates if update.type == "node_complete"} == {"write", "review"}


async def test_a_run_of_a_worker_is_cancelled_through_a_web_process(
    server: str, client: SSEClient | SocketIOClient
) -> None:
    execution_id = await start(server)
    reason = f"no time for {execution_id}"
    updates: list[StreamUpdate] = []
    async for update in client.subscribe(execution_id):
        updates.append(update)
        if update.type == "token" and not text_of(updates[:-1]):
            assert await client.cancel(execution_id, reason=reason)
    assert len(text_of(updates)) < len(REPORT)
    assert updates[-1].type == "workflow_cancelled"
    assert updates[-1].data["reason"] == reason


async def test_the_worker_on_the_page_on_workers(tmp_path: Path) -> None:
    page = ROOT / "docs/guide/workers.md"
    (code,) = (block.code for block in blocks_of(page) if "asyncio.run" in block.code)
    with redis_server(tmp_path) as redis:
        (tmp_path / "worker.py").write_text(code.replace("redis://127.0.0.1:6379/0", redis))
        done = warm.run(str(tmp_path / "worker.py"), env={**os.environ, "PYTHONPATH": str(ROOT)})
        assert (done.returncode, done.stderr) == (0, "")
        hub = StreamHub(log=RedisLog(redis))
        updates = [update async for update in hub.subscribe("exec-1")]
        await hub.aclose()
    assert text_of(updates) == "Rain is water that falls from clouds."
    assert updates[-1].type == "workflow_complete"


@pytest.mark.parametrize("name", ["broker.py", "web.py", "worker.py"])
def test_the_files_of_the_example_are_short(name: str) -> None:
    assert len((WORKER / name).read_text().splitlines()) < 70


def test_web_processes_import_no_graph() -> None:
    assert "langgraph" not in (WORKER / "web.py").read_text()


def test_the_folder_is_that_of_the_page(root: Path) -> None:
    assert "examples/12_worker" in (root / "docs/guide/workers.md").read_text()
