"""Event streams and commands: positions, wrong requests, callers, closes of WebSockets."""

import asyncio
import json
import socket as sockets
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lg_streaming import StreamingModule
from lg_streaming.errors import DeadPeerError, ServerRestartError, SlowReaderError
from lg_streaming.gateway.dialects.langgraph.event_socket import close_code as close_code_of
from tests.gateway.site import SECRET
from tests.gateway.starts import bearer, may_start
from tests.support.server import serve
from tests.wires.langgraph.places import serving
from tests.wires.langgraph.python_checks import Place, human

pytestmark = pytest.mark.anyio

PAGE = "https://app.example.com"
ALL = ["values", "checkpoints", "messages", "lifecycle", "input", "tools", "custom", "tasks", "updates"]


@pytest.fixture(scope="module")
def guarded(gates: Path) -> Generator[Place]:
    """A server that asks for tokens, and sends a comment every 50 ms."""
    settings = {"gateway": {"cors_origins": [PAGE], "heartbeat_interval": 0.05}, "auth": {"leeway": 0}}
    with serving(gates, {"SECRET": SECRET, "SETTINGS": json.dumps(settings)}) as server:
        yield Place(server.url, gates)


@asynccontextmanager
async def http_of(place: Place, **headers: str) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(base_url=place.url, trust_env=False, timeout=20, headers=headers) as http:
        yield http


def token(subject: str) -> str:
    return bearer(subject, may_start("agent", executions=(f"{subject}-*",)))


async def command(http: httpx2.AsyncClient, thread: str, method: str, **params: Any) -> Any:
    body = {"id": 7, "method": method, "params": params}
    response = await http.post(f"/threads/{thread}/commands", json=body)
    assert response.status_code == 200, response.text
    assert response.json()["id"] == 7
    return response.json()


async def start(http: httpx2.AsyncClient, thread: str, text: str) -> Any:
    return await command(http, thread, "run.start", assistant_id="agent", input=human(text))


async def read(http: httpx2.AsyncClient, thread: str, body: Any = None, count: int = 1, after: str = "") -> list[Any]:
    """The events of a thread up to the end of a run, with their ids in the stream."""
    events: list[Any] = []
    async with asyncio.timeout(20):
        path = f"/threads/{thread}/stream/events"
        content: dict[str, Any] = {"channels": ALL}
        content |= body or {}
        async with http.stream("POST", path, json=content, headers={"Last-Event-ID": after}) as response:
            assert response.status_code == 200
            assert response.headers["content-type"].startswith("text/event-stream")
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    events.append(json.loads(line[6:]))
                elif line.startswith("id: "):
                    assert line[4:] == events[-1]["event_id"]
                    if is_end(events[-1]):
                        count -= 1
                        if not count:
                            return events
    raise AssertionError(events)


def is_end(event: Any) -> bool:
    params = event["params"]
    ends = {"completed", "failed", "interrupted"}
    return event["method"] == "lifecycle" and not params["namespace"] and params["data"]["event"] in ends


# ---------------------------------------------------------------- positions
async def test_a_reader_continues_from_each_form_of_position(place: Place) -> None:
    async with http_of(place) as http:
        thread = uuid4().hex
        await start(http, thread, "say one two three")
        whole = await read(http, thread)
        at = len(whole) // 2
        known, rest = whole[at], whole[at + 1 :]
        assert await read(http, thread, {"since": known["seq"]}) == rest
        assert await read(http, thread, {"since_event_id": known["event_id"]}) == rest
        assert await read(http, thread, after=known["event_id"]) == rest
        running = whole[0]["event_id"]
        assert running.startswith("synth:")
        assert await read(http, thread, after=running) == whole[1:]
        for unknown in ("nonsense", "1-5", "99999999999999", f"{known['event_id'].split('-')[0]}-999999999"):
            assert await read(http, thread, after=unknown) == whole
        assert await read(http, thread, {"since": 10**12}) == whole
        narrow = await read(http, thread, {"channels": ["lifecycle", "messages"], "namespaces": [[]], "depth": 0})
        assert narrow == [event for event in whole if event["method"] in {"lifecycle", "messages"}]


