"""Secrets that the application's `redact` removes from updates are in no answer about a thread either."""

import json
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt

from lg_streaming import StreamingModule
from tests.support.server import serve

pytestmark = pytest.mark.anyio

WORD = "hunter2"


async def allow(*_: object) -> bool:
    return True


def redact(_type: str, data: Any) -> Any:
    return json.loads(json.dumps(data).replace(WORD, "***"))


def graph() -> Any:
    """A graph that stops at a question in a subgraph, next to a node that is done; each has the secret somewhere."""

    def done(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"the password is {WORD}", id="done")]}

    def ask(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(str(interrupt({"question": f"Use {WORD}?"})), id="asked")]}

    child = StateGraph(MessagesState).add_node("done", done).add_node("ask", ask)
    child.add_edge(START, "done").add_edge("done", "ask")

    def fail(state: MessagesState) -> dict[str, Any]:
        raise ValueError(f"{WORD} is wrong")

    builder = StateGraph(MessagesState).add_node("first", done).add_node("child", child.compile())
    builder.add_node("fail", fail).add_edge(START, "first").add_edge("first", "child").add_edge("child", "fail")
    return builder.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("state_bytes", [0, 65_536])
async def test_no_answer_has_a_secret(state_bytes: int) -> None:
    module = StreamingModule(
        {"auth": {"enabled": False}, "runs": {"state_bytes": state_bytes}}, redact=redact, authorize=allow
    )
    module.graphs["agent"] = graph()
    app = FastAPI()
    module.install(app, wires=["langgraph"])
    with serve(app) as server:
        async with httpx2.AsyncClient(base_url=server.url, trust_env=False, timeout=20) as http:
            texts: list[str] = []

            async def call(method: str, path: str, body: Any = None) -> Any:
                answer = await http.request(method, path, json=body)
                assert answer.is_success, answer.text
                texts.append(answer.text)
                return answer

            run = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "hi"}]}}
            await call("POST", "/threads", {"thread_id": "t"})
            modes = ["values", "updates", "messages-tuple", "tasks", "debug", "checkpoints", "custom"]
            await call("POST", "/threads/t/runs/stream", {**run, "stream_mode": modes, "stream_subgraphs": True})
            state = (await call("GET", "/threads/t/state?subgraphs=true")).json()
            assert state["tasks"][0]["interrupts"][0]["value"] == {"question": "Use ***?"}
            assert state["tasks"][0]["state"]["values"]["messages"][-1]["content"] == "the password is ***"
            assert state["values"]["messages"][-1]["content"] == "the password is ***"
            history = (await call("POST", "/threads/t/history", {"limit": 10})).json()
            results = [task["result"] for each in history for task in each["tasks"] if task["result"]]
            assert any("the password is ***" in json.dumps(each) for each in results)
            for method, path, body in (
                ("GET", "/threads/t", None),
                ("POST", "/threads/search", {}),
                ("GET", "/threads/t/runs", None),
                ("POST", "/threads/t/runs/wait", {"assistant_id": "agent", "command": {"resume": WORD}}),
                ("GET", "/threads/t/runs", None),
                ("GET", "/threads/t/state", None),
            ):
                await call(method, path, body)
            failed = json.loads(texts[-1])
            assert "*** is wrong" in failed["tasks"][-1]["error"]
    assert not [text for text in texts if WORD in text]
