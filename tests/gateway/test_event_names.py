"""Names of an update's event, on every transport."""

import json
from collections.abc import Generator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from websockets.asyncio.client import connect

from lg_streaming import StreamHub, sse_response
from lg_streaming.errors import BadRequestError
from tests.gateway.site import Site, raw_client, site
from tests.gateway.sse import EventSource
from tests.support.server import serve

TYPES = ["node_start", "token", "my:own", 'with "quotes"', "gap", "connect", "reply", "progress"]
KINDS = ["event", "token", "event", "event", "event", "event", "event", "progress"]
TAKEN = {"gap", "connect", "reply"}
MESSAGE_TYPES = [kind if type_ in TAKEN else type_ for type_, kind in zip(TYPES, KINDS, strict=True)]


@pytest.fixture
def place() -> Generator[Site]:
    with site() as running:
        running.hub.open("e")
        for type_ in TYPES:
            if type_ != "gap":
                running.hub.publish("e", type_, {"content": "x", "progress": 1.0})
            else:
                running.hub.publish("e", "message", {"content": "x"})
        yield running


def sent(names: list[str]) -> list[str]:
    """`gap` is the hub's own type; `message` is its name, as of messages to a connection."""
    return ["message" if name == "gap" else name for name in names]


async def _sse(place: Site, **params: str) -> list[str]:
    async with httpx2.AsyncClient(timeout=10) as http:
        source = EventSource(http, f"{place.url}/executions/e/stream", params=params)
        async with source.open() as events:
            return [(await anext(events)).type for _ in range(len(TYPES) + 1)][1:]


@pytest.mark.parametrize(
    ("params", "names"),
    [
        ({}, sent(TYPES)),
        ({"event": "type"}, sent(TYPES)),
        ({"event": "kind"}, KINDS),
        ({"named": "false"}, ["message"] * 8),
    ],
)
async def test_event_streams(place: Site, params: dict[str, str], names: list[str]) -> None:
    assert await _sse(place, **params) == names


@pytest.mark.parametrize(
    ("options", "names"), [({}, KINDS), ({"event": "kind"}, KINDS), ({"event": "type"}, MESSAGE_TYPES)]
)
@pytest.mark.parametrize("message", ["subscribe_execution", "subscribe_events"])
async def test_web_sockets(place: Site, options: dict[str, str], names: list[str], message: str) -> None:
    async with connect(f"{place.server.ws_url}/ws") as socket:
        payload = {"execution_id": "e"} if message == "subscribe_execution" else {"executions": ["e"]}
        await socket.send(json.dumps({"type": message, "payload": {**payload, **options}}))
        while json.loads(await socket.recv())["type"] != "reply":
            pass
        if message == "subscribe_events":
            _publish_again(place)
        got: list[Any] = []
        while len(got) < len(TYPES):
            update = json.loads(await socket.recv())
            if update["payload"]["metadata"]["type"] != "workflow_start":
                got.append(update)
        assert [update["type"] for update in got] == names
        assert [update["payload"]["metadata"]["type"] for update in got] == sent(TYPES)


def _publish_again(place: Site) -> None:
    for type_ in sent(TYPES):
        place.hub.publish("e", type_, {"content": "x", "progress": 2.0})


@pytest.mark.parametrize(
    ("options", "names"), [({}, KINDS), ({"event": "kind"}, KINDS), ({"event": "type"}, MESSAGE_TYPES)]
)
async def test_socket_io(place: Site, options: dict[str, str], names: list[str]) -> None:
    async with raw_client(place) as client:
        await client.ask("subscribe_execution", {"execution_id": "e", "events": ["**", "*"], **options})
        got: list[Any] = []
        while len(got) < len(TYPES):
            name, update = json.loads((await client.until("42"))[2:])
            if update["type"] != "workflow_start":
                got.append((name, update["type"]))
        assert got == list(zip(names, sent(TYPES), strict=True))


async def test_two_readers_of_one_execution_get_each_what_they_asked_for(place: Site) -> None:
    async with connect(f"{place.server.ws_url}/ws") as first, connect(f"{place.server.ws_url}/ws") as second:
        for socket, event in ((first, "kind"), (second, "type")):
            payload = {"execution_id": "e", "event": event, "events": ["node_start"]}
            await socket.send(json.dumps({"type": "subscribe_execution", "payload": payload}))
        found: list[str] = []
        for socket in (first, second):
            while (name := json.loads(await socket.recv())["type"]) in {"connection_status", "reply"}:
                pass
            found.append(name)
        assert found == ["event", "node_start"]


@pytest.mark.parametrize(
    ("query", "word"),
    [("event=token", "event"), ("event=kind&named=false", "named"), ("event=kind&dialect=flowise", "dialect")],
)
async def test_what_does_not_go_together_is_refused(place: Site, query: str, word: str) -> None:
    async with httpx2.AsyncClient() as http:
        answer = await http.get(f"{place.url}/executions/e/stream?{query}")
    assert answer.status_code == 400
    assert word in answer.json()["error"]["message"]


async def test_a_route_of_ones_own_names_events_too() -> None:
    hub, app = StreamHub(), FastAPI()
    hub.open("e")
    hub.publish("e", "node_start", {})
    await hub.close("e")

    @app.get("/own")
    async def own(kind: bool = False) -> Any:
        return sse_response(hub, "e", event="kind") if kind else sse_response(hub, "e")

    with serve(app) as server:
        async with httpx2.AsyncClient(timeout=10) as http:
            wanted: dict[str, list[str]] = {"0": ["workflow_start", "node_start"], "1": ["status", "event"]}
            for kind, names in wanted.items():
                async with EventSource(http, f"{server.url}/own", params={"kind": kind}).open() as events:
                    assert [event.type async for event in events][:2] == names
    with pytest.raises(BadRequestError, match="named"):
        sse_response(hub, "e", event="kind", named=False)
    await hub.aclose()