async def test_a_thread_with_a_slash_in_its_id(place: Place) -> None:
    async with http_of(place) as http:
        thread = f"a%2F{uuid4().hex}"
        await start(http, thread, "say here")
        assert is_end((await read(http, thread))[-1])
        async with connect(f"{place.url.replace('http', 'ws')}/threads/{thread}/stream/events") as connection:
            found = await subscribe(connection, {"channels": ["lifecycle"]})
            assert [event["params"]["data"]["event"] for event in found] == ["running", "completed"]


async def test_a_stream_waits_for_its_thread_and_sends_comments(guarded: Place) -> None:
    async with http_of(guarded, Authorization=f"Bearer {token('alice')}") as http:
        thread = f"alice-{uuid4().hex}"
        path = f"/threads/{thread}/stream/events"
        async with asyncio.timeout(20), http.stream("POST", path, json={"channels": ["lifecycle"]}) as response:
            lines = response.aiter_lines()
            assert (await anext(lines)).startswith(":")
            seen = [await anext(lines) for _ in range(6)]
            assert seen.count(": heartbeat") >= 2
            assert (await http.get(f"/threads/{thread}/state")).status_code == 404
            await start(http, thread, "say here")
            while not (await anext(lines)).startswith("event: lifecycle"):
                pass


# ---------------------------------------------------------------- wrong requests
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"channels": []},
        {"channels": ["nonsense"]},
        {"channels": "values"},
        {"channels": ["custom:"]},
        {"channels": ["values"], "namespaces": ["x"]},
        {"channels": ["values"], "namespaces": [[1]]},
        {"channels": ["values"], "depth": -1},
        {"channels": ["values"], "depth": True},
        [],
    ],
)
async def test_wrong_filters(body: Any, place: Place) -> None:
    async with http_of(place) as http:
        response = await http.post(f"/threads/{uuid4().hex}/stream/events", json=body)
        assert response.status_code == 400
        assert isinstance(response.json()["detail"], str)


@pytest.mark.parametrize("body", [{}, [], {"id": 1}, {"method": "run.start"}, {"id": "1", "method": "run.start"}, 5])
async def test_messages_that_are_no_command(body: Any, place: Place) -> None:
    async with http_of(place) as http:
        response = await http.post(f"/threads/{uuid4().hex}/commands", json=body)
        assert response.status_code == 400
        assert response.json()["error"] == "invalid_argument"


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("no.such", {}, "unknown_command"),
        ("input.inject", {}, "not_supported"),
        ("subscription.subscribe", {"channels": ["values"]}, "not_supported"),
        ("run.start", {}, "invalid_argument"),
        ("run.start", {"assistant_id": 5}, "invalid_argument"),
        ("run.start", {"assistant_id": "no-such", "input": {}}, "unknown_error"),
        ("run.start", {"assistant_id": "agent", "input": {"messages": 5}}, "invalid_argument"),
        ("run.start", {"assistant_id": "agent", "input": {}, "multitask_strategy": "x"}, "unknown_error"),
        ("input.respond", {}, "invalid_argument"),
        ("input.respond", {"responses": []}, "invalid_argument"),
        ("input.respond", {"interrupt_id": "x", "response": 1}, "unknown_error"),
        ("input.respond", {"interrupt_id": "x", "response": 1, "goto": "say"}, "not_supported"),
        ("agent.getTree", {}, "unknown_error"),
    ],
)
async def test_commands_that_are_refused(method: str, params: Any, code: str, place: Place) -> None:
    async with http_of(place) as http:
        answer = await command(http, uuid4().hex, method, **params)
        assert (answer["type"], answer["error"]) == ("error", code)
        assert answer["message"]


async def test_an_interrupt_that_does_not_wait(place: Place) -> None:
    async with http_of(place) as http:
        thread = uuid4().hex
        await start(http, thread, "ask")
        events = await read(http, thread)
        (asked,) = [each["params"]["data"]["interrupt_id"] for each in events if each["method"] == "input.requested"]
        assert (await command(http, thread, "input.respond", interrupt_id="other"))["error"] == "no_such_interrupt"
        answer = await command(http, thread, "input.respond", interrupt_id=asked, response="yes")
        assert answer["result"] == {}
        assert answer["meta"]["applied_through_seq"] >= events[-1]["seq"]
        await read(http, thread, count=2)
        again = await command(http, thread, "input.respond", interrupt_id=asked, response="yes")
        assert again["error"] == "no_such_interrupt"


