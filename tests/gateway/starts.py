"""A server with graphs that callers may start, and the four ways to ask for that."""

import json
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import jwt
from fastapi import FastAPI
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import interrupt
from typing_extensions import TypedDict

from lg_streaming import StreamingModule
from tests.gateway.contract.adapters import SOCKETS, RefusedError, SocketReader
from tests.gateway.site import SECRET
from tests.support.server import Server, serve

AUTH: dict[str, Any] = {"secret": SECRET, "leeway": 0}
LIMITS: dict[str, Any] = {
    "messages_per_second": None,
    "connects_per_address": None,
    "failed_logins_per_address": None,
    "starts_per_subject": None,
}


class State(TypedDict, total=False):
    text: str
    answer: Any


class Context(TypedDict, total=False):
    tone: str
    size: int


async def _shout(state: State) -> State:
    return {"text": state.get("text", "").upper()}


async def _ask(state: State) -> State:
    return {"answer": interrupt("Approve?")}


async def _chat(state: MessagesState) -> dict[str, Any]:
    return {"messages": [AIMessage(f"{len(state['messages'])} so far")]}


def one_node(name: str, node: Any, state: Any = State, context: Any = None) -> Any:
    builder = StateGraph(state, context_schema=context)
    builder.add_node("work", node)
    builder.add_edge(START, "work")
    return builder.compile(checkpointer=InMemorySaver(), name=name)


def make_graphs() -> dict[str, Any]:
    return {
        "shout": one_node("shout", _shout, context=Context),
        "ask": one_node("ask", _ask),
        "demo/chat": one_node("chat", _chat, MessagesState),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSite:
    """A module on a real server."""

    streaming: StreamingModule
    server: Server
    calls: list[tuple[Any, ...]] = field(default_factory=list[tuple[Any, ...]])
    """Calls of `authorize`."""

    @property
    def url(self) -> str:
        return self.server.url


@contextmanager
def start_site(
    *,
    authorize: Callable[..., bool] | None = None,
    graphs: dict[str, Any] | None = None,
    event_log: Any = None,
    redact: Callable[[str, Any], Any] | None = None,
    **settings: Any,
) -> Generator[StartSite]:
    settings = {"auth": AUTH, **settings, "limits": {**LIMITS, **settings.get("limits", {})}}
    calls: list[tuple[Any, ...]] = []

    async def asked(principal: Any, *arguments: Any) -> bool:
        calls.append((principal.subject, *arguments))
        return authorize is not None and authorize(principal, *arguments)

    streaming = StreamingModule(
        settings, log=event_log, redact=redact, authorize=asked if authorize is not None else None
    )
    for name, graph in (make_graphs() if graphs is None else graphs).items():
        streaming.graphs[name] = graph
    app = FastAPI()
    streaming.install(app)
    with serve(app, log_config=None) as server:
        yield StartSite(streaming=streaming, server=server, calls=calls)


def bearer(subject: str = "alice", *grants: dict[str, Any], lifetime: float = 86_400) -> str:
    claims = {"sub": subject, "exp": int(time.time() + lifetime), "lg_streaming": list(grants)}
    return jwt.encode(claims, SECRET, "HS256")


def may_start(*graphs: str, executions: tuple[str, ...] = ()) -> dict[str, Any]:
    return {"actions": ["start"], "graphs": list(graphs), "executions": list(executions)}


def connect_to_log(site: StartSite, graph: str) -> None:
    """Start a run, after which the site is connected to its log: a test is asked for what it leaves behind."""
    with httpx2.Client(base_url=site.url, trust_env=False) as caller:
        headers = {"Authorization": f"Bearer {bearer('first', may_start('*'))}"}
        started = caller.post("/executions", json={"graph": graph, "input": {}}, headers=headers)
        assert started.status_code == 201, started.text
        caller.get(f"{started.json()['stream_url']}", headers=headers)


class Rest:
    """Requests as one caller."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.http = httpx2.AsyncClient(base_url=url, headers=headers, trust_env=False, verify=False)

    async def request(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of the response; raises RefusedError."""
        response = await self.http.request(method, path, **options)
        content: Any = response.json() if response.content else None
        if not response.is_success:
            raise RefusedError(content["error"], response.status_code)
        return content

    async def start(self, graph: str, input: Any, **more: Any) -> Any:
        return await self.request("POST", "/executions", json={"graph": graph, "input": input, **more})

    async def updates(self, execution_id: str) -> list[dict[str, Any]]:
        """All updates up to the end of the run, as an event stream sends them."""
        path = f"/executions/{execution_id}/stream?named=false"
        async with self.http.stream("GET", path) as response:
            assert response.status_code == 200, await response.aread()
            found = [json.loads(line[6:]) async for line in response.aiter_lines() if line.startswith("data: ")]
        return [each for each in found if "metadata" in each]


@asynccontextmanager
async def rest(site: StartSite, token: str | None) -> AsyncGenerator[Rest]:
    caller = Rest(site.url, token)
    async with caller.http:
        yield caller


@asynccontextmanager
async def socket_of(site: StartSite, transport: str, token: str | None) -> AsyncGenerator[SocketReader]:
    reader = SOCKETS[transport](site.server, token=token)
    try:
        yield reader
    finally:
        await reader.aclose()
