"""The server of `examples/front_ends` without its pages: each wire answers, and pages, server and docs agree."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import httpx
import pytest

from lg_streaming.client import SocketIOClient
from lg_streaming.serving import HTTPProtocol, WebSocketProtocol
from tests.support.server import serve
from tests.wires.pages.site import EXAMPLE, PAGES, ROOT

ORIGIN = "http://localhost:5173"
GUIDE = ROOT / "docs/guide/front-ends/example.md"


@pytest.fixture
def client(server: ModuleType) -> Generator[httpx.Client]:
    """A client that is a page of another origin."""
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"}
    app = server.build_app(delay=0, pause=0)
    with (
        serve(app, http=HTTPProtocol, ws=WebSocketProtocol) as running,
        httpx.Client(base_url=running.url, headers=headers, timeout=10) as client,
    ):
        yield client


@contextmanager
def allowed(response: httpx.Response) -> Generator[httpx.Response]:
    """Check that a page of another origin may read the response."""
    assert response.status_code in {200, 201}, response.text
    assert response.headers["Access-Control-Allow-Origin"] == ORIGIN
    yield response


def data_of(response: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def test_the_ai_sdk_is_answered(client: httpx.Client, server: ModuleType) -> None:
    question = {"id": "u1", "role": "user", "parts": [{"type": "text", "text": "Porto"}]}
    body = {"id": str(uuid.uuid4()), "messages": [question], "trigger": "submit-message"}
    with allowed(client.post("/api/chat", json=body)) as answer:
        chunks = data_of(answer)
    assert [chunk["type"] for chunk in chunks[:2]] == ["start", "start-step"]
    text = "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")
    assert text == server.PLAN.format(place="Porto") + server.CARD.format(place="Porto")
    assert [chunk["toolCallId"] for chunk in chunks if chunk["type"] == "tool-approval-request"] == ["post-3"]


def test_the_langgraph_sdk_is_answered(client: httpx.Client) -> None:
    with allowed(client.post("/assistants/search", json={})) as answer:
        assert [assistant["graph_id"] for assistant in answer.json()] == ["postcard"]
    body = {"assistant_id": "postcard", "input": {"messages": [{"role": "user", "content": "Porto"}]}}
    with allowed(client.post("/threads", json={})) as answer:
        thread = answer.json()["thread_id"]
    with allowed(client.post(f"/threads/{thread}/runs/stream", json=body)) as answer:
        assert "__interrupt__" in data_of(answer)[-1]
        assert "content-location" in answer.headers["Access-Control-Expose-Headers"].lower()


def test_event_streaming_is_answered(client: httpx.Client) -> None:
    params = {"assistant_id": "postcard", "input": {"messages": [{"role": "user", "content": "Porto"}]}}
    body = {"id": 1, "method": "run.start", "params": params}
    with allowed(client.post(f"/threads/{uuid.uuid4()}/commands", json=body)) as answer:
        assert answer.json()["type"] == "success"


def test_ag_ui_is_answered(client: httpx.Client) -> None:
    body: dict[str, Any] = {
        "threadId": str(uuid.uuid4()),
        "runId": str(uuid.uuid4()),
        "state": {},
        "messages": [{"id": "u1", "role": "user", "content": "Porto"}],
        "tools": [],
        "context": [],
        "forwardedProps": {},
    }
    with allowed(client.post("/agui", json=body)) as answer:
        events = data_of(answer)
    assert events[0]["type"] == "RUN_STARTED"
    assert events[-1]["type"] == "RUN_FINISHED"
    assert events[-1]["outcome"]["type"] == "interrupt"


def test_copilotkit_is_answered(client: httpx.Client) -> None:
    with allowed(client.get("/copilotkit/info")) as answer:
        assert "postcard" in answer.json()["agents"]


def test_durable_streams_read_what_our_own_clients_start(client: httpx.Client) -> None:
    body = {"graph": "postcard", "input": {"messages": [{"role": "user", "content": "Porto"}]}}
    with allowed(client.post("/executions", json=body)) as answer:
        started = answer.json()
    with allowed(client.get(started["stream_url"], params={"until": "interrupted"})) as answer:
        assert "human_prompt" in answer.text
    with allowed(client.get(f"/v1/stream/{started['execution_id']}", params={"offset": "-1"})) as answer:
        assert "human_prompt" in {update["type"] for update in answer.json()}


async def test_socket_io_reads_the_run(server: ModuleType) -> None:
    app = server.build_app(delay=0, pause=0)
    with serve(app, http=HTTPProtocol, ws=WebSocketProtocol) as running:
        async with SocketIOClient(running.url) as reader:
            run = await reader.start("postcard", {"messages": [{"role": "user", "content": "Porto"}]})
            async for update in run:
                if update.type == "human_prompt":
                    await run.respond(update.data["prompt_id"], "approve")
            assert [update.type async for update in reader.subscribe(run.execution_id)][-1] == "workflow_complete"


# ---------------------------------------------------------------- what is written in several places
def test_the_versions_in_the_docs_are_those_of_the_pages() -> None:
    for page in PAGES:
        packages: dict[str, Any] = json.loads((EXAMPLE / page / "package.json").read_text(encoding="utf-8"))
        for name, version in packages["dependencies"].items():
            if name.startswith("@") and name != "@langchain/core":
                for text in (EXAMPLE / "README.md", GUIDE):
                    assert f"`{name}` {version}" in text.read_text(encoding="utf-8")


def test_the_ports_of_the_pages_are_allowed_origins(server: ModuleType) -> None:
    for page in PAGES:
        packages: dict[str, Any] = json.loads((EXAMPLE / page / "package.json").read_text(encoding="utf-8"))
        (port,) = re.findall(r"--port (\d+) --strictPort", packages["scripts"]["dev"])
        assert f"http://localhost:{port}" in server.ORIGINS


def test_pages_name_the_graph_and_the_address_of_the_server(server: ModuleType) -> None:
    for page in PAGES:
        sources = "".join(file.read_text(encoding="utf-8") for file in (EXAMPLE / page / "src").glob("*.tsx"))
        assert sources.count('import.meta.env.VITE_SERVER ?? "http://127.0.0.1:8000"') == 1
        assert page == "ai-sdk" or f'GRAPH = "{server.GRAPH}"' in sources
