"""Runs that were started in another way are read through this wire, and the other way round."""

import json
from collections.abc import AsyncGenerator
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.wires.langgraph.python_checks import Place, client_of, human, only_text, read

pytestmark = pytest.mark.anyio

TUPLES = ["values", "messages-tuple"]


@pytest.fixture
async def http(place: Place) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=place.url, trust_env=False, timeout=20) as client:
        yield client


async def updates_of(http: httpx2.AsyncClient, execution_id: str, until: str) -> list[dict[str, Any]]:
    """The updates of an execution up to one of a type."""
    found: list[dict[str, Any]] = []
    async with http.stream("GET", f"/executions/{execution_id}/stream?named=false") as response:
        async for line in response.aiter_lines():
            if line.startswith("data: ") and "metadata" in (update := json.loads(line[6:])):
                found.append(update)
                if update["type"] == until:
                    break
    return found


async def test_a_run_of_the_rest_interface(place: Place, http: httpx2.AsyncClient) -> None:
    thread, gate = uuid4().hex, place.gate()
    start = {"graph": "agent", "input": human(f"say one |{gate}| two"), "execution_id": thread}
    assert (await http.post("/executions", json=start)).status_code in (200, 201)
    async with client_of(place.url) as client:
        assert (await client.threads.get(thread))["status"] == "busy"
        (run,) = await client.runs.list(thread)
        assert run["status"] in ("pending", "running")
        stream = client.runs.join_stream(thread, run["run_id"], last_event_id="-1", stream_mode=TUPLES)
        frames = await read(stream, lambda text: place.open(gate) if "one" in text else None)
        assert only_text(frames) == "one two"
        assert frames[-1].data["messages"][-1]["content"] == "one two"
        assert (await client.runs.get(thread, run["run_id"]))["status"] == "success"
        values = await client.runs.wait(thread, "agent", input=human("say three"))
        assert [each["content"] for each in values["messages"]][1::2] == ["one two", "three"]
        assert len(await client.runs.list(thread)) == 2


async def test_a_question_of_the_rest_interface_is_answered_here(place: Place, http: httpx2.AsyncClient) -> None:
    thread = uuid4().hex
    await http.post("/executions", json={"graph": "agent", "input": human("ask"), "execution_id": thread})
    await updates_of(http, thread, "workflow_interrupted")
    async with client_of(place.url) as client:
        state = await client.threads.get_state(thread)
        assert state["tasks"][0]["interrupts"][0]["value"] == {"question": "Go on?"}
        values = await client.runs.wait(thread, "agent", command={"resume": "here"})
        assert values["messages"][-1]["content"] == "answer: here"
    assert (await updates_of(http, thread, "workflow_complete"))[-1]["type"] == "workflow_complete"


async def test_a_question_of_this_wire_is_answered_there(place: Place, http: httpx2.AsyncClient) -> None:
    async with client_of(place.url) as client:
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, "agent", input=human("ask"))
        updates = await updates_of(http, thread, "workflow_interrupted")
        (prompt,) = (each["data"]["prompt_id"] for each in updates if each["type"] == "human_prompt")
        answer = {"prompt_id": prompt, "response": "there"}
        assert (await http.post(f"/executions/{thread}/responses", json=answer)).status_code == 200
        await updates_of(http, thread, "workflow_complete")
        state = await client.threads.get_state(thread)
        assert state["values"]["messages"][-1]["content"] == "answer: there"
        assert (await client.threads.get(thread))["status"] == "idle"
        # The answer began another run, as this wire counts them.
        newest = (await client.runs.list(thread))[0]
        frames = await read(client.runs.join_stream(thread, newest["run_id"], last_event_id="-1", stream_mode=TUPLES))
        assert frames[-1].data["messages"][-1]["content"] == "answer: there"


async def test_a_run_of_this_wire_is_read_there(place: Place, http: httpx2.AsyncClient) -> None:
    async with client_of(place.url) as client:
        thread = (await client.threads.create())["thread_id"]
        await client.runs.wait(thread, "agent", input=human("say one two"))
    updates = await updates_of(http, thread, "workflow_complete")
    assert "".join(each["data"]["content"] for each in updates if each["type"] == "token") == "one two"
