"""One server with every wire, and one request for each of their routes."""

import contextlib
import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from fastapi import FastAPI
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph

from lg_streaming import StreamingModule
from lg_streaming.gateway import Gateway
from lg_streaming.testing import ScriptedChatModel
from lg_streaming.types import WireName
from tests.gateway.tokens import SECRET, token
from tests.support.server import Server, serve

__all__ = [
    "BODY_BYTES",
    "CASES",
    "FREE",
    "GRAPH",
    "WIRES",
    "AllWires",
    "Case",
    "Kind",
    "all_wires",
    "bearer",
    "install",
]

WIRES: tuple[WireName, ...] = get_args(WireName)
GRAPH = "agent"
BODY_BYTES = 20_000
FREE: Mapping[str, Any] = {
    "messages_per_second": None,
    "connects_per_address": None,
    "connections_per_address": None,
    "connections_per_subject": None,
    "failed_logins_per_address": None,
    "starts_per_subject": None,
}
"""Limits under which one machine may ask as often as many."""

Kind = Literal["read", "stream", "start", "list"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A route of a wire. `ID` in its path and its body is the id of a thread.

    Attributes:
        kind: `stream` for a stream of a thread, `start` for the start of a run, `list` for what needs no thread.
        missing: Status for a thread that does not exist, or is another's.
    """

    wire: WireName
    method: str
    path: str
    kind: Kind
    body: Any = None
    missing: int = 404

    def __str__(self) -> str:
        return f"{self.wire} {self.method} {self.path}"

    def at(self, execution_id: str) -> str:
        """Return the path for a thread."""
        return self.path.replace("ID", execution_id)

    def content(self, execution_id: str) -> bytes | None:
        """Return the body for a thread."""
        return None if self.body is None else json.dumps(self.body).replace("ID", execution_id).encode()


_SAYS = {"id": "m1", "role": "user", "content": "hello"}
_CHAT = {"id": "ID", "messages": [{"id": "m1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}]}
_RUN = {"assistant_id": GRAPH, "input": {"messages": [_SAYS]}}
_AGENT: dict[str, Any] = {
    "threadId": "ID",
    "runId": "r1",
    "messages": [_SAYS],
    "state": {},
    "tools": [],
    "context": [],
    "forwardedProps": {},
}


def _lang(method: str, path: str, kind: Kind, body: Any = None) -> Case:
    return Case(wire="langgraph", method=method, path=path, kind=kind, body=body)


CASES: tuple[Case, ...] = (
    Case(wire="ai-sdk", method="POST", path="/api/chat", kind="start", body=_CHAT, missing=403),
    Case(wire="ai-sdk", method="GET", path="/api/chat/ID/stream", kind="stream", missing=204),
    Case(wire="ag-ui", method="POST", path="/agui", kind="start", body=_AGENT, missing=403),
    Case(wire="ag-ui", method="POST", path=f"/agui/{GRAPH}", kind="start", body=_AGENT, missing=403),
    Case(wire="ag-ui", method="POST", path="/agui/connect", kind="stream", body=_AGENT, missing=200),
    Case(wire="ag-ui", method="GET", path="/copilotkit/info", kind="list"),
    Case(wire="ag-ui", method="POST", path=f"/copilotkit/agent/{GRAPH}/run", kind="start", body=_AGENT, missing=403),
    Case(
        wire="ag-ui", method="POST", path=f"/copilotkit/agent/{GRAPH}/connect", kind="stream", body=_AGENT, missing=200
    ),
    Case(wire="ag-ui", method="POST", path=f"/copilotkit/agent/{GRAPH}/stop/ID", kind="read", missing=200),
    Case(
        wire="ag-ui",
        method="POST",
        path="/copilotkit",
        kind="stream",
        body={"method": "agent/connect", "params": {"agentId": GRAPH}, "body": _AGENT},
        missing=200,
    ),
    Case(wire="durable-streams", method="GET", path="/v1/stream/ID", kind="read", missing=403),
    Case(wire="durable-streams", method="GET", path="/v1/stream/ID?offset=-1&live=sse", kind="stream", missing=403),
    Case(wire="durable-streams", method="GET", path="/v1/stream/ID?offset=-1&live=long-poll", kind="read", missing=403),
    _lang("POST", "/assistants/search", "list", {}),
    _lang("POST", "/assistants/count", "list", {}),
    _lang("GET", f"/assistants/{GRAPH}", "list"),
    _lang("POST", "/threads", "list", {}),
    _lang("POST", "/threads/search", "list", {}),
    _lang("POST", "/threads/count", "list", {}),
    _lang("GET", "/threads/ID", "read"),
    _lang("PATCH", "/threads/ID", "read", {"metadata": {"a": 1}}),
    _lang("DELETE", "/threads/ID", "read"),
    _lang("GET", "/threads/ID/state", "read"),
    _lang("POST", "/threads/ID/state", "read", {"values": {"messages": []}}),
    _lang("POST", "/threads/ID/state/checkpoint", "read", {"checkpoint": {"checkpoint_id": "c"}}),
    _lang("GET", "/threads/ID/state/c", "read"),
    _lang("POST", "/threads/ID/history", "read", {}),
    _lang("GET", "/threads/ID/stream", "stream"),
    _lang("GET", "/threads/ID/runs", "read"),
    _lang("POST", "/threads/ID/runs", "start", _RUN),
    _lang("POST", "/threads/ID/runs/stream", "start", _RUN),
    _lang("POST", "/threads/ID/runs/wait", "start", _RUN),
    _lang("GET", "/threads/ID/runs/r", "read"),
    _lang("DELETE", "/threads/ID/runs/r", "read"),
    _lang("GET", "/threads/ID/runs/r/stream", "read"),
    _lang("GET", "/threads/ID/runs/r/join", "read"),
    _lang("POST", "/threads/ID/runs/r/cancel", "read"),
    _lang("POST", "/threads/ID/stream/events", "stream", {"channels": ["values"]}),
    Case(
        wire="langgraph",
        method="POST",
        path="/threads/ID/commands",
        kind="start",
        body={"id": 1, "method": "run.start", "params": _RUN},
        missing=200,
    ),
    _lang("POST", "/runs", "start", _RUN),
    _lang("POST", "/runs/stream", "start", _RUN),
    _lang("POST", "/runs/wait", "start", _RUN),
    _lang("GET", "/runs/r", "read"),
    _lang("POST", "/runs/cancel", "list", {"thread_id": "ID", "run_ids": ["r"]}),
)


def bearer(subject: str = "alice", **claims: Any) -> dict[str, str]:
    """Return the headers of a caller who may start the graph, under any id."""
    grants = [{"actions": ["start"], "graphs": ["*"], "executions": ["**"]}]
    every: dict[str, Any] = {"sub": subject, "lg_streaming": grants, **claims}
    return {"Authorization": f"Bearer {token(**every)}"}


def _graph() -> Any:
    model = ScriptedChatModel(answers=["Hello there, this is an answer."])

    async def answer(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    return builder.compile(checkpointer=InMemorySaver(), name=GRAPH)


def install(app: FastAPI, wires: tuple[WireName, ...] = WIRES, **settings: Any) -> StreamingModule:
    """Install a module with the graph and the wires."""
    module = StreamingModule(
        {
            "auth": {"secret": SECRET},
            "wires": {"body_bytes": BODY_BYTES, **settings.pop("wires", {})},
            "limits": {**FREE, **settings.pop("limits", {})},
            **settings,
        }
    )
    module.graphs[GRAPH] = _graph()
    module.install(app, wires=wires)
    return module


@dataclass(frozen=True, slots=True, kw_only=True)
class AllWires:
    """A running server with every wire."""

    module: StreamingModule
    server: Server

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def gateway(self) -> Gateway:
        return self.module.gateway

    def open_run(self, execution_id: str, owner: str = "alice") -> None:
        """Open a run of an execution, with one token."""
        self.module.hub.open(execution_id, owner=owner)
        self.module.hub.publish(execution_id, "token", {"content": "hello"})


@contextlib.contextmanager
def all_wires(
    app: FastAPI | None = None, *, uvicorn: Mapping[str, Any] | None = None, **settings: Any
) -> Generator[AllWires]:
    """Serve every wire."""
    app = app or FastAPI()
    module = install(app, **settings)
    with serve(app, log_config=None, **(uvicorn or {})) as server:
        yield AllWires(module=module, server=server)
