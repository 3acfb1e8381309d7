"""Callers: tokens in either header, what belongs to others, and pages of other origins."""

import json
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from langgraph_sdk import get_client

from tests.gateway.site import SECRET
from tests.gateway.starts import bearer, may_start
from tests.wires.langgraph.places import check_all_passed, run_script, serving
from tests.wires.langgraph.python_checks import Place, human, only_text, read

pytestmark = pytest.mark.anyio

PAGE = "https://app.example.com"
EXPOSED = {"content-location", "location", "x-pagination-total", "x-pagination-next"}


@pytest.fixture(scope="module")
def guarded(gates: Path) -> Generator[Place]:
    """A server that asks for tokens."""
    settings = {"gateway": {"cors_origins": [PAGE]}, "auth": {"leeway": 0}}
    with serving(gates, {"SECRET": SECRET, "SETTINGS": json.dumps(settings)}) as server:
        yield Place(server.url, gates)


def token(subject: str, *executions: str) -> str:
    return bearer(subject, may_start("agent", executions=executions or ("*",)))


@pytest.fixture
async def alice(guarded: Place) -> AsyncGenerator[httpx2.AsyncClient]:
    headers = {"Authorization": f"Bearer {token('alice')}"}
    async with httpx2.AsyncClient(base_url=guarded.url, headers=headers, trust_env=False, timeout=20) as http:
        yield http


def requests_about(thread: str, run: str, checkpoint: str) -> dict[str, Any]:
    """Every request about a thread: its body by method and path; None for no body."""
    start = {"assistant_id": "agent", "input": human("say mine")}
    on = {"assistant_id": "agent", "command": {"resume": "x"}}
    return {
        f"GET /threads/{thread}": None,
        f"PATCH /threads/{thread}": {"metadata": {"stolen": True}},
        f"GET /threads/{thread}/state": None,
        f"GET /threads/{thread}/state/{checkpoint}": None,
        f"POST /threads/{thread}/state/checkpoint": {"checkpoint": {"checkpoint_id": checkpoint}},
        f"POST /threads/{thread}/state": {"values": {"note": "stolen"}},
        f"POST /threads/{thread}/history": {"limit": 10},
        f"GET /threads/{thread}/history": None,
        f"GET /threads/{thread}/stream": None,
        f"GET /threads/{thread}/runs": None,
        f"POST /threads/{thread}/runs": start,
        f"POST /threads/{thread}/runs/stream": start,
        f"POST /threads/{thread}/runs/wait": on,
        f"GET /threads/{thread}/runs/{run}": None,
        f"GET /threads/{thread}/runs/{run}/stream": None,
        f"GET /threads/{thread}/runs/{run}/join": None,
        f"POST /threads/{thread}/runs/{run}/cancel": None,
        f"DELETE /threads/{thread}/runs/{run}": None,
        f"DELETE /threads/{thread}": None,
    }


async def answers_about(http: httpx2.AsyncClient, headers: dict[str, str], *ids: str) -> dict[str, tuple[int, str]]:
    """Status and body of every request about a thread, with its ids left out."""
    found: dict[str, tuple[int, str]] = {}
    for request, body in requests_about(*ids).items():
        method, path = request.split()
        content = None if body is None else json.dumps(body).encode()
        response = await http.request(
            method, path, content=content, headers={"Content-Type": "application/json", **headers}
        )
        shown, text = request, response.text
        for number, id_ in enumerate(ids):
            shown, text = shown.replace(id_, f"id{number}"), text.replace(id_, f"id{number}")
        found[shown] = (response.status_code, text)
    return found


async def test_what_belongs_to_another_looks_unknown(alice: httpx2.AsyncClient, guarded: Place) -> None:
    gate = guarded.gate()
    made = (await alice.post("/threads", json={"metadata": {"secret": "s3cret"}})).json()["thread_id"]
    await alice.post(f"/threads/{made}/runs/wait", json={"assistant_id": "agent", "input": human("say s3cret")})
    checkpoint = (await alice.get(f"/threads/{made}/state")).json()["checkpoint"]["checkpoint_id"]
    body = {"assistant_id": "agent", "input": human(f"say s3cret |{gate}| end")}
    run = (await alice.post(f"/threads/{made}/runs", json=body)).json()["run_id"]
    async with httpx2.AsyncClient(base_url=guarded.url, trust_env=False, timeout=20) as http:
        bob = {"Authorization": f"Bearer {token('bob', 'bob/*')}"}
        theirs = await answers_about(http, bob, made, run, checkpoint)
        unknown = await answers_about(http, bob, str(uuid4()), str(uuid4()), checkpoint.replace("1", "2"))
        assert theirs == unknown
        assert {status for status, _ in theirs.values()} == {404}
        assert (await http.post("/threads/search", json={}, headers=bob)).json() == []
        assert (await http.post("/threads/count", json={}, headers=bob)).json() == 0
        cancel = await http.post("/runs/cancel", json={"thread_id": made, "run_ids": [run]}, headers=bob)
        assert cancel.status_code in (204, 404)
        # Their run goes on.
        assert (await alice.get(f"/threads/{made}/runs/{run}")).json()["status"] in ("pending", "running")
        guarded.open(gate)
        values = (await alice.get(f"/threads/{made}/runs/{run}/join")).json()
        assert values["messages"][-1]["content"] == "s3cret end"
        assert "stolen" not in (await alice.get(f"/threads/{made}")).text


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nope"}, {"X-Api-Key": "nope"}])
async def test_a_caller_without_a_token_gets_nothing(headers: dict[str, str], guarded: Place) -> None:
    async with httpx2.AsyncClient(base_url=guarded.url, trust_env=False, timeout=20) as http:
        found = await answers_about(http, headers, str(uuid4()), str(uuid4()), str(uuid4()))
        for path in ("/threads", "/threads/search", "/assistants/search", "/runs/stream", "/runs/wait", "/runs"):
            response = await http.post(path, json={"assistant_id": "agent"}, headers=headers)
            found[path] = response.status_code, response.text
        for request, (status, text) in found.items():
            assert status == 401, (request, status, text)
            assert isinstance(json.loads(text)["detail"], str)