# ---------------------------------------------------------------- WebSocket
def ws_url(place: Place, thread: str, query: str = "") -> str:
    return f"{place.url.replace('http', 'ws')}/threads/{thread}/stream/events{query}"


async def ask(connection: ClientConnection, number: int, method: str, params: Any) -> list[Any]:
    """Send a command; return the events up to its answer, and the answer."""
    await connection.send(json.dumps({"id": number, "method": method, "params": params}))
    found: list[Any] = []
    async with asyncio.timeout(20):
        while True:
            message = json.loads(await connection.recv())
            found.append(message)
            if message.get("id") == number:
                return found


async def subscribe(connection: ClientConnection, params: Any, number: int = 1) -> list[Any]:
    *events, answer = await ask(connection, number, "subscription.subscribe", params)
    assert answer["type"] == "success"
    return events[len(events) - answer["result"]["replayed_events"] :]  # before them, live events may have come


async def close_code(connection: ClientConnection) -> int:
    async with asyncio.timeout(20):
        try:
            while True:
                await connection.recv()
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd is not None else 0


async def test_subscriptions_of_one_connection(place: Place) -> None:
    """Each begins with all past events; a live event comes once, also if it fits several."""
    thread = uuid4().hex
    async with connect(ws_url(place, thread)) as connection:
        assert await subscribe(connection, {"channels": ["lifecycle"]}) == []
        start_params = {"assistant_id": "agent", "input": human("say one two")}
        *_, answer = await ask(connection, 2, "run.start", start_params)
        assert answer["result"]["run_id"]
        async with http_of(place) as http:
            whole = await read(http, thread)
        past = await subscribe(connection, {"channels": ["lifecycle", "messages"]}, 3)
        runs = [event for event in past if event["method"] == "lifecycle"]
        assert [event for event in whole if event["method"] == "lifecycle"] == list(
            {e["seq"]: e for e in runs}.values()
        )
        assert past[-1] == whole[-1]
        *_, answer = await ask(connection, 4, "run.start", start_params)
        live: list[Any] = []
        while not (live and is_end(live[-1])):
            live.append(json.loads(await connection.recv()))
        async with http_of(place) as http:
            both = await read(http, thread, count=2)
        new = [event for event in both if event["seq"] > whole[-1]["seq"]]
        assert live == [event for event in new if event["method"] in {"lifecycle", "messages"}]
        *_, answer = await ask(connection, 5, "subscription.unsubscribe", {"subscription_id": "sub-2"})
        assert answer["type"] == "success"
        *_, answer = await ask(connection, 6, "subscription.unsubscribe", {"subscription_id": "sub-2"})
        assert answer["error"] == "no_such_subscription"
        await ask(connection, 7, "run.start", start_params)
        live = []
        while not (live and is_end(live[-1])):
            message = json.loads(await connection.recv())
            live += [message] if message["type"] == "event" else []
        assert {event["method"] for event in live} == {"lifecycle"}


async def test_wrong_messages_over_websocket(place: Place) -> None:
    async with connect(ws_url(place, uuid4().hex)) as connection:
        for wrong in ("{}", '{"id": 1, "method": "subscription.subscribe", "params": {"channels": []}}'):
            await connection.send(wrong)
            assert json.loads(await connection.recv())["error"] == "invalid_argument"
        await connection.send("no JSON")
        assert await close_code(connection) == 4400


async def test_a_message_that_is_too_large(place: Place) -> None:
    async with connect(ws_url(place, uuid4().hex)) as connection:
        await connection.send(json.dumps({"id": 1, "method": "x", "params": "x" * 70_000}))
        assert await close_code(connection) in {1009, 4413}  # the server's own limit is the same


async def test_a_reader_that_stops_reading() -> None:
    """The reader is cut off; its client takes the code for a reason to connect again."""
    assert [close_code_of(each) for each in (SlowReaderError(), DeadPeerError(), ServerRestartError())] == [
        4408,
        4408,
        4503,
    ]
    streaming = StreamingModule({"limits": {"send_timeout": 0.2}, "runs": {"publish_states": True}})
    app, thread = FastAPI(), uuid4().hex
    streaming.install(app, wires=["langgraph"])
    with serve(app) as server:
        streaming.hub.open(thread)
        slow = sockets.socket()
        slow.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", server.port))
        slow.setblocking(False)
        async with connect(
            f"ws://127.0.0.1:{server.port}/threads/{thread}/stream/events", sock=slow, max_queue=1
        ) as one:
            assert await subscribe(one, {"channels": ["custom"]}) == []
            assert streaming.gateway.connections == 1
            for _ in range(100):
                streaming.hub.publish(thread, "custom", {"name": "x", "data": "x" * 100_000})
            async with asyncio.timeout(20):
                while streaming.gateway.connections:
                    await asyncio.sleep(0.02)
            one.transport.abort()  # a tidy close would wait for what is not read
        await streaming.hub.close(thread)


