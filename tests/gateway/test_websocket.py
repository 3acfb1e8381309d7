"""The plain WebSocket: the shapes of its messages, and a real browser that uses nothing but `WebSocket`."""

import asyncio
import json
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.responses import HTMLResponse
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from lg_streaming.gateway import Gateway
from lg_streaming.hub import StreamHub
from lg_streaming.publisher import Scope
from lg_streaming.settings import StreamingSettings
from tests.gateway.site import Site, make_app, site
from tests.support.browser import chromium_page
from tests.support.server import serve
from tests.support.tcp_proxy import tcp_proxy

PATIENCE = 20.0


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    with site(limits={"messages_per_second": None, "connects_per_address": None}) as running:
        yield running


@asynccontextmanager
async def web_socket(place: Site, **options: Any) -> AsyncGenerator[ClientConnection]:
    """Past its greeting."""
    async with connect(f"{place.server.ws_url}/ws", max_size=None, **options) as socket:
        assert (await message(socket))["type"] == "connection_status"
        yield socket


async def message(socket: ClientConnection, *types: str) -> Any:
    """The next message, of one of the types."""
    async with asyncio.timeout(PATIENCE):
        while True:
            found = json.loads(await socket.recv())
            if not types or found["type"] in types:
                return found


async def say(socket: ClientConnection, type: str, payload: Any = None, **more: Any) -> Any:
    await socket.send(json.dumps({"type": type, "payload": payload, **more}))
    return await message(socket, "reply")


async def close_code(socket: ClientConnection) -> int:
    try:
        async with asyncio.timeout(PATIENCE):
            while True:
                await socket.recv()
    except ConnectionClosed as closed:
        return closed.rcvd.code if closed.rcvd is not None else 1006


# ---------------------------------------------------------------- shapes
@pytest.mark.parametrize("number", [1, 0, -7, "seven", ""])
async def test_a_reply_echoes_the_messages_id(place: Site, number: int | str) -> None:
    async with web_socket(place) as socket:
        reply = await say(socket, "ping", id=number)
        assert reply.keys() == {"type", "id", "payload"}
        assert reply["id"] == number
        assert reply["payload"]["ok"]
        reply = await say(socket, "shout", id=number)
        assert (reply["id"], reply["payload"]["ok"], reply["payload"]["error"]["code"]) == (number, False, 4000)


async def test_without_an_id_a_reply_has_none(place: Site) -> None:
    async with web_socket(place) as socket:
        assert (await say(socket, "ping")).keys() == {"type", "payload"}
        assert (await say(socket, "ping", id=None)).keys() == {"type", "payload"}


DATA: dict[str, tuple[Any, dict[str, Any]]] = {
    "an object": ({"content": "a", "index": 1}, {"content": "a", "index": 1}),
    "empty": ({}, {}),
    "a type of its own": ({"type": "sale", "id": 3}, {"type": "sale", "id": 3}),
    "nested": ({"a": {"metadata": {"b": [1]}}}, {"a": {"metadata": {"b": [1]}}}),
    "a text": ("plain", {"data": "plain"}),
    "a number": (7, {"data": 7}),
    "nothing": (None, {"data": None}),
    "a list": ([1, {"a": 2}], {"data": [1, {"a": 2}]}),
    "odd text": ({"content": '"}],{"\\ \n\u2028 🐍'}, {"content": '"}],{"\\ \n\u2028 🐍'}),
}


@pytest.mark.parametrize(("data", "payload"), DATA.values(), ids=DATA.keys())
async def test_an_updates_data_lies_at_the_top_of_the_payload(
    place: Site, request: pytest.FixtureRequest, data: Any, payload: dict[str, Any]
) -> None:
    name = request.node.callspec.id.replace(" ", "-")
    place.hub.publish(name, "sale:made", data)
    async with web_socket(place) as socket:
        await say(socket, "subscribe_execution", {"execution_id": name})
        found = await message(socket, "event")
    metadata = found["payload"].pop("metadata")
    assert found == {"type": "event", "payload": payload}
    assert (metadata["type"], metadata["sequence_number"], metadata["execution_id"]) == ("sale:made", 2, name)


