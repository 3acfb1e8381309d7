"""Places of wires: below a prefix, in a mounted app, two modules in one app; and paths that meet."""

from __future__ import annotations

import logging
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from lg_streaming import StreamingModule
from lg_streaming.errors import StreamingConfigError
from lg_streaming.types import WireName
from tests.support.server import Server, serve
from tests.wires.all_wires import CASES, GRAPH, WIRES, bearer, install

JSON = {"Content-Type": "application/json"}
STREAMS = [case for case in CASES if case.kind == "stream"]


async def all_answer(server: Server, below: str, execution_id: str = "alices") -> dict[str, int]:
    """Return the status of one stream of each wire, and of each wire's start."""
    found: dict[str, int] = {}
    async with httpx2.AsyncClient(base_url=server.url, timeout=10) as http:
        for case in CASES:
            if case.kind not in {"stream", "start"} or (case.wire == "ag-ui" and "copilotkit" not in case.path):
                continue
            own = f"{execution_id}-{len(found)}" if case.kind == "start" else execution_id
            content = case.content(own)
            headers = {**bearer(), **(JSON if content is not None else {})}
            url = f"{below}{case.at(own)}"
            async with http.stream(case.method, url, headers=headers, content=content) as answer:
                found[str(case)] = answer.status_code
    return found


def serves(found: dict[str, int]) -> bool:
    # LangGraph's threads have to exist before a run is started on them.
    return all(status in ({200, 404} if " /threads/ID/runs" in name else {200}) for name, status in found.items())


@pytest.mark.parametrize("below", ["", "/live", "/a/b"])
async def test_wires_are_below_the_prefix(below: str, caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()
    module = install(app, gateway={"prefix": below})
    with serve(app, log_config=None) as server:
        module.hub.open("alices", owner="alice")
        found = await all_answer(server, below)
        async with httpx2.AsyncClient(base_url=server.url) as http:
            schema = await http.get("/openapi.json")
    assert serves(found), found
    assert schema.status_code == 200
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("root_path", ["", "/proxied"])
async def test_wires_of_a_mounted_app(root_path: str) -> None:
    """Its lifespan does not run: the gateway starts with the first request."""
    inner, outer = FastAPI(), FastAPI()
    module = install(inner, gateway={"prefix": "/live"})
    outer.mount("/mounted", inner)
    with serve(outer, log_config=None, root_path=root_path) as server:
        module.hub.open("alices", owner="alice")
        # uvicorn puts its root path before the path of each request.
        found = await all_answer(server, "/mounted/live")
    assert serves(found), found


async def test_two_modules_in_one_app_serve_their_own_threads() -> None:
    app = FastAPI()
    one, two = install(app), install(app, gateway={"prefix": "/second"})
    with serve(app, log_config=None) as server:
        one.hub.open("first", owner="alice")
        two.hub.open("second", owner="alice")
        async with httpx2.AsyncClient(base_url=server.url, headers=bearer()) as http:
            for path in ("/v1/stream", "/threads"):
                statuses = [
                    (await http.get(f"{below}{path}/{name}")).status_code
                    for below, name in (("", "first"), ("/second", "second"), ("", "second"), ("/second", "first"))
                ]
                assert statuses[:2] == [200, 200]
                assert set(statuses[2:]) <= {403, 404}
            for below in ("", "/second"):
                chat = await http.get(f"{below}/copilotkit/info")
                assert next(iter(chat.json()["agents"])) == GRAPH


@pytest.mark.parametrize(
    ("wires", "settings", "words"),
    [
        (["ai-sdk", "ag-ui"], {"ai_sdk_path": "/agui"}, "agui' of the wire"),
        (["ai-sdk", "ag-ui"], {"ai_sdk_path": "/agui/chat"}, "/agui/chat"),
        (["ag-ui"], {"copilotkit_path": "/agui/copilotkit"}, "/agui/copilotkit"),
        (["langgraph", "durable-streams"], {"durable_streams_path": "/threads"}, "/threads"),
        (["langgraph", "durable-streams"], {"durable_streams_path": "/threads/x"}, "/threads/x"),
        (["durable-streams"], {"durable_streams_path": "/executions"}, "own routes"),
        (["durable-streams"], {"durable_streams_path": "/executions/x"}, "own routes"),
        (["durable-streams"], {"durable_streams_path": "/health"}, "own routes"),
        (["durable-streams"], {"durable_streams_path": "/ws"}, "own routes"),
        (["ag-ui"], {"ag_ui_path": ""}, "empty"),
        (["ai-sdk"], {"ai_sdk_path": ""}, "empty"),
    ],
)
@pytest.mark.parametrize("prefix", ["", "/live"])
def test_paths_that_meet_are_refused(wires: list[WireName], settings: dict[str, Any], words: str, prefix: str) -> None:
    app = FastAPI()
    routes = list(app.router.routes)
    with pytest.raises(StreamingConfigError, match=r"settings\.wires") as raised:
        StreamingModule({"wires": settings, "gateway": {"prefix": prefix}}).install(app, wires=wires)
    assert words in str(raised.value)
    assert app.router.routes == routes
    StreamingModule({"gateway": {"prefix": prefix}}).install(app, wires=WIRES)  # nothing of the refused one is claimed


def test_paths_of_two_modules_that_meet_are_refused() -> None:
    app = FastAPI()
    install(app, wires=("ai-sdk",))
    with pytest.raises(StreamingConfigError, match=r"gateway\.prefix"):
        install(app, wires=("langgraph",))
    with pytest.raises(StreamingConfigError, match="/api/chat"):
        StreamingModule({"gateway": {"prefix": "/api/chat"}}).install(app)
    with pytest.raises(StreamingConfigError, match="/api"):
        StreamingModule({"gateway": {"prefix": "/api"}, "wires": {"durable_streams_path": "/chat"}}).install(
            app, wires=["durable-streams"]
        )


def test_an_unknown_wire_is_refused() -> None:
    unknown: Any = ["ai_sdk"]
    with pytest.raises(StreamingConfigError, match="ai-sdk, langgraph, ag-ui, durable-streams"):
        StreamingModule().install(FastAPI(), wires=unknown)
