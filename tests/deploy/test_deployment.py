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


@pytest.mark.parametrize("kind", [SSEClient, SocketIOClient])
async def test_clients_lose_and_repeat_nothing_while_each_gateway_restarts(
    deployment: Deployment, kind: type[SSEClient | SocketIOClient]
) -> None:
    execution_id = await start(deployment, "alice")
    updates: list[StreamUpdate] = []

    async def restart() -> None:
        for name in GATEWAYS:
            await asyncio.to_thread(deployment.stop, name)
            await asyncio.to_thread(deployment.start, name)

    async with kind(deployment.url, token=token("alice")) as client:
        restarting: asyncio.Task[None] | None = None
        async for update in client.subscribe(execution_id):
            updates.append(update)
            restarting = restarting or asyncio.create_task(restart())
            if update.type == "human_prompt":
                await restarting
                await client.respond(execution_id, update.data["prompt_id"], True)
    assert [update.metadata.sequence_number for update in updates] == list(range(1, len(updates) + 1))
    assert text_of(updates) == REPORT
    assert updates[-1].type == "workflow_complete"


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
