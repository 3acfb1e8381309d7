"""Two gateways on one Redis: what a client of one does, and what is done to it, holds at both."""

import asyncio
import importlib
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import jwt
import pytest

from lg_streaming.hub import fleet as hub_fleet
from tests.gateway.contract.adapters import (
    SOCKETS,
    Readers,
    RefusedError,
    SocketReader,
    first,
    readers_of,
    take,
    until_over,
)
from tests.gateway.site import SECRET, Site, site
from tests.hub.helpers import until
from tests.support.redis_server import RedisServer

importlib.import_module("lg_streaming.log.redis.log")  # it reads files: before that is watched

Open = Callable[..., Site]


@pytest.fixture
def open_gateway(shared_redis: RedisServer, redis_prefix: str) -> Generator[Open]:
    """Starts gateways that share a log."""
    with ExitStack() as stack:

        def start(*, server: RedisServer = shared_redis, **settings: Any) -> Site:
            redis = {"prefix": redis_prefix, "lease": 2.0}
            return stack.enter_context(site(log=server.url, redis=redis, **settings))

        yield start


@pytest.fixture
async def sockets() -> AsyncGenerator[Readers]:
    async with readers_of(SOCKETS["websocket"]) as made:
        yield made


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


def token(subject: str = "alice", **claims: Any) -> str:
    return jwt.encode({"sub": subject, "iat": int(time.time()), "exp": int(time.time()) + 600, **claims}, SECRET)


