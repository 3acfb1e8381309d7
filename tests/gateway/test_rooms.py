"""Rooms, and messages of the server to one client, to an execution, to a room."""

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import jwt
import pytest
from fastapi import FastAPI

from lg_streaming import StreamingModule
from lg_streaming.errors import BadRequestError, StreamingConfigError, UpdateTooLargeError
from tests.gateway.contract.adapters import (
    PATIENCE,
    READERS,
    SOCKETS,
    Readers,
    RefusedError,
    SocketReader,
    first,
    readers_of,
    take,
)
from tests.gateway.site import SECRET, Site, site


@pytest.fixture(params=SOCKETS)
async def readers(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(READERS[request.param]) as made:
        yield made


async def client(readers: Readers, place: Site, token: str | None = None) -> SocketReader:
    reader = readers(place.server, token=token)
    assert isinstance(reader, SocketReader)
    await reader.open()
    return reader


async def members(place: Site, room_id: str, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while place.gateway._context.rooms.members(room_id) != count:  # pyright: ignore[reportPrivateUsage]
            await asyncio.sleep(0.01)


@pytest.mark.row("HIVE-65")
async def test_members_hear_what_is_broadcast_from_then_on(readers: Readers) -> None:
    with site() as place:
        first_client, second, outsider = [await client(readers, place) for _ in range(3)]
        assert place.gateway.broadcast_to_room("lobby", "note", {"n": 0}) == 0
        assert await first_client.ask("join_room", {"room_id": "lobby"}) == {
            "ok": True,
            "room_id": "lobby",
            "clients": 1,
        }
        assert (await second.ask("join_room", {"roomId": "lobby"}))["clients"] == 2
        assert (await second.ask("join_room", {"roomId": "lobby"}))["clients"] == 2
        assert place.gateway.broadcast_to_room("lobby", "note", {"n": 1}) == 2
        for reader in (first_client, second):
            (update,) = await take(reader, 1)
            assert (update["type"], update["data"]) == ("note", {"n": 1})
            assert update["metadata"]["execution_id"] == "room:lobby"
        assert (await second.ask("leave_room", {"room_id": "lobby"}))["clients"] == 1
        assert place.gateway.broadcast_to_room("lobby", "note", {"n": 2}) == 1
        assert (await take(first_client, 1))[0]["data"] == {"n": 2}
        for reader in (second, outsider):
            assert (await reader.ask("ping"))["ok"]
            assert not reader.kept


@pytest.mark.row("HIVE-65")
async def test_an_empty_room_is_forgotten(readers: Readers) -> None:
    with site() as place:
        sizes = place.gateway._context.rooms.sizes  # pyright: ignore[reportPrivateUsage]
        reader = await client(readers, place)
        for room_id in ("a", "b", "c"):
            await reader.ask("join_room", {"room_id": room_id})
        assert sizes() == {"a": 1, "b": 1, "c": 1}
        assert (await reader.ask("leave_room", {"room_id": "a"}))["clients"] == 0
        assert (await reader.ask("leave_room", {"room_id": "a"}))["clients"] == 0
        await reader.ask("unsubscribe_execution", {"execution_id": "room:b"})
        assert sizes() == {"c": 1}
        await reader.aclose()
        await members(place, "c", 0)
        assert sizes() == {}
        assert place.hub.statistics().subscriptions == 0


async def test_joining_takes_the_place_of_watching_the_rooms_execution(readers: Readers) -> None:
    with site() as place:
        reader = await client(readers, place)
        await reader.subscribe("room:x")
        assert (await reader.ask("leave_room", {"room_id": "x"}))["ok"]
        assert len((await reader.ask("get_status"))["subscriptions"]) == 1
        assert (await reader.ask("join_room", {"room_id": "x"}))["clients"] == 1
        assert place.gateway.broadcast_to_room("x", "note", 1) == 1
        assert (await take(reader, 1))[0]["type"] == "note"
        assert (await reader.ask("ping"))["ok"]
        assert not reader.kept


@pytest.mark.row("HIVE-65")
async def test_who_may_not_read_it_may_not_join(readers: Readers) -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("room:his", owner="alice")
        granted: dict[str, Any] = {"lg_streaming": [{"actions": ["read"], "executions": ["room:open-*"]}]}
        for subject, room_id, passes in (
            ("alice", "his", True),
            ("bob", "his", False),
            ("bob", "open-1", True),
            ("bob", "nothing", False),
        ):
            claims = granted if subject == "bob" else {}
            token = jwt.encode({"sub": subject, "exp": int(time.time()) + 60, **claims}, SECRET, "HS256")
            reader = await client(readers, place, token)
            if passes:
                assert (await reader.ask("join_room", {"room_id": room_id}))["clients"] == 1
                continue
            with pytest.raises(RefusedError) as refused:
                await reader.ask("join_room", {"room_id": room_id})
            assert refused.value.code == 4030
            assert place.gateway.broadcast_to_room(room_id, "note") == (1 if room_id == "his" else 0)


async def test_a_room_that_was_ended_begins_anew_with_the_next_broadcast(readers: Readers) -> None:
    with site() as place:
        reader = await client(readers, place)
        await reader.ask("join_room", {"room_id": "x"})
        for number in range(3):
            assert place.gateway.broadcast_to_room("x", "note", number) == 1
            assert (await take(reader, 1))[0]["type"] == "note"
            await place.hub.close("room:x")


# ---------------------------------------------------------------- one client
@pytest.mark.row("HIVE-64")
@pytest.mark.row("CFLOW-06")
async def test_one_client_alone_is_told(readers: Readers) -> None:
    with site() as place:
        reader, other = [await client(readers, place) for _ in range(2)]
        connection_id = reader.greeting["connection_id"]
        assert place.gateway.send_to(connection_id, "hello", {"n": 1, "odd": {1, 2}, "when": time})
        told = (await first(reader, "other", "message")).payload
        assert told.keys() == {"type", "data", "timestamp"}
        assert (told["type"], told["data"]["n"], sorted(told["data"]["odd"])) == ("hello", 1, [1, 2])
        assert (await other.ask("ping"))["ok"]
        assert not other.kept
        assert not place.gateway.send_to("nobody", "hello")
        with pytest.raises(BadRequestError):
            place.gateway.send_to(connection_id, "")
        with pytest.raises(UpdateTooLargeError):
            place.gateway.send_to(connection_id, "big", "x" * 300_000)
        await reader.aclose()
        async with asyncio.timeout(PATIENCE):
            while place.gateway.send_to(connection_id, "hello"):
                await asyncio.sleep(0.01)
    assert not place.gateway.send_to(other.greeting["connection_id"], "hello")


@pytest.mark.row("HIVE-64")
@pytest.mark.row("CFLOW-06")
async def test_who_watches_an_execution_is_told_in_its_order() -> None:
    with site() as place:
        place.tokens("e", 1)
        async with readers_of(READERS["sse"]) as streams, readers_of(SOCKETS["websocket"]) as sockets:
            watching = [streams(place.server), sockets(place.server)]
            for reader in watching:
                await reader.subscribe("e")
                await take(reader, 2)
            await sockets(place.server).subscribe("other")
            assert place.gateway.broadcast_to_execution("e", "workflow_update", {"n": 1}) == 2
            place.tokens("e", 1)
            for reader in watching:
                assert [update["type"] for update in await take(reader, 2)] == ["workflow_update", "token"]
            assert place.gateway.broadcast_to_execution("nobody", "note") == 0
            await place.hub.close("e")
            assert place.gateway.broadcast_to_execution("e", "note") == 0
            with pytest.raises(BadRequestError):
                place.gateway.broadcast_to_execution("a b", "note")
            with pytest.raises(BadRequestError):
                place.gateway.broadcast_to_room("", "note")


def test_a_module_has_a_gateway_once_it_is_installed() -> None:
    streaming = StreamingModule()
    with pytest.raises(StreamingConfigError, match="install"):
        _ = streaming.gateway
    streaming.install(FastAPI())
    assert not streaming.gateway.send_to("nobody", "hint")
    asyncio.run(streaming.aclose())
