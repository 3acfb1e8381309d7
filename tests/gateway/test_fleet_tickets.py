"""Tickets and cursors of one process, used at another: over a real Redis."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack
from datetime import UTC, datetime

import httpx2
import pytest

from lg_streaming import StreamHub, StreamingSettings
from lg_streaming.errors import BadRequestError, LogUnavailableError, UnauthorizedError
from lg_streaming.gateway import Gateway
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.gateway.auth.principal import Grant, Principal
from lg_streaming.gateway.http.executions import Cursors
from lg_streaming.log.redis import RedisLog
from lg_streaming.settings import AuthSettings
from tests.gateway.site import make_app
from tests.gateway.tokens import SECRET, peer, token
from tests.support.redis_server import RedisServer, redis_server
from tests.support.server import Server, serve

ALICE = Principal(
    subject="alice",
    grants=(Grant(actions=frozenset({"read"}), executions=("acme/*",)),),
    claims={"sub": "alice", "exp": 4_000_000_000, "team": ["a", "b"]},
    expires_at=4_000_000_000.0,
)


@pytest.fixture(scope="module")
def redis() -> Generator[RedisServer]:
    with redis_server() as server:
        yield server


MakeLog = Callable[[], RedisLog]


@pytest.fixture
async def make_log(redis: RedisServer) -> AsyncGenerator[MakeLog]:
    """Makes logs, one for each process, and closes them."""
    made: list[RedisLog] = []

    def make() -> RedisLog:
        made.append(RedisLog(redis.url))
        return made[-1]

    yield make
    for log in made:
        await log.aclose()


def policy(log: RedisLog) -> Policy:
    return Policy(AuthSettings.model_validate({"secret": SECRET}), fleet=log.fleet)


async def test_a_ticket_of_an_application_holds_its_claims_as_plain_json(make_log: MakeLog) -> None:
    one, other = make_log(), make_log()
    when = datetime(2026, 11, 29, tzinfo=UTC)
    holder = Principal(subject="alice", claims={"since": when, "teams": {"a"}, "row": object()}, source="application")
    ticket, _ = await policy(one).issue_ticket(holder)
    found = await policy(other).authenticate(peer(), ticket=ticket)
    assert (found.subject, found.source) == ("alice", "ticket")
    assert found.claims["since"] == when.isoformat()
    assert found.claims["teams"] == ["a"]


async def test_a_ticket_is_good_once_in_the_whole_fleet(make_log: MakeLog) -> None:
    one, other = make_log(), make_log()
    here, there = policy(one), policy(other)
    ticket, expires_in = await here.issue_ticket(ALICE)
    assert 0 < expires_in <= 30
    assert (await there.use_ticket(ticket)).holder() == ALICE
    for each in (here, there, here):
        with pytest.raises(UnauthorizedError, match="one use"):
            (await each.use_ticket(ticket)).holder()
    own, _ = await here.issue_ticket(ALICE, execution_id="acme/1")
    assert (await here.use_ticket(own)).holder().restricted_to == "acme/1"


async def test_of_many_who_use_a_ticket_at_one_time_one_gets_it(make_log: MakeLog) -> None:
    logs = [make_log() for _ in range(3)]
    fleet = [policy(log) for log in logs]
    ticket, _ = await fleet[0].issue_ticket(ALICE)
    used = await asyncio.gather(*(each.use_ticket(ticket) for each in fleet * 5))
    assert [each.principal for each in used].count(ALICE) == 1


async def test_redis_has_no_ticket_and_keeps_none_for_long(redis: RedisServer, make_log: MakeLog) -> None:
    log = make_log()
    ticket, _ = await policy(log).issue_ticket(ALICE)
    names: list[bytes] = await asyncio.to_thread(redis.execute, "KEYS", "*ticket*")
    assert names
    for name in names:
        assert 0 < await asyncio.to_thread(redis.execute, "PTTL", name) <= 30_000
        assert ticket.encode() not in name + await asyncio.to_thread(redis.execute, "DUMP", name)


async def test_the_limits_of_a_subject_void_its_oldest_ticket_everywhere(make_log: MakeLog) -> None:
    one, other = make_log(), make_log()
    here, there = policy(one), policy(other)
    tickets = [(await here.issue_ticket(ALICE))[0] for _ in range(101)]
    assert (await there.use_ticket(tickets[0])).principal is None
    assert (await there.use_ticket(tickets[1])).principal == ALICE


async def test_what_was_never_a_ticket_is_none(make_log: MakeLog) -> None:
    here = policy(make_log())
    for ticket in ("", "x", "x" * 44, "{a}*" + "x" * 39, "é" * 43, "x" * 43):
        assert (await here.use_ticket(ticket)).principal is None


async def test_without_redis_a_ticket_is_refused_as_unavailable() -> None:
    log = RedisLog("redis://127.0.0.1:1")
    with pytest.raises(LogUnavailableError):
        (await policy(log).use_ticket("x" * 43)).holder()
    with pytest.raises(LogUnavailableError):
        await policy(log).issue_ticket(ALICE)
    await log.aclose()


async def test_a_cursor_is_good_at_every_process(make_log: MakeLog) -> None:
    one, other = make_log(), make_log()
    here, there, alone = Cursors(one.fleet), Cursors(other.fleet), Cursors()
    cursor = await here.encode("acme/ключ")
    assert "acme" not in cursor
    assert await here.decode(cursor) == await there.decode(cursor) == "acme/ключ"
    assert await here.decode(await there.encode("x")) == "x"
    assert await here.decode(None) is None
    for wrong in ("", ".", cursor[:-3], "0" * 16 + cursor[16:], await alone.encode("x")):
        with pytest.raises(BadRequestError):
            await there.decode(wrong)
    with pytest.raises(BadRequestError):
        await alone.decode(cursor)


def gateway(redis: RedisServer) -> tuple[StreamHub, Gateway]:
    hub = StreamHub(
        StreamingSettings(log=redis.url, auth=AuthSettings.model_validate({"secret": SECRET})),
    )
    return hub, Gateway(hub)


@pytest.fixture
def servers(redis: RedisServer) -> Generator[list[Server]]:
    with ExitStack() as stack:
        yield [stack.enter_context(serve(make_app(*gateway(redis)))) for _ in range(2)]


async def test_a_ticket_of_one_gateway_opens_a_stream_at_another(make_log: MakeLog, servers: list[Server]) -> None:
    log = make_log()
    hub = StreamHub(log=log)
    for name in ("t/1", "t/2", "t/3"):
        hub.open(name, owner="alice")
        hub.publish(name, "token", {"content": "x"})
        await hub.close(name)
    await hub.writer.flush()
    bearer = {"Authorization": f"Bearer {token(sub='alice')}"}
    async with httpx2.AsyncClient() as http:
        ticket = (await http.post(f"{servers[0].url}/tickets", json={}, headers=bearer)).json()["ticket"]
        address = f"{servers[1].url}/executions/t/1/stream?ticket={ticket}"
        stream = await http.get(address)
        assert stream.status_code == 200
        assert "event: end" in stream.text
        assert (await http.get(address)).status_code == 401
        found: list[str] = []
        cursor: str | None = None
        for turn in range(3):
            page = await http.get(
                f"{servers[turn % 2].url}/executions",
                params={"limit": "1", **({"cursor": cursor} if cursor is not None else {})},
                headers=bearer,
            )
            found += [each["execution_id"] for each in page.json()["executions"]]
            cursor = page.json()["next_cursor"]
        assert found == ["t/1", "t/2", "t/3"]
    await hub.aclose()