def bearer(subject: str = "alice", **claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {token(subject, **claims)}"}


async def client(sockets: Readers, place: Site, token: str | None = None) -> SocketReader:
    reader = sockets(place.server, token=token)
    assert isinstance(reader, SocketReader)
    await reader.open()
    return reader


async def refused(sockets: Readers, place: Site, token: str | None = None) -> int:
    with pytest.raises(RefusedError) as raised:
        await client(sockets, place, token)
    return raised.value.code


async def flushed(place: Site) -> None:
    await place.hub.writer.flush()


# ---------------------------------------------------------------- messages and broadcasts
async def test_a_message_finds_its_connection_in_another_process(open_gateway: Open, sockets: Readers) -> None:
    a, b = open_gateway(), open_gateway()
    reader = await client(sockets, a)
    assert not b.gateway.send_to(reader.greeting["connection_id"], "hello", {"n": 1, "odd": {1}})
    message = (await first(reader, "other", "message")).payload
    assert (message["type"], message["data"]) == ("hello", {"n": 1, "odd": [1]})
    assert a.gateway.send_to(reader.greeting["connection_id"], "again")
    assert (await first(reader, "other", "message")).payload["type"] == "again"


async def test_members_of_a_room_get_broadcasts_of_every_process(open_gateway: Open, sockets: Readers) -> None:
    a, b = open_gateway(), open_gateway()
    members = [await client(sockets, place) for place in (a, b)]
    for member in members:
        assert (await member.ask("join_room", {"room_id": "lobby"}))["clients"] == 1
    assert a.gateway.broadcast_to_room("lobby", "note", {"n": 1}) == 1
    await flushed(a)
    assert b.gateway.broadcast_to_room("lobby", "note", {"n": 2}) == 1
    for member in members:
        assert [update["data"]["n"] for update in await take(member, 2)] == [1, 2]


async def test_a_broadcast_joins_the_run_of_another_process(
    open_gateway: Open, sockets: Readers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_fleet, "_FIRST_CHECK", 0.05)
    monkeypatch.setattr(hub_fleet, "_GUEST_INTERVAL", 0.05)
    a, b = open_gateway(), open_gateway()
    a.tokens("e", 1)
    await flushed(a)
    readers = [await client(sockets, place) for place in (a, b)]
    for reader in readers:
        await reader.subscribe("e")
    assert b.gateway.broadcast_to_execution("e", "note", {"n": 1}) == 1
    await flushed(b)
    await a.hub.close("e")
    for reader in readers:
        items = [item for item in await until_over(reader) if item.what == "update"]
        assert [item.payload["type"] for item in items] == ["workflow_start", "token", "note", "workflow_complete"]
    await until(lambda: not b.hub.registry.is_running("e"))


async def test_subscribed_events_come_from_every_process(open_gateway: Open, sockets: Readers) -> None:
    a, b = open_gateway(), open_gateway()
    readers = [await client(sockets, place) for place in (a, b)]
    for reader in readers:
        assert (await reader.ask("subscribe_events", {"events": ["token"]}))["ok"]
    a.tokens("from-a", 1)
    b.tokens("from-b", 1)
    for reader in readers:
        updates = await take(reader, 2)
        assert {update["metadata"]["execution_id"] for update in updates} == {"from-a", "from-b"}


# ---------------------------------------------------------------- control
async def test_a_run_is_answered_and_cancelled_through_another_process(
    open_gateway: Open, http: httpx2.AsyncClient
) -> None:
    a, b = open_gateway(), open_gateway()
    a.hub.publish("e", "human_prompt", {"prompt_id": "p", "prompt": "Go on?", "type": "confirmation"})
    await flushed(a)
    body = {"prompt_id": "p", "response": True}
    answers = await asyncio.gather(*[http.post(f"{place.url}/executions/e/responses", json=body) for place in (a, b)])
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    cancelled = await http.delete(f"{b.url}/executions/e", params={"reason": "enough"})
    assert (cancelled.status_code, cancelled.json()["cancelled"]) == (202, True)
    assert (await http.get(f"{b.url}/executions/e")).json()["state"] == "cancelled"
    assert (await http.delete(f"{b.url}/executions/e")).json()["cancelled"] is False


async def test_lists_and_their_cursors_hold_at_every_gateway(open_gateway: Open, http: httpx2.AsyncClient) -> None:
    a, b = open_gateway(auth={"secret": SECRET}), open_gateway(auth={"secret": SECRET})
    for number in range(6):
        (a, b)[number % 2].hub.open(f"e{number}", owner="alice" if number < 5 else "bob", metadata={"number": number})
    await flushed(a)
    await flushed(b)
    await a.hub.close("e0")
    async with asyncio.timeout(10):
        while len(await a.hub.log.list_ids(owner="alice")) < 5:  # another process's may be missing for a moment
            await asyncio.sleep(0.01)
    found: list[Any] = []
    cursor: str | None = None
    for place in (a, b, a):
        query = {"limit": 2, "owner": "alice", **({"cursor": cursor} if cursor else {})}
        page = (await http.get(f"{place.url}/executions", params=query, headers=bearer())).json()
        found += page["executions"]
        cursor = page["next_cursor"]
    assert [each["execution_id"] for each in found] == ["e0", "e1", "e2", "e3", "e4"]
    assert [each["metadata"]["number"] for each in found] == [0, 1, 2, 3, 4]
    assert [each["state"] for each in found] == ["completed", *["running"] * 4]
    wrong = await http.get(f"{b.url}/executions", params={"cursor": "x"}, headers=bearer())
    assert wrong.status_code == 400


async def test_the_processes_are_listed_for_those_who_may_see_them(
    open_gateway: Open, http: httpx2.AsyncClient, sockets: Readers
) -> None:
    a, b = open_gateway(auth={"secret": SECRET}), open_gateway(auth={"secret": SECRET})
    await client(sockets, a, token())
    a.hub.open("e")
    b.hub.open("f")
    assert (await http.get(f"{a.url}/fleet")).status_code == 401
    assert (await http.get(f"{a.url}/fleet", headers=bearer())).status_code == 403
    grant: Any = {"lg_streaming": [{"executions": ["lg_streaming/fleet"], "actions": ["read"]}]}
    seen: dict[str, Any] = {}
    async with asyncio.timeout(10):
        while seen.get("totals", {}).get("hub", {}).get("running") != 2:
            answer = await http.get(f"{b.url}/fleet", headers=bearer(**grant))
            assert answer.status_code == 200, answer.text
            seen = answer.json()
            await asyncio.sleep(0.05)
    assert len(seen["processes"]) == 2
    assert seen["totals"]["gateway"]["connections"] == 1
    assert {each["process_id"] for each in seen["processes"]} == {
        place.hub.log.fleet.process_id for place in (a, b) if place.hub.log.fleet is not None
    }


# ---------------------------------------------------------------- revocation
async def test_a_revoked_token_ends_at_every_gateway(open_gateway: Open, sockets: Readers) -> None:
    options = {"auth": {"secret": SECRET}, "gateway": {"heartbeat_interval": 0.2}}
    a, b = open_gateway(**options), open_gateway(**options)
    revoked = token(jti="1")
    reader, other = await client(sockets, a, revoked), await client(sockets, a, token(jti="2"))
    b.gateway.policy.revoke(jti="1", expires_at=time.time() + 600)
    assert [item.what for item in await until_over(reader)][-1] == "closed"
    assert reader.close_code == 4010
    assert (await other.ask("ping"))["ok"]
    assert await refused(sockets, b, revoked) == 4010
    fleet = b.hub.log.fleet
    assert fleet is not None
    async with asyncio.timeout(10):
        while not await fleet.values("revoked"):
            await asyncio.sleep(0.01)
    c = open_gateway(**options)  # it was not there when the token was revoked
    assert await refused(sockets, c, revoked) == 4010
    assert (await (await client(sockets, c, token(jti="2"))).ask("ping"))["ok"]


# ---------------------------------------------------------------- limits
async def test_connections_of_a_subject_count_everywhere(open_gateway: Open, sockets: Readers) -> None:
    options = {"auth": {"secret": SECRET}, "limits": {"connections_per_subject": 2}}
    a, b = open_gateway(**options), open_gateway(**options)
    readers = [await client(sockets, place, token()) for place in (a, b)]
    assert await refused(sockets, a, token()) == 4291
    assert await refused(sockets, b, token()) == 4291
    await client(sockets, b, token("bob"))
    await readers[0].aclose()
    async with asyncio.timeout(10):
        while True:
            try:
                await client(sockets, b, token())
            except RefusedError:
                await asyncio.sleep(0.02)
            else:
                break
    assert await refused(sockets, a, token()) == 4291


async def test_a_login_after_the_connection_counts_too(open_gateway: Open) -> None:
    options = {"auth": {"secret": SECRET}, "limits": {"connections_per_subject": 1}}
    a, b = open_gateway(**options), open_gateway(**options)
    async with readers_of(SOCKETS["socketio"]) as sockets:
        await client(sockets, a, token())
        late = await client(sockets, b)
        with pytest.raises(RefusedError) as raised:
            await late.ask("authenticate", {"token": token()})
        assert raised.value.code == 4291
        other = await client(sockets, b)
        assert (await other.ask("authenticate", {"token": token("bob")}))["ok"]


async def test_connections_of_an_address_count_everywhere(open_gateway: Open, sockets: Readers) -> None:
    a, b = [open_gateway(limits={"connections_per_address": 2}) for _ in range(2)]
    for place in (a, b):
        await client(sockets, place)
    assert await refused(sockets, a) == 4291


async def test_rates_of_an_address_hold_everywhere(open_gateway: Open, sockets: Readers) -> None:
    a, b = [open_gateway(limits={"connects_per_address": "2/hour"}) for _ in range(2)]
    for place in (a, b):
        await client(sockets, place)
    assert await refused(sockets, a) == 4292
    assert await refused(sockets, b) == 4292


async def test_failed_logins_of_an_address_count_everywhere(
    open_gateway: Open, sockets: Readers, http: httpx2.AsyncClient
) -> None:
    options = {"auth": {"secret": SECRET}, "limits": {"failed_logins_per_address": "2/hour"}}
    a, b = open_gateway(**options), open_gateway(**options)
    assert (await http.get(f"{a.url}/executions", headers={"Authorization": "Bearer x"})).status_code == 401
    assert (await http.get(f"{b.url}/executions", headers={"Authorization": "Bearer x"})).status_code == 401
    assert (await http.get(f"{a.url}/executions", headers=bearer())).status_code == 429
    assert await refused(sockets, b, token()) == 4292


@contextmanager
def own_redis() -> Generator[RedisServer]:
    server = RedisServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def test_the_limits_of_the_process_decide_while_redis_is_away(
    open_gateway: Open, sockets: Readers, caplog: pytest.LogCaptureFixture
) -> None:
    with own_redis() as server:
        a = open_gateway(server=server, limits={"connections_per_address": 2})
        await client(sockets, a)
        server.kill()
        await client(sockets, a)
        assert await refused(sockets, a) == 4291
        assert len([each for each in caplog.messages if "hold in this process only" in each]) == 1
