"""Wrong set-ups of wires: each error names what to change, and the log has what a caller may not read."""

from __future__ import annotations

import logging
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from langgraph.graph import START, MessagesState, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.errors import StreamingConfigError
from tests.support.server import serve
from tests.wires.all_wires import GRAPH, bearer, install

CHAT = {
    "trigger": "submit-message",
    "messages": [{"id": "u1", "role": "user", "parts": [{"type": "text", "text": "?"}]}],
}


async def idle(state: MessagesState) -> dict[str, Any]:
    return {"messages": state["messages"][:0]}


@pytest.mark.parametrize(
    ("wires", "hint"),
    [("ai-sdk", r"wires=\['ai-sdk'\]"), (["aisdk"], "'aisdk' is no wire: wires takes ai-sdk, langgraph")],
)
def test_a_wrong_list_of_wires(wires: Any, hint: str) -> None:
    with pytest.raises(StreamingConfigError, match=hint):
        StreamingModule().install(FastAPI(), wires=wires)


async def refusals(caplog: pytest.LogCaptureFixture, headers: dict[str, str], body: Any) -> Any:
    """Start a run that is refused; return the answer and the reasons in the log."""
    app = FastAPI()
    install(app)
    with caplog.at_level(logging.INFO, "lg_streaming.gateway"), serve(app, log_config=None) as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=10) as http:
            answer = await http.post("/api/chat", headers=headers, json=body)
            await http.post("/threads/t/runs/wait", headers=headers, json={"assistant_id": "nope", "input": {}})
            await http.options("/api/chat", headers={**headers, "Access-Control-Request-Method": "POST"})
    logged = [(getattr(each, "event", ""), getattr(each, "reason", "")) for each in caplog.records]
    return answer, [entry for entry in logged if entry[0] in {"gateway.start.refused", "gateway.origin.refused"}]


async def test_a_graph_of_the_settings_that_is_not_registered() -> None:
    wire = StreamingModule({"auth": {"enabled": False}, "wires": {"graph": "nope"}})
    app = FastAPI()
    wire.install(app, wires=["ai-sdk"])
    wire.graphs[GRAPH] = StateGraph(MessagesState).add_node(idle).add_edge(START, "idle").compile()
    with serve(app, log_config=None) as server:
        async with httpx2.AsyncClient(base_url=server.url, timeout=10) as http:
            answer = await http.post("/api/chat", json={"id": "one", **CHAT})
    assert answer.status_code == 400
    assert "wires.graph is 'nope', which is not in streaming.graphs" in answer.text


async def test_the_log_has_the_reason_of_a_refused_start(caplog: pytest.LogCaptureFixture) -> None:
    body = {"id": "alices-1", "graph": "nope", **CHAT}
    answer, logged = await refusals(caplog, bearer(), body)
    assert answer.status_code == 403
    assert "no such graph" in answer.text
    assert [event for event, _ in logged] == ["gateway.start.refused"] * 2  # AI SDK, LangGraph
    assert all("'nope'" in reason for _, reason in logged)


async def test_the_log_has_the_origin_of_a_refused_page(caplog: pytest.LogCaptureFixture) -> None:
    headers = {**bearer(), "Origin": "http://localhost:9"}
    answer, logged = await refusals(caplog, headers, {"id": "alices-1", "graph": GRAPH, **CHAT})
    assert answer.status_code == 403
    assert [event for event, _ in logged] == ["gateway.origin.refused"] * 3  # the requests, and the preflight
    assert all("gateway.cors_origins" in reason for _, reason in logged)