async def test_a_caller_that_may_start_nothing(guarded: Place) -> None:
    """A token without grants finds no assistant, and starts nothing."""
    headers = {"Authorization": f"Bearer {bearer('carol')}"}
    async with httpx2.AsyncClient(base_url=guarded.url, headers=headers, trust_env=False) as http:
        assert (await http.post("/assistants/search", json={})).json() == []
        body = {"assistant_id": "agent", "input": human("say x")}
        forbidden = await http.post("/runs/wait", json=body)
        unknown = await http.post("/runs/wait", json={**body, "assistant_id": "no-such"})
        assert forbidden.status_code == unknown.status_code
        assert 400 <= forbidden.status_code < 500
        assert forbidden.text.replace("agent", "") == unknown.text.replace("no-such", "")


async def test_assistants_are_those_that_the_caller_may_start(alice: httpx2.AsyncClient) -> None:
    assert [each["graph_id"] for each in (await alice.post("/assistants/search", json={})).json()] == ["agent"]


async def test_a_caller_without_globs_gets_threads_of_new_ids(guarded: Place) -> None:
    """A caller that may choose no id has threads that the server names."""
    headers = {"Authorization": f"Bearer {bearer('dave', may_start('agent'))}"}
    async with get_client(url=guarded.url, api_key=None, headers=headers) as client:
        thread = (await client.threads.create())["thread_id"]
        for text in ("one", "two"):
            stream = client.runs.stream(thread, "agent", input=human(f"say {text}"), stream_mode="messages-tuple")
            assert only_text(await read(stream)) == text
    async with httpx2.AsyncClient(base_url=guarded.url, headers=headers, trust_env=False) as http:
        assert 400 <= (await http.post("/threads", json={"thread_id": str(uuid4())})).status_code < 500


async def test_the_key_of_the_python_client(guarded: Place) -> None:
    async with get_client(url=guarded.url, api_key=token("erin")) as client:
        stream = client.runs.stream(None, "agent", input=human("say hi"), stream_mode="messages-tuple")
        assert only_text(await read(stream)) == "hi"


async def test_the_key_of_the_javascript_client(guarded: Place) -> None:
    found = await run_script("lc_key.mjs", guarded, key=token("frank", "frank/*"))
    check_all_passed(found, least=4)


async def test_a_page_of_a_listed_origin(alice: httpx2.AsyncClient) -> None:
    thread = (await alice.post("/threads", json={})).json()["thread_id"]
    asked = "authorization,content-type,x-api-key,last-event-id"
    for method, path in (
        ("POST", f"/threads/{thread}/runs/stream"),
        ("GET", f"/threads/{thread}/state"),
        ("PATCH", f"/threads/{thread}"),
    ):
        headers = {"Origin": PAGE, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": asked}
        preflight = await alice.options(path, headers=headers)
        assert preflight.status_code in (200, 204), path
        assert preflight.headers["access-control-allow-origin"] in (PAGE, "*")
        allowed = {each.strip().lower() for each in preflight.headers["access-control-allow-headers"].split(",")}
        assert set(asked.split(",")) <= allowed
        assert method in preflight.headers["access-control-allow-methods"]
    body = {"assistant_id": "agent", "input": human("say x")}
    started = await alice.post(f"/threads/{thread}/runs/stream", json=body, headers={"Origin": PAGE})
    refused = await alice.get("/threads/nope", headers={"Origin": PAGE})
    found = await alice.post("/threads/search", json={}, headers={"Origin": PAGE})
    for response in (started, refused, found):
        assert response.headers["access-control-allow-origin"] in (PAGE, "*")
        assert "origin" in response.headers.get("vary", "").lower()
    exposed = {each.strip().lower() for each in started.headers["access-control-expose-headers"].split(",")}
    assert exposed >= EXPOSED
    run = started.headers["content-location"].rpartition("/")[2]
    assert started.headers["content-location"] == f"/threads/{thread}/runs/{run}"
    assert started.headers["location"] == f"/threads/{thread}/runs/{run}/stream"
    assert started.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert started.headers["cache-control"] == "no-store"
    assert started.headers["x-accel-buffering"] == "no"
    assert found.headers["x-pagination-total"].isdigit()


async def test_a_page_of_another_origin_gets_nothing(alice: httpx2.AsyncClient) -> None:
    headers = {"Origin": "https://evil.example.com"}
    response = await alice.post("/threads/search", json={}, headers=headers)
    assert "access-control-allow-origin" not in response.headers
