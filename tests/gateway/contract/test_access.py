"""Rules of access and limits are the same over every transport."""

import asyncio
import time
from collections.abc import Callable, Generator
from typing import Any

import jwt
import pytest

from lg_streaming.gateway import Principal
from tests.gateway.contract.adapters import (
    PATIENCE,
    READERS,
    SOCKETS,
    Readers,
    RefusedError,
    SocketReader,
    first,
    numbers,
    readers_of,
    take,
    until_over,
    updates_in,
)
from tests.gateway.site import SECRET, Site, site

AUTH: dict[str, Any] = {"secret": SECRET, "leeway": 0}


def bearer(subject: str = "alice", *, lifetime: float = 600, key: str = SECRET, **claims: Any) -> str:
    return jwt.encode({"sub": subject, "exp": int(time.time() + lifetime), **claims}, key, "HS256")


def granting(glob: str, action: str = "read") -> dict[str, Any]:
    return {"lg_streaming": [{"actions": [action], "executions": [glob]}]}


async def auditor(principal: Principal, _: str, execution_id: str, __: str | None) -> bool:
    return principal.subject == "auditor" and execution_id != "hidden"


async def anybody(_: Principal, __: str, ___: str, ____: str | None) -> bool:
    return True


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    """A server that wants tokens; `his` is alice's, `acme/run-1` and `hidden` are bob's."""
    with site(
        auth=AUTH,
        authorize=auditor,
        limits={"messages_per_second": None},
        gateway={"cors_origins": ("https://app.example.com",)},
    ) as running:
        running.hub.open("his", owner="alice")
        running.hub.open("acme/run-1", owner="bob")
        running.hub.open("hidden", owner="bob")
        yield running


async def refusal(readers: Readers, place: Site, execution_id: str = "his", **options: Any) -> RefusedError:
    with pytest.raises(RefusedError) as refused:
        await readers(place.server, **options).subscribe(execution_id)
    return refused.value


# ---------------------------------------------------------------- coming in
BAD_TOKENS: dict[str, Callable[[], str]] = {
    "nonsense": lambda: "x.y.z",
    "another key": lambda: bearer(key="another secret of at least thirty-two bytes"),
    "no subject": lambda: jwt.encode({"exp": int(time.time()) + 60}, SECRET, "HS256"),
    "no end": lambda: jwt.encode({"sub": "alice"}, SECRET, "HS256"),
    "another algorithm": lambda: jwt.encode({"sub": "alice", "exp": int(time.time()) + 60}, SECRET * 2, "HS512"),
}


