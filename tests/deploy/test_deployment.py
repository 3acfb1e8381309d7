"""The deployment of the compose file works, and clients outlast the stop of a gateway."""

from __future__ import annotations

import asyncio
from collections.abc import Generator

import httpx2
import pytest

from lg_streaming.cli.token import TokenRequest, make_token
from lg_streaming.client import SocketIOClient, SSEClient
from lg_streaming.events import StreamUpdate
from tests.deploy.deployment import GATEWAYS, SECRETS, Deployment
from tests.deploy.test_worker import REPORT, text_of

pytestmark = pytest.mark.row("PYEV-20")

CLIENTS: tuple[type[SSEClient | SocketIOClient], ...] = (SSEClient, SocketIOClient)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Generator[Deployment]:
    with Deployment.running(tmp_path_factory.mktemp("deployment")) as deployment:
        yield deployment


def token(subject: str) -> str:
    return make_token(TokenRequest(subject=subject, expires_in=600, secret=SECRETS["AUTH_SECRET"]))


async def start(deployment: Deployment, owner: str) -> str:
    async with httpx2.AsyncClient(base_url=deployment.url) as http:
        answer = await http.post("/jobs", params={"topic": "rain", "owner": owner})
        return str(answer.raise_for_status().json()["execution_id"])


async def test_clients_lose_and_repeat_nothing_while_each_gateway_restarts(deployment: Deployment) -> None:
    begun, restarted = asyncio.Barrier(len(CLIENTS) + 1), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        readings = [group.create_task(read(deployment, kind, begun, restarted)) for kind in CLIENTS]
        await begun.wait()
        for name in GATEWAYS:
            await asyncio.to_thread(deployment.stop, name)
            await asyncio.to_thread(deployment.start, name)
        restarted.set()
    for reading in readings:
        updates = reading.result()
        assert [update.metadata.sequence_number for update in updates] == list(range(1, len(updates) + 1))
        assert text_of(updates) == REPORT
        assert updates[-1].type == "workflow_complete"


async def has_begun(deployment: Deployment, execution_id: str) -> None:
    """Wait until the worker has taken the job: before that the run has no owner, and readers are refused."""
    owner = {"Authorization": f"Bearer {token('alice')}"}
    async with asyncio.timeout(30), httpx2.AsyncClient(base_url=deployment.url, headers=owner) as http:
        while (await http.get(f"/executions/{execution_id}")).status_code != 200:
            await asyncio.sleep(0.05)


async def read(
    deployment: Deployment, kind: type[SSEClient | SocketIOClient], begun: asyncio.Barrier, restarted: asyncio.Event
) -> list[StreamUpdate]:
    """Read a run, and answer its prompt after the restarts."""
    execution_id = await start(deployment, "alice")
    await has_begun(deployment, execution_id)
    updates: list[StreamUpdate] = []
    async with kind(deployment.url, token=token("alice")) as client:
        async for update in client.subscribe(execution_id):
            updates.append(update)
            if len(updates) == 1:
                await begun.wait()
            if update.type == "human_prompt":
                await restarted.wait()
                await client.respond(execution_id, update.data["prompt_id"], True)
    return updates


async def test_a_stranger_reads_nothing_and_a_request_finds_the_gateway_that_runs(deployment: Deployment) -> None:
    execution_id = await start(deployment, "alice")
    await asyncio.to_thread(deployment.stop, GATEWAYS[0])
    try:
        async with httpx2.AsyncClient(base_url=deployment.url) as http:
            for _ in range(4):
                assert (await http.get("/health")).status_code == 200
            path = f"/executions/{execution_id}"
            assert (await http.get(path)).status_code == 401
            stranger = await http.get(path, headers={"Authorization": f"Bearer {token('bob')}"})
            assert stranger.status_code in {403, 404}
            owner = {"Authorization": f"Bearer {token('alice')}"}
            assert (await http.delete(path, headers=owner)).is_success
    finally:
        await asyncio.to_thread(deployment.start, GATEWAYS[0])
