"""Tokens that are called back before they expire."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.errors import ForbiddenError, StreamingConfigError, UnauthorizedError
from lg_streaming.gateway.auth.policy import ANONYMOUS, Policy, Principal, Revoked
from lg_streaming.gateway.auth.revocation import Revocations
from lg_streaming.settings import AuthSettings
from tests.gateway.site import raw_client, site
from tests.gateway.tokens import NOW, SECRET, peer, token
from tests.support.server import serve


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def policy(revoked: Revoked | None = None, clock: Clock | None = None) -> Policy:
    settings = AuthSettings.model_validate({"secret": SECRET})
    return Policy(settings, revoked=revoked, clock=clock or Clock(), answer_timeout=0.05)


def holder(subject: str = "alice", **claims: Any) -> Principal:
    return Principal(subject=subject, claims={"sub": subject, **claims})


# ---------------------------------------------------------------- the application says so
async def test_the_application_is_asked_at_each_login_and_may_be_sync_or_async() -> None:
    revoked: set[str] = set()

    def sync(principal: Principal) -> bool:
        return principal.claims["jti"] in revoked

    async def asynchronous(principal: Principal) -> bool:
        return sync(principal)

    for hook in (sync, asynchronous):
        revoked.clear()
        checking = policy(hook)
        alice = await checking.authenticate(peer(), token(jti="1"))
        assert await checking.still_valid(alice)
        revoked.add("1")
        assert not await checking.still_valid(alice)
        with pytest.raises(UnauthorizedError) as raised:
            await checking.authenticate(peer(), token(jti="1"))
        assert raised.value.message == "the token is not valid"
        assert (await checking.verify(token(jti="2"))).subject == "alice"


async def _hang(_: Principal) -> bool:
    await asyncio.sleep(60)
    return False


def _fail(_: Principal) -> bool:
    raise RuntimeError("the database is away")


def _leave(_: Principal) -> bool:
    raise SystemExit(1)


async def _cancel(_: Principal) -> bool:
    raise asyncio.CancelledError


def _say(answer: object) -> Callable[[Principal], object]:
    def revoked(_: Principal) -> object:
        return answer

    return revoked


@pytest.mark.parametrize("hook", [_hang, _fail, _leave, _cancel, _say(answer=True), _say(None), _say(0), _say("")])
async def test_only_a_clear_no_lets_a_token_hold(hook: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(UnauthorizedError):
        await policy(hook).verify(token())
    assert not await policy(hook).still_valid(holder())
    caplog.clear()


async def test_a_caller_that_goes_away_is_not_an_answer() -> None:
    asked = asyncio.Event()

    async def slow(_: Principal) -> bool:
        asked.set()
        await asyncio.Event().wait()
        return False

    checking = Policy(AuthSettings.model_validate({"secret": SECRET}), revoked=slow, clock=Clock())
    login = asyncio.create_task(checking.verify(token()))
    await asked.wait()
    login.cancel()
    with pytest.raises(asyncio.CancelledError):
        await login


async def test_who_has_no_token_is_not_asked_about() -> None:
    off = Policy(AuthSettings(enabled=False), revoked=_fail)
    assert await off.authenticate(peer()) == ANONYMOUS
    assert await off.still_valid(ANONYMOUS)


# ---------------------------------------------------------------- in this process, at once
async def test_a_token_is_revoked_by_its_id() -> None:
    checking = policy()
    alice = await checking.verify(token(jti="1"))
    checking.revoke(jti="1", expires_at=NOW + 600)
    assert not await checking.still_valid(alice)
    with pytest.raises(UnauthorizedError):
        await checking.verify(token(jti="1"))
    assert (await checking.verify(token(jti="2"))).subject == "alice"
    assert (await checking.verify(token())).subject == "alice"


async def test_a_revoked_caller_subscribes_to_nothing_more() -> None:
    checking = policy()
    alice = await checking.verify(token(jti="1"))
    await checking.check(alice, "read", "exec-1", "alice")
    checking.revoke(jti="1")
    with pytest.raises(ForbiddenError):
        await checking.check(alice, "read", "exec-1", "alice")


async def test_all_tokens_of_a_subject_until_now() -> None:
    clock = Clock()
    checking = policy(clock=clock)
    for issued in (NOW - 600, NOW, None):
        assert await checking.still_valid(holder(iat=issued) if issued else holder())
    checking.revoke(subject="alice")
    assert not await checking.still_valid(holder(iat=NOW - 600))
    assert not await checking.still_valid(holder(iat=NOW + 5))  # by a clock that is ahead
    assert not await checking.still_valid(holder())
    assert not await checking.still_valid(holder(iat="nonsense"))
    assert await checking.still_valid(holder("bob", iat=NOW - 600))
    assert await checking.still_valid(holder(iat=NOW + 6))
    clock.now += 60
    assert (await checking.verify(token(iat=NOW + 30))).subject == "alice"
    checking.revoke(subject="alice")
    with pytest.raises(UnauthorizedError):
        await checking.verify(token(iat=NOW + 30))


def test_something_has_to_be_revoked() -> None:
    with pytest.raises(StreamingConfigError, match="jti or a subject"):
        policy().revoke()


async def test_with_authentication_off_a_revocation_changes_nothing() -> None:
    off = Policy(AuthSettings(enabled=False))
    off.revoke(subject="alice")
    assert await off.allows(ANONYMOUS, "read", "exec-1", None)


def test_a_revocation_is_forgotten_once_the_tokens_have_expired() -> None:
    clock = Clock()
    revocations = Revocations(clock, leeway=5, limit=10)
    for number in range(8):
        revocations.add(jti=f"short-{number}", expires_at=NOW + 60)
    revocations.add(jti="long")
    clock.now += 64
    revocations.add(subject="alice")
    assert len(revocations) == 10
    clock.now += 1
    revocations.add(subject="bob")
    assert len(revocations) == 3
    assert revocations.is_revoked(holder(jti="long", iat=NOW))
    assert not revocations.is_revoked(holder("carol", jti="other", iat=NOW - 1_000))


def test_a_later_revocation_does_not_shorten_one_before() -> None:
    clock = Clock()
    revocations = Revocations(clock, leeway=0, limit=10)
    revocations.add(jti="1", expires_at=NOW + 600)
    revocations.add(jti="1", expires_at=NOW + 10)
    clock.now += 60
    revocations.add(jti="2")
    assert revocations.is_revoked(holder(jti="1"))


def test_too_many_revocations_revoke_more_rather_than_less(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    revocations = Revocations(clock, leeway=0, limit=100)
    for number in range(1_000):
        clock.now = NOW + number
        revocations.add(jti=str(number))
    assert len(revocations) == 100
    for number in range(1_000):
        assert revocations.is_revoked(holder(jti=str(number), iat=NOW + number - 1))
    assert revocations.is_revoked(holder("bob", jti="innocent, but old", iat=NOW + 899))
    assert revocations.is_revoked(holder("bob", jti="innocent, and says not since when"))
    assert not revocations.is_revoked(holder("bob", jti="newer", iat=NOW + 900))
    assert not revocations.is_revoked(ANONYMOUS)
    assert caplog.text.count("more than 100 revocations") == 1


# ---------------------------------------------------------------- over the wire
async def test_a_module_passes_it_all_on() -> None:
    def revoked(principal: Principal) -> bool:
        return principal.claims["jti"] == "by the application"

    auth = AuthSettings.model_validate({"secret": SECRET})
    module = StreamingModule(StreamingSettings(auth=auth), revoked=revoked)
    with pytest.raises(StreamingConfigError, match="install"):
        module.revoke(jti="1")
    app = FastAPI()
    module.install(app)
    module.hub.open("exec-1", owner="alice")
    with serve(app) as server:
        async with httpx2.AsyncClient(base_url=server.url) as client:

            async def status(jti: str) -> int:
                headers = {"Authorization": f"Bearer {token(jti=jti)}"}
                return (await client.get("/executions/exec-1", headers=headers)).status_code

            assert [await status("by the application"), await status("1"), await status("2")] == [401, 200, 200]
            module.revoke(jti="1")
            assert [await status("1"), await status("2")] == [401, 200]


@pytest.mark.row("HIVE-76")
async def test_a_revoked_token_opens_nothing_any_more() -> None:
    with site(auth={"secret": SECRET}) as running:
        running.hub.open("exec-1", owner="alice")
        bearer = {"Authorization": f"Bearer {token(jti='1')}"}
        async with (
            httpx2.AsyncClient(base_url=running.url, headers=bearer) as client,
            raw_client(running, auth={"token": token(jti="1")}) as socket,
        ):
            assert (await client.get("/executions/exec-1")).status_code == 200
            assert (await socket.ask("subscribe_execution", {"execution_id": "exec-1"}))["ok"]
            running.gateway.policy.revoke(jti="1")
            assert (await client.get("/executions/exec-1")).status_code == 401
            answer = await socket.ask("subscribe_execution", {"execution_id": "exec-1"})
            assert answer["error"]["code"] == 4030
            answer = await socket.ask("authenticate", {"token": token(jti="1")})
            assert answer["error"]["code"] == 4010
            assert (await socket.closed())[0] == 4010


async def test_open_connections_end_at_their_next_heartbeat() -> None:
    with site(auth={"secret": SECRET}, gateway={"heartbeat_interval": 0.2}) as place:
        place.hub.open("his", owner="alice")
        headers = {"Authorization": f"Bearer {token()}"}
        async with (
            raw_client(place, auth={"token": token()}) as socket,
            raw_client(place, auth={"token": token(sub="bob")}) as other,
            httpx2.AsyncClient(timeout=10) as http,
            http.stream("GET", f"{place.url}/executions/his/stream", headers=headers) as stream,
        ):
            await socket.event("heartbeat")
            place.gateway.policy.revoke(subject="alice")
            assert (await socket.closed())[0] == 4010
            text = "".join([part async for part in stream.aiter_text()])
            assert "event: error" in text
            assert '"code":4010' in text
            assert (await other.ask("ping"))["ok"]


async def test_who_waits_for_a_page_gets_none_once_the_token_is_revoked() -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("his", owner="alice")
        headers = {"Authorization": f"Bearer {token()}"}
        async with httpx2.AsyncClient(base_url=place.url, headers=headers, timeout=10) as http:
            position = (await http.get("/executions/his/updates")).json()["position"]
            waiting = asyncio.create_task(http.get(f"/executions/his/updates?wait=20&after={position}"))
            async with asyncio.timeout(10):
                while not place.gateway.connections:
                    await asyncio.sleep(0.01)
            place.gateway.policy.revoke(subject="alice")
            place.hub.publish("his", "note", {"secret": 1})
            answer = await waiting
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, 4010)