@pytest.mark.row("FLOW-08")
@pytest.mark.parametrize("forge", BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
async def test_a_bad_token_is_refused(place: Site, readers: Readers, forge: Callable[[], str]) -> None:
    refused = await refusal(readers, place, token=forge())
    assert (refused.code, refused.error["retryable"], refused.status) == (4010, False, refused.status)
    assert refused.status in {None, 401}


async def test_an_expired_token_is_refused_by_its_own_code(place: Site, readers: Readers) -> None:
    refused = await refusal(readers, place, token=bearer(lifetime=-60))
    assert (refused.code, refused.error["retryable"]) == (4011, True)


@pytest.mark.row("FLOW-08", "CFLOW-D4")
async def test_without_a_token_nothing_can_be_read(place: Site, readers: Readers) -> None:
    assert (await refusal(readers, place)).code == 4010


async def test_a_cookie_counts_for_our_own_pages_and_listed_ones(place: Site, readers: Readers) -> None:
    cookie = {"Cookie": f"lg_streaming_token={bearer()}"}
    for headers in (cookie, {**cookie, "Origin": "https://app.example.com"}, {**cookie, "Origin": place.url}):
        assert (await readers(place.server, headers=headers).subscribe("his"))["ok"]


@pytest.mark.parametrize("origin", ["https://evil.example.com", "null", "https://app.example.com.evil.com"])
async def test_pages_from_elsewhere_are_refused(place: Site, readers: Readers, origin: str) -> None:
    refused = await refusal(readers, place, token=bearer(), headers={"Origin": origin})
    assert (refused.code, refused.status) in {(4031, None), (4031, 403)}


# ---------------------------------------------------------------- reading
@pytest.mark.parametrize(
    ("execution_id", "subject", "claims"),
    [
        ("his", "alice", {}),
        ("acme/run-1", "alice", granting("acme/*")),
        ("hidden", "alice", granting("**")),
        ("his", "auditor", {}),
        ("nothing-yet", "auditor", {}),
    ],
)
async def test_the_owner_the_granted_and_the_authorized_may_read(
    place: Site, readers: Readers, execution_id: str, subject: str, claims: dict[str, Any]
) -> None:
    assert (await readers(place.server, token=bearer(subject, **claims)).subscribe(execution_id))["ok"]


@pytest.mark.row("FLOW-D12", "PYEV-D7")
@pytest.mark.parametrize(
    ("execution_id", "subject", "claims"),
    [
        ("his", "bob", {}),
        ("acme/run-1", "alice", granting("acme")),
        ("acme/run-1", "alice", granting("*")),
        ("acme/run-1", "alice", granting("acme/*", "control")),
        ("hidden", "auditor", {}),
    ],
)
async def test_others_get_the_answer_that_unknown_executions_get(
    place: Site, readers: Readers, execution_id: str, subject: str, claims: dict[str, Any]
) -> None:
    token = bearer("mallory" if subject == "alice" else subject, **claims)
    forbidden = await refusal(readers, place, execution_id, token=token)
    unknown = await refusal(readers, place, "hidden" if subject == "auditor" else "never/was", token=token)
    assert forbidden.code == 4030
    assert {**forbidden.error, "execution_id": ""} == {**unknown.error, "execution_id": ""}
    assert forbidden.status == unknown.status


async def test_a_position_gives_nothing_to_who_may_not_read(place: Site, readers: Readers) -> None:
    state = await place.hub.describe("hidden")
    assert state is not None
    for after in ("latest", f"{state.epoch}:1", "other:9"):
        with pytest.raises(RefusedError) as refused:
            await readers(place.server, token=bearer()).subscribe("hidden", after=after)
        assert refused.value.code == 4030


# ---------------------------------------------------------------- the end of a token
async def test_delivery_stops_when_the_token_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token lasts for whole seconds, so the transports wait for its end together."""
    monkeypatch.setattr("lg_streaming.gateway.transports.connection._EXPIRY_GRACE", 1.0)
    async with asyncio.TaskGroup() as group:
        for transport in READERS:
            group.create_task(_delivery_stops(transport))


async def _delivery_stops(transport: str) -> None:
    async with readers_of(READERS[transport]) as readers:
        with site(auth=AUTH) as place:
            place.hub.open("e", owner="alice")
            ends = int(time.time() + 2)
            reader = readers(place.server, token=bearer(lifetime=ends - time.time() + 0.5))
            await reader.subscribe("e")
            await take(reader, 1)
            async with asyncio.timeout(PATIENCE):
                while time.time() < ends + 0.2:
                    await asyncio.sleep(0.02)
            place.tokens("e", 5)
            items = await until_over(reader)
            assert updates_in(items) == [], transport
            assert [item.payload["code"] for item in items if item.what == "error"] == [4011], transport
            assert items[-1].what == "closed", transport
            assert reader.close_code in {None, 4011}, transport


async def test_a_fresh_token_goes_on_without_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.gateway.session.timers._EXPIRY_WARNING", 0.3)
    async with asyncio.TaskGroup() as group:
        for transport in SOCKETS:
            group.create_task(_goes_on(transport))


async def _goes_on(transport: str) -> None:
    async with readers_of(SOCKETS[transport]) as sockets:
        with site(auth=AUTH) as place:
            execution_id = f"e-{transport}"  # on a log that the servers may share
            place.hub.open(execution_id, owner="alice")
            reader = sockets(place.server, token=bearer(lifetime=2))
            assert isinstance(reader, SocketReader)
            await reader.subscribe(execution_id, follow=True)
            assert numbers(await take(reader, 1)) == [1]
            assert (await first(reader, "other", "auth_expiring")).payload["in_s"] <= 0.3
            ended = time.time() + 1.2
            sent = 0
            while time.time() < ended:
                place.tokens(execution_id, 1, start=sent)
                sent += 1
                await asyncio.sleep(0.005)
            assert (await reader.ask("authenticate", {"token": bearer()}))["expires_in_s"] > 500
            assert numbers(await take(reader, sent)) == list(range(2, sent + 2))


async def test_a_late_login(sockets: Readers) -> None:
    with site(auth=AUTH, limits={"login_timeout": 5}) as place:
        place.hub.open("e", owner="alice")
        reader = sockets(place.server)
        assert isinstance(reader, SocketReader)
        await reader.open()
        assert reader.greeting["status"] == "authentication_required"
        assert reader.greeting["login_timeout_s"] == 5
        assert (await reader.ask("ping"))["ok"]
        assert (await reader.ask("authenticate", {"token": bearer()}))["expires_in_s"] > 500
        assert (await reader.subscribe("e"))["ok"]
        other = sockets(place.server)
        with pytest.raises(RefusedError) as refused:
            await other.subscribe("e")
        assert refused.value.code == 4010
        assert [item.name for item in await until_over(other)][-1] == "4010"


async def test_a_login_that_never_comes(sockets: Readers) -> None:
    with site(auth=AUTH, limits={"login_timeout": 0.2}) as place:
        reader = sockets(place.server)
        assert isinstance(reader, SocketReader)
        await reader.open()
        assert [item.name for item in await until_over(reader)][-1] == "4080"


# ---------------------------------------------------------------- limits
@pytest.mark.row("FLOW-01")
@pytest.mark.row("HIVE-10")
async def test_one_connection_too_many_is_refused_and_the_others_stay(lasting: Readers) -> None:
    with site(limits={"connections": 2}) as place:
        place.hub.open("e")
        kept = [lasting(place.server) for _ in range(2)]
        for reader in kept:
            await reader.subscribe("e")
        refused = await refusal(lasting, place, "e")
        assert (refused.code, refused.status) in {(4291, None), (4291, 503)}
        assert refused.error["retryable"]
        assert refused.error["retry_after_ms"] > 0
        place.tokens("e", 1)
        for reader in kept:
            assert numbers(await take(reader, 2)) == [1, 2]
        await kept[0].aclose()
        async with asyncio.timeout(PATIENCE):
            while place.gateway.connections > 1:
                await asyncio.sleep(0.01)
        assert (await lasting(place.server).subscribe("e"))["ok"]


async def test_connections_of_one_subject(lasting: Readers) -> None:
    with site(auth=AUTH, limits={"connections_per_subject": 1}, authorize=anybody) as place:
        assert (await lasting(place.server, token=bearer()).subscribe("e"))["ok"]
        refused = await refusal(lasting, place, "e", token=bearer())
        assert (refused.code, refused.status) in {(4291, None), (4291, 429)}
        assert (await lasting(place.server, token=bearer("bob")).subscribe("e"))["ok"]


async def test_connections_of_one_address(lasting: Readers) -> None:
    with site(limits={"connections_per_address": 1}) as place:
        assert (await lasting(place.server).subscribe("e"))["ok"]
        refused = await refusal(lasting, place, "e")
        assert (refused.code, refused.status) in {(4291, None), (4291, 429)}


async def test_connecting_too_often(lasting: Readers) -> None:
    with site(limits={"connects_per_address": "3/hour"}) as place:
        for _ in range(3):
            assert (await lasting(place.server).subscribe("e"))["ok"]
        refused = await refusal(lasting, place, "e")
        assert (refused.code, refused.status) in {(4292, None), (4292, 429)}
        assert refused.error["retry_after_ms"] >= 1_000


async def test_failing_to_log_in_too_often(readers: Readers) -> None:
    with site(auth=AUTH, limits={"failed_logins_per_address": "2/hour"}, authorize=anybody) as place:
        for _ in range(2):
            assert (await refusal(readers, place, "e", token="x.y.z")).code == 4010
        assert (await refusal(readers, place, "e", token=bearer())).code == 4292


async def test_lasting_of_one_execution(lasting: Readers) -> None:
    with site(limits={"max_subscribers_per_execution": 1}) as place:
        assert (await lasting(place.server).subscribe("e"))["ok"]
        refused = await refusal(lasting, place, "e")
        assert (refused.code, refused.error["retryable"]) == (4294, True)
        assert refused.status in {None, 429}


async def test_subscriptions_of_one_connection(sockets: Readers) -> None:
    with site(limits={"subscriptions_per_connection": 2}) as place:
        reader = sockets(place.server)
        assert isinstance(reader, SocketReader)
        for execution_id in ("a", "b", "a"):
            await reader.subscribe(execution_id)
        with pytest.raises(RefusedError) as refused:
            await reader.subscribe("c")
        assert refused.value.code == 4290
        await reader.ask("unsubscribe_execution", {"execution_id": "a"})
        assert (await reader.subscribe("c"))["ok"]


async def test_messages_that_come_too_fast(sockets: Readers) -> None:
    with site(limits={"messages_per_second": 1, "message_burst": 3}) as place:
        reader = sockets(place.server)
        assert isinstance(reader, SocketReader)
        for _ in range(3):
            assert (await reader.ask("ping"))["ok"]
        for _ in range(3):
            with pytest.raises(RefusedError) as refused:
                await reader.ask("ping")
            assert refused.value.code == 4293
            assert 0 < refused.value.error["retry_after_ms"] <= 1_000
        assert [item.name for item in await until_over(reader)][-1] == "4293"
