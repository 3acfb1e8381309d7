"""Readers of a run whose owner only the checkpoints name."""

from __future__ import annotations

import time
from typing import Any

import httpx2
import jwt
import pytest
from fastapi import FastAPI

from lg_streaming import StreamingModule
from lg_streaming.settings import AuthSettings, StreamingSettings
from tests.gateway.site import SECRET
from tests.runs.graphs import asking
from tests.runs.test_recovery import LastingSaver, wait_at_prompt
from tests.support.server import serve


def bearer(subject: str) -> dict[str, str]:
    """Return the header of a caller's token."""
    token = jwt.encode({"sub": subject, "exp": time.time() + 60}, SECRET, algorithm="HS256")
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def graph() -> Any:
    return asking(checkpointer=LastingSaver())


async def test_only_the_owner_reaches_a_restored_run(graph: Any) -> None:
    _, prompt_id = await wait_at_prompt(graph)
    streaming = StreamingModule(StreamingSettings(auth=AuthSettings.model_validate({"secret": SECRET})))
    streaming.graphs["asking"] = graph
    app = FastAPI()
    streaming.install(app)
    reads: list[str] = []
    read = graph.checkpointer.aget_tuple

    async def count(config: Any) -> Any:
        reads.append(config["configurable"]["thread_id"])
        return await read(config)

    graph.checkpointer.aget_tuple = count
    with serve(app) as server:
        async with httpx2.AsyncClient(base_url=f"{server.url}/executions", timeout=20) as client:
            refused = {
                each: await client.get(f"/{each}", headers=bearer("mallory")) for each in ("unknown", "e", "unknown2")
            }
            bodies = {name: answer.text.replace(f'"{name}"', "?") for name, answer in refused.items()}
            assert {answer.status_code for answer in refused.values()} == {403}
            assert len(set(bodies.values())) == 1, bodies
            before = len(reads)
            assert (await client.get("/e", headers=bearer("mallory"))).status_code == 403
            assert reads[before:] == ["e"], "the known one takes as long as an unknown one"

            answer = {"prompt_id": prompt_id, "response": "yes"}
            found = await client.get("/e", headers=bearer("alice"))
            assert found.json()["state"] == "interrupted", found.text
            assert (await client.post("/e/responses", json=answer, headers=bearer("mallory"))).status_code == 403
            done = await client.post("/e/responses", json=answer, headers=bearer("alice"))
            assert done.is_success, done.text
            page = await client.get("/e/updates", params={"limit": 100}, headers=bearer("alice"))
            assert "human_response" in [each["type"] for each in page.json()["updates"]]