async def test_a_key_named_metadata_gives_way_to_ours(place: Site) -> None:
    place.hub.publish("shadow", "note", {"metadata": {"mine": 1}, "kept": 2})
    async with web_socket(place) as socket:
        await say(socket, "subscribe_execution", {"execution_id": "shadow"})
        payload = (await message(socket, "event"))["payload"]
    assert payload["kept"] == 2
    assert payload["metadata"]["sequence_number"] == 2


async def test_keys_of_the_users_own_in_the_metadata_survive(place: Site) -> None:
    extra = {"metadata": {"timestamp": "yesterday"}, "note": '},"data":{'}
    place.hub.publish("extras", "note", {"a": 1}, scope=Scope(node_id="write", extra=extra))
    async with web_socket(place) as socket:
        await say(socket, "subscribe_execution", {"execution_id": "extras"})
        payload = (await message(socket, "event"))["payload"]
    assert payload["a"] == 1
    assert payload["metadata"] | extra == payload["metadata"]
    assert payload["metadata"]["type"] == "note"
    assert payload["metadata"]["node_id"] == "write"


async def test_the_same_metadata_as_on_every_other_wire(place: Site) -> None:
    place.tokens("same", 1)
    await place.hub.close("same")
    async with web_socket(place) as socket, httpx2.AsyncClient() as http:
        await say(socket, "subscribe_execution", {"execution_id": "same"})
        metadata = (await message(socket, "token"))["payload"]["metadata"]
        text = (await http.get(f"{place.url}/executions/same/stream?events=token")).text
    update = json.loads(next(line for line in text.splitlines() if '"type":"token"' in line).removeprefix("data: "))
    assert metadata == {"type": "token", **update["metadata"]}


async def test_a_batch_has_whole_updates(place: Site) -> None:
    place.tokens("batch", 3)
    async with web_socket(place) as socket:
        await say(socket, "subscribe_execution", {"execution_id": "batch", "batch": True})
        payload = (await message(socket, "updates"))["payload"]
    assert payload["execution_id"] == "batch"
    assert [update["type"] for update in payload["updates"]] == ["workflow_start", "token", "token", "token"]
    assert payload["updates"][1]["data"] == {"content": "t0 ", "index": 0}


@pytest.mark.row("HIVE-67")
@pytest.mark.row("HIVE-68")
@pytest.mark.row("HIVE-D24")
async def test_every_message_and_its_answer(place: Site) -> None:
    wanted = {"executionId": "all", "events": ["token"], "nodeIds": ["write"], "since": "2026-01-01T00:00:00Z"}
    conversation: list[tuple[str, Any, set[str]]] = [
        (
            "subscribe_execution",
            wanted,
            {"ok", "execution_id", "state", "position", "oldest", "recovered"},
        ),
        ("unsubscribe_execution", {"executionId": "all"}, {"ok", "execution_id"}),
        ("subscribe_events", {"events": ["token"], "executions": ["a/*"]}, {"ok", "events", "executions"}),
        ("unsubscribe_events", {}, {"ok", "events", "executions"}),
        ("join_room", {"roomId": "lobby"}, {"ok", "room_id", "clients"}),
        ("leave_room", {"roomId": "lobby"}, {"ok", "room_id", "clients"}),
        ("authenticate", {"token": "any, as none is wanted"}, {"ok", "expires_in_s"}),
        ("ping", {}, {"ok", "timestamp"}),
        ("get_status", {}, {"ok", "connection", "subscriptions", "server"}),
    ]
    async with connect(f"{place.server.ws_url}/ws") as socket:
        greeting = await message(socket)
        assert greeting["payload"].keys() == {
            "status",
            "connection_id",
            "server_time",
            "heartbeat_interval_s",
            "protocol",
        }
        for name, payload, keys in conversation:
            answer = (await say(socket, name, payload))["payload"]
            assert (answer["ok"], set(answer)) == (True, keys), name