# ---------------------------------------------------------------- callers
async def test_callers_over_websocket(guarded: Place) -> None:
    thread = f"alice-{uuid4().hex}"
    async with http_of(guarded, Authorization=f"Bearer {token('alice')}") as http:
        await start(http, thread, "say secret")
        whole = await read(http, thread)
        tickets = [(await http.post("/tickets", json={})).json()["ticket"] for _ in range(2)]
    async with connect(ws_url(guarded, thread)) as connection:
        assert await close_code(connection) == 4401
    bob = {"Authorization": f"Bearer {token('bob')}"}
    for name in (thread, f"alice-{uuid4().hex}"):
        async with connect(ws_url(guarded, name), additional_headers=bob) as connection:
            assert await close_code(connection) == 4404
    for extra in (
        {"additional_headers": {"Cookie": f"lg_streaming_token={token('alice')}"}},
        {"additional_headers": {"Authorization": f"Bearer {token('alice')}"}},
        {"additional_headers": {"Cookie": f"lg_streaming_token={token('alice')}"}, "origin": PAGE},
    ):
        async with connect(ws_url(guarded, thread), **extra) as connection:  # type: ignore[arg-type]
            assert await subscribe(connection, {"channels": ALL}) == whole
    async with connect(ws_url(guarded, thread, f"?ticket={tickets[0]}")) as connection:
        assert await subscribe(connection, {"channels": ALL}) == whole
    async with connect(ws_url(guarded, thread, f"?ticket={tickets[0]}")) as connection:
        assert await close_code(connection) == 4401
    cookie = {"Cookie": f"lg_streaming_token={token('alice')}"}
    async with connect(ws_url(guarded, thread), additional_headers=cookie, origin="https://evil.example") as connection:  # type: ignore[arg-type]
        assert await close_code(connection) == 4403
    async with connect(ws_url(guarded, thread, f"?token={token('alice')}")) as connection:
        assert await close_code(connection) == 4400


async def test_another_callers_thread_looks_unknown(guarded: Place) -> None:
    thread, none = f"alice-{uuid4().hex}", f"alice-{uuid4().hex}"
    async with http_of(guarded, Authorization=f"Bearer {token('alice')}") as http:
        await start(http, thread, "ask")
        await read(http, thread)
    async with http_of(guarded, Authorization=f"Bearer {token('bob')}") as http:
        for name in (thread, none):
            response = await http.post(f"/threads/{name}/stream/events", json={"channels": ALL})
            assert (response.status_code, response.json()) == (404, {"detail": f"Thread with ID {name} not found"})
            for method, params in (
                ("run.start", {"assistant_id": "agent", "input": human("say mine")}),
                ("input.respond", {"interrupt_id": "x", "response": 1}),
                ("agent.getTree", {}),
            ):
                answer = await command(http, name, method, **params)
                assert answer["message"] == f"404: Thread with ID {name} not found", answer
    async with http_of(guarded) as http:
        for path, body in (("stream/events", {"channels": ALL}), ("commands", {"id": 1, "method": "agent.getTree"})):
            assert (await http.post(f"/threads/{thread}/{path}", json=body)).status_code == 401


async def test_a_reader_that_waits_gets_no_other_callers_run(guarded: Place) -> None:
    """A caller that waits for a thread, which another one makes, gets nothing of it."""
    thread = f"shared-{uuid4().hex}"
    both = {name: bearer(name, may_start("agent", executions=("shared-*",))) for name in ("alice", "bob")}
    async with connect(ws_url(guarded, thread), additional_headers={"Authorization": f"Bearer {both['bob']}"}) as bob:
        assert await subscribe(bob, {"channels": ALL}) == []
        async with http_of(guarded, Authorization=f"Bearer {both['alice']}") as http:
            await start(http, thread, "say secret")
            await read(http, thread)
        assert await close_code(bob) == 4403
