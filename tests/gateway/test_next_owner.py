"""An id that another owner uses again: readers of the former run are authorized again before they get an update."""
# pyright: reportPrivateUsage=false

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from starlette.responses import Response

from lg_streaming.gateway import Gateway, Principal, sse_response
from lg_streaming.hub import StreamHub
from lg_streaming.settings import StreamingSettings
from tests.gateway.contract.adapters import (
    PATIENCE,
    READERS,
    SOCKETS,
    Readers,
    SocketReader,
    first,
    readers_of,
    take,
    until_over,
)
from tests.gateway.site import SECRET, Site, make_app, site
from tests.gateway.test_events import bearer
from tests.support.server import serve

SETTINGS: dict[str, Any] = {"auth": {"secret": SECRET}, "gateway": {"heartbeat_interval": 0.05}}


@pytest.fixture(params=READERS)
async def readers(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(READERS[request.param]) as made:
        yield made


async def forget(hub: StreamHub, execution_id: str = "e") -> None:
    """Apply the retention of a day at once."""
    await hub.close(execution_id)
    hub.registry.executions.pop(execution_id)
    await hub.log.drop(execution_id)


async def next_run(hub: StreamHub, owner: str | None, execution_id: str = "e") -> None:
    await forget(hub, execution_id)
    hub.open(execution_id, owner=owner)
    hub.publish(execution_id, "secret", {"text": "secret"})


async def test_the_next_owners_run_is_not_delivered(readers: Readers) -> None:
    with site(**SETTINGS) as place:
        place.hub.open("e", owner="alice")
        place.tokens("e", 2)
        reader = readers(place.server, token=bearer("alice"))
        await reader.subscribe("e", follow=True)
        await take(reader, 3)
        reading = asyncio.create_task(until_over(reader))
        await next_run(place.hub, "bob")
        came = await reading
        assert "secret" not in str(came)
        epoch = (await place.hub.describe("e")).epoch  # pyright: ignore[reportOptionalMemberAccess]
        assert epoch not in str(came)
        if isinstance(reader, SocketReader):
            assert (came[-1].name, came[-1].payload) == ("forbidden", {"execution_id": "e", "reason": "forbidden"})
            assert (await reader.ask("ping"))["ok"]
        else:
            assert [item.payload["code"] for item in came if item.what == "error"] == [4030]


async def test_the_same_owners_next_run_and_one_that_is_allowed_go_on(readers: Readers) -> None:
    asked: list[str | None] = []

    def authorize(_: Principal, __: str, execution_id: str, owner: str | None) -> bool:
        asked.append(owner)
        return execution_id == "e"

    with site(**SETTINGS, authorize=authorize) as place:
        place.hub.open("e", owner="alice")
        place.tokens("e", 2)
        reader = readers(place.server, token=bearer("alice"))
        await reader.subscribe("e", follow=True)
        await take(reader, 3)
        await next_run(place.hub, "alice")
        assert [update["type"] for update in await take(reader, 2)][-1] == "secret"
        assert asked == []
        await next_run(place.hub, "bob")
        assert [update["type"] for update in await take(reader, 2)][-1] == "secret"
        assert "bob" in asked


async def test_an_execution_that_gets_an_owner_while_it_is_read(readers: Readers) -> None:
    def authorize(_: Principal, __: str, ___: str, owner: str | None) -> bool:
        return owner is None

    with site(**SETTINGS, authorize=authorize) as place:
        place.tokens("e", 2)
        reader = readers(place.server, token=bearer("alice"))
        await reader.subscribe("e", follow=True)
        await take(reader, 3)
        reading = asyncio.create_task(until_over(reader))
        place.hub.open("e", owner="bob")
        place.hub.publish("e", "secret", {"text": "secret"})
        assert "secret" not in str(await reading)


async def test_an_execution_that_was_awaited_and_becomes_another_ones(readers: Readers) -> None:
    def authorize(_: Principal, __: str, ___: str, owner: str | None) -> bool:
        return owner is None

    with site(**SETTINGS, authorize=authorize) as place:
        reader = readers(place.server, token=bearer("alice"))
        assert (await reader.subscribe("e", follow=True))["state"] == "unknown"
        reading = asyncio.create_task(until_over(reader))
        place.hub.open("e", owner="bob")
        place.hub.publish("e", "secret", {"text": "secret"})
        assert "secret" not in str(await reading)


@pytest.mark.parametrize("kind", SOCKETS)
async def test_who_follows_many_gets_none_of_the_next_owners_run(kind: str) -> None:
    with site(**SETTINGS) as place:
        async with readers_of(SOCKETS[kind]) as readers:
            reader = readers(place.server, token=bearer("alice"))
            assert isinstance(reader, SocketReader)
            await reader.ask("subscribe_events")
            place.hub.open("e", owner="alice")
            place.tokens("e", 1)
            await take(reader, 2)
            await next_run(place.hub, "bob")
            place.hub.open("f", owner="alice")
            place.hub.publish("f", "mine")
            found: list[Any] = []
            while "mine" not in str(found):
                found += await take(reader, 1)
            assert "secret" not in str(found)


async def test_who_the_application_let_in_is_let_in_to_that_owners_run() -> None:
    hub = StreamHub(StreamingSettings(**SETTINGS))
    gateway = Gateway(hub)
    app: FastAPI = make_app(hub, gateway)

    async def mine() -> Response:
        return sse_response(hub, "e", follow=True)

    app.add_api_route("/mine", mine, response_model=None)
    with serve(app, log_config=None) as server:
        place = Site(hub=hub, gateway=gateway, server=server)
        async with httpx2.AsyncClient(timeout=PATIENCE) as http, http.stream("GET", f"{server.url}/mine") as answer:
            lines = answer.aiter_lines()
            place.hub.open("e", owner="alice")  # it was awaited, and is the first
            place.hub.publish("e", "first")
            while "first" not in await anext(lines):
                pass
            await next_run(place.hub, "bob")
            rest = [line async for line in lines]
        assert "secret" not in str(rest)
        assert "4030" in str(rest)


async def test_a_room_that_ends_and_begins_anew_goes_on_for_those_who_may_be_there() -> None:
    with site() as place:
        async with readers_of(SOCKETS["websocket"]) as readers:
            reader = readers(place.server)
            assert isinstance(reader, SocketReader)
            await reader.ask("join_room", {"room_id": "r"})
            place.gateway.broadcast_to_room("r", "one")
            await first(reader, "update", "event")
            await forget(place.hub, "room:r")
            place.gateway.broadcast_to_room("r", "two")
            assert (await first(reader, "update", "event")).payload["type"] == "two"