@pytest.mark.row("FLOW-42", "FLOW-D4")
async def test_heartbeats_have_a_time() -> None:
    with site(gateway={"heartbeat_interval": 0.05}) as place:
        async with web_socket(place) as socket:
            beats = [(await message(socket, "heartbeat"))["payload"]["timestamp"] for _ in range(3)]
            assert beats == sorted(set(beats))


@pytest.mark.row("FLOW-39")
@pytest.mark.row("FLOW-40")
@pytest.mark.row("FLOW-41")
@pytest.mark.row("PYEV-14")
@pytest.mark.row("FLOW-D7")
async def test_how_an_event_is_written(place: Site) -> None:
    place.tokens("frames", 1)
    await place.hub.close("frames")
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{place.url}/executions/frames/stream?events=token")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers.get("connection", "keep-alive") == "keep-alive"
    frames = answer.text.split("\n\n")
    lines = [frame.split("\n") for frame in frames if frame]
    (retry, first), (identity, event, data), last = lines[0][0:2], lines[1], lines[2]
    assert retry.startswith("retry: ")
    assert first == "event: connection_status"
    greeting = json.loads(lines[0][2].removeprefix("data: "))
    assert greeting["connection_id"]
    assert greeting["server_time"].endswith("Z")
    update = json.loads(data.removeprefix("data: "))
    metadata = update["metadata"]
    assert (identity, event) == (f"id: {metadata['epoch']}:2", "event: token")
    assert update["type"] == "token"
    assert metadata["timestamp"].endswith("Z")
    assert metadata["execution_id"] == "frames"
    assert last[1] == "event: end"
    assert sum(frame.count("connection_status") for frame in frames) == 1


@pytest.mark.row("HIVE-69")
async def test_what_an_update_says_beside_its_data(place: Site) -> None:
    place.hub.publish("mapped", "note", {"a": 1}, scope=Scope(node_id="write"), priority="high")
    async with web_socket(place) as socket:
        await say(socket, "subscribe_execution", {"execution_id": "mapped"})
        metadata = (await message(socket, "event"))["payload"]["metadata"]
    identity = f"{metadata['epoch']}:{metadata['sequence_number']}"
    assert identity.endswith(":2")
    assert (metadata["type"], metadata["node_id"], metadata["priority"]) == ("note", "write", "high")
    assert metadata["timestamp"].endswith("Z")


# ---------------------------------------------------------------- what is no message
async def test_a_plain_request_is_told_to_upgrade(place: Site) -> None:
    async with httpx2.AsyncClient() as http:
        for method in ("GET", "HEAD"):
            answer = await http.request(method, f"{place.url}/ws")
            assert answer.status_code == 426
            assert answer.headers["upgrade"] == "websocket"
        assert (await http.get(f"{place.url}/ws")).json()["error"]["code"] == 4000


async def test_binary_messages_are_refused_and_the_third_closes(place: Site) -> None:
    async with web_socket(place) as socket:
        for _ in range(3):
            await socket.send(b'{"type":"ping"}')
            assert (await message(socket, "error"))["payload"]["code"] == 4000
        assert await close_code(socket) == 4000


async def test_a_message_that_is_too_large_closes(place: Site) -> None:
    async with web_socket(place) as socket:
        await socket.send(json.dumps({"type": "ping", "payload": "x" * 65_536}))
        assert await close_code(socket) in {4130, 1009}  # uvicorn's own limit may be the first to notice


@pytest.mark.row("HIVE-70")
async def test_an_error_says_what_to_do(place: Site) -> None:
    async with web_socket(place) as socket:
        reply = await say(socket, "subscribe_execution", {"execution_id": "a b", "node_id": ["x"]})
        error = reply["payload"]["error"]
        assert error.keys() == {"code", "name", "message", "retryable"}
        assert "node_id: there is no such field" in error["message"]


# ---------------------------------------------------------------- browsers
SEED_PAGE = """<!doctype html><script>
const seen = [];
const socket = new WebSocket(`ws://${location.host}/ws`);
socket.onopen = () => {
  // Subscribe to workflow execution
  socket.send(
    JSON.stringify({
      type: 'subscribe_execution',
      payload: {
        executionId: 'execution-123',
        events: ['token', 'event', 'progress', 'status'],
      },
    })
  );
};
socket.onmessage = (event) => {
  const message = JSON.parse(event.data);
  switch (message.type) {
    case 'token':
      seen.push('Token: ' + message.payload.content);
      break;
    case 'progress':
      seen.push('Progress: ' + message.payload.progress + '%');
      break;
    case 'event':
      seen.push('Event: ' + message.payload.tool);
      break;
  }
};
</script>"""

STREAM_PAGE = """<!doctype html><script>
const seen = [];
const names = [];
const source = new EventSource('/executions/exec-1/stream');
const note = (event) => { names.push(event.type); seen.push(JSON.parse(event.data).metadata.sequence_number); };
for (const name of ['workflow_start', 'token', 'workflow_complete']) source.addEventListener(name, note);
let ended = 0;
source.addEventListener('end', () => { ended += 1; });
</script>"""


def with_pages(hub: StreamHub, gateway: Gateway) -> FastAPI:
    app = make_app(hub, gateway)
    app.add_api_route("/seed", lambda: HTMLResponse(SEED_PAGE))
    app.add_api_route("/stream-page", lambda: HTMLResponse(STREAM_PAGE))
    return app


@pytest.mark.browser
@pytest.mark.row("HIVE-71")
async def test_a_browsers_own_web_socket() -> None:
    hub = StreamHub()
    gateway = Gateway(hub)
    with serve(with_pages(hub, gateway)) as server:
        async with chromium_page() as page:
            await page.goto(f"{server.url}/seed")
            async with asyncio.timeout(PATIENCE):
                while not hub.statistics().subscriptions:
                    await asyncio.sleep(0.01)
            hub.publish("execution-123", "token", {"content": "Hel"})
            hub.publish("execution-123", "token", {"content": "lo"})
            hub.publish("execution-123", "progress", {"progress": 50})
            hub.publish("execution-123", "tool_start", {"tool": "search"})
            hub.publish("another", "token", {"content": "not for this page"})
            await hub.close("execution-123")
            await page.wait_for_function("seen.length >= 4")
            assert await page.evaluate("seen") == ["Token: Hel", "Token: lo", "Progress: 50%", "Event: search"]


@pytest.mark.browser
@pytest.mark.row("FLOW-45")
async def test_a_browsers_own_event_source_comes_back_and_stops_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.gateway.session.lifecycle._RETRY_MS", (50, 100))
    # Streams end after a while, and lines are cut, so the browser has to come back again and again.
    settings = StreamingSettings.model_validate(
        {"gateway": {"max_stream_duration": 0.6}, "auth": {"enabled": False}}  # a forwarder has another port
    )
    hub = StreamHub(settings)
    gateway = Gateway(hub)
    with serve(with_pages(hub, gateway)) as server:
        async with tcp_proxy(server.port) as proxy, chromium_page() as page:
            responses: list[int] = []
            page.on(
                "response", lambda response: responses.append(response.status) if "/stream" in response.url else None
            )
            await page.goto(f"http://{proxy.host}:{proxy.port}/stream-page")
            for index in range(100):
                hub.publish("exec-1", "token", {"content": f"t{index} "})
                if index in {20, 60}:
                    proxy.reset()
                await asyncio.sleep(0.02)
            await hub.close("exec-1")
            await page.wait_for_function("source.readyState === EventSource.CLOSED", timeout=PATIENCE * 1000)
            assert await page.evaluate("seen") == list(range(1, 103))
            assert await page.evaluate("names") == ["workflow_start", *["token"] * 100, "workflow_complete"]
            assert await page.evaluate("ended") == 1
            assert responses[-1] == 204
            assert responses.count(200) >= 3
