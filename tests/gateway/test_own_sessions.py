"""Logins by the application: cookies, API keys and opaque tokens, the same over every transport."""

import asyncio
import logging
import threading
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import httpx2
import pytest
import socketio
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from lg_streaming import Principal
from lg_streaming.client import SocketIOClient, SSEClient
from lg_streaming.gateway import Authenticate
from lg_streaming.gateway.auth.policy import Policy
from tests.gateway.contract.adapters import READERS, SOCKETS, Readers, RefusedError, SocketReader, first, readers_of
from tests.gateway.site import Site, site
from tests.support.node import node_client

TIMEOUT = 0.3
"""Seconds for an answer of the application, in place of 10."""


@dataclass(slots=True)
class Accounts:
    """The sessions, keys and tokens of an application."""

    known: dict[str, Principal] = field(default_factory=dict[str, Principal])
    asked: int = 0
    hanging: threading.Event = field(default_factory=threading.Event)

    def sync(self, request: HTTPConnection) -> Principal | None:
        credential = self._credential(request)
        if credential == "hanging":
            self.hanging.wait(20)
        return self._find(credential)

    async def later(self, request: HTTPConnection) -> Principal | None:
        credential = self._credential(request)
        if credential == "hanging":
            await asyncio.sleep(20)
        return self._find(credential)

    def _credential(self, request: HTTPConnection) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        bearer = token if scheme.lower() == "bearer" else ""
        return bearer or request.headers.get("x-api-key") or request.cookies.get("sid") or ""

    def _find(self, credential: str) -> Principal | None:
        self.asked += 1
        if credential == "raising":
            raise RuntimeError(f"the database is away: {credential} s3cret")
        return self.known.get(credential)


def accounts() -> Accounts:
    return Accounts(
        {
            "good": Principal(subject="alice", claims={"iat": time.time(), "jti": "good"}),
            "other": Principal(subject="bob"),
            "expired": Principal(subject="alice", expires_at=time.time() - 1),
        }
    )


CARRIERS = ("cookie", "key", "bearer")


def presented(carrier: str, credential: str) -> dict[str, Any]:
    """Return the arguments of a reader that presents a credential."""
    match carrier:
        case "cookie":
            return {"headers": {"Cookie": f"theme=dark; sid={credential}"}}
        case "key":
            return {"headers": {"X-API-Key": credential}}
        case _:
            return {"token": credential}


def as_headers(carrier: str, credential: str) -> dict[str, str]:
    given = presented(carrier, credential)
    return given.get("headers") or {"Authorization": f"Bearer {credential}"}


@dataclass(frozen=True, slots=True)
class Place:
    site: Site
    accounts: Accounts


@contextmanager
def place_of(own: Accounts, authenticate: Authenticate, **settings: Any) -> Generator[Place]:
    with pytest.MonkeyPatch.context() as patch:
        defaults = Policy.__init__.__kwdefaults__
        assert defaults is not None
        patch.setitem(defaults, "answer_timeout", TIMEOUT)
        limits = {"messages_per_second": None, "failed_logins_per_address": None, "connects_per_address": None}
        settings["limits"] = {**limits, **settings.get("limits", {})}
        with site(authenticate=authenticate, **settings) as running:
            running.hub.open("his", owner="alice")
            yield Place(running, own)


@pytest.fixture(scope="module", params=["sync", "async"])
def place(request: pytest.FixtureRequest) -> Generator[Place]:
    own = accounts()
    with place_of(own, own.sync if request.param == "sync" else own.later) as made:
        yield made


@pytest.fixture(params=READERS)
async def readers(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(READERS[request.param]) as made:
        yield made


@pytest.fixture(params=SOCKETS)
async def sockets(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(SOCKETS[request.param]) as made:
        yield made


def failures(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the errors in the log, and clear it; none has a traceback or a secret."""
    wrong = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]
    assert not [record for record in wrong if record.exc_info]
    texts = [record.getMessage() for record in wrong]
    assert not [text for text in texts if "\n" in text or "s3cret" in text]
    caplog.clear()
    return texts


CODES = {"good": None, "other": 4030, "": 4010, "wrong": 4010, "expired": 4011, "raising": 4010, "hanging": 4010}


# ---------------------------------------------------------------- one table
@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("credential", CODES)
async def test_each_credential_counts_the_same_over_every_transport(
    place: Place, readers: Readers, carrier: str, credential: str, caplog: pytest.LogCaptureFixture
) -> None:
    given = presented(carrier, credential) if credential else {}
    reader, code = readers(place.site.server, **given), CODES[credential]
    try:
        if code is None:
            assert (await reader.subscribe("his"))["ok"]
        else:
            with pytest.raises(RefusedError) as refused:
                await reader.subscribe("his")
            assert refused.value.code == code
            assert refused.value.status in {None, 403 if code == 4030 else 401}
            assert "s3cret" not in str(refused.value.error)
    finally:
        place.accounts.hanging.set()
        place.accounts.hanging.clear()
    failed = failures(caplog)
    assert len(failed) == (credential in {"raising", "hanging"})
    assert all(text.startswith("authenticate failed for a caller at 127.0.0.1: refused, ") for text in failed)


REQUESTS: dict[str, tuple[str, str, Any, set[int]]] = {
    "a list": ("GET", "/executions", None, {200}),
    "a state": ("GET", "/executions/his", None, {200}),
    "a page": ("GET", "/executions/his/updates", None, {200}),
    "an answer": ("POST", "/executions/his/responses", {"prompt_id": "p", "response": 1}, {409}),
    "a ticket": ("POST", "/tickets", {}, {201}),
    "metrics": ("GET", "/metrics", None, {403}),
    "a cancel": ("DELETE", "/executions/gone", None, {403}),
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("request_", REQUESTS)
async def test_each_request_wants_a_login(
    place: Place, request_: str, carrier: str, caplog: pytest.LogCaptureFixture
) -> None:
    method, path, body, statuses = REQUESTS[request_]
    async with httpx2.AsyncClient(base_url=place.site.url, timeout=10) as http:

        async def status(credential: str) -> int:
            headers = as_headers(carrier, credential) if credential else {}
            return (await http.request(method, path, json=body, headers=headers)).status_code

        assert await status("good") in statuses
        assert [await status(each) for each in ("", "wrong", "expired", "raising")] == [401] * 4
    assert len(failures(caplog)) == 1


# ---------------------------------------------------------------- clients
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_the_official_client_in_python(place: Place, carrier: str) -> None:
    given = presented(carrier, "good")
    client = socketio.AsyncClient(reconnection=False)
    await client.connect(
        place.site.url, given.get("headers", {}), {"token": given.get("token")}, transports=["websocket"]
    )
    answer = cast("dict[str, Any]", await client.call("subscribe_execution", {"execution_id": "his"}))
    assert answer["ok"]
    await client.disconnect()


async def test_the_official_client_in_javascript(place: Place) -> None:
    async with node_client(place.site.url, auth={"token": "good"}) as client:
        assert (await client.event("connection_status"))["status"] == "connected"
        assert (await client.emit("subscribe_execution", {"execution_id": "his"}))["ok"]


@pytest.mark.parametrize("kind", [SSEClient, SocketIOClient])
@pytest.mark.parametrize("carrier", CARRIERS)
async def test_the_clients_of_the_library(
    place: Place, kind: type[SSEClient] | type[SocketIOClient], carrier: str
) -> None:
    async with kind(place.site.url, **presented(carrier, "good")) as client, client.subscribe("his") as updates:
        assert (await anext(aiter(updates))).type == "workflow_start"


# ---------------------------------------------------------------- later
async def test_a_late_login_with_an_opaque_token(place: Place, sockets: Readers) -> None:
    reader = sockets(place.site.server)
    assert isinstance(reader, SocketReader)
    await reader.open()
    assert reader.greeting["status"] == "authentication_required"
    assert (await reader.ask("authenticate", {"token": "good"})) == {"ok": True, "expires_in_s": None}
    assert (await reader.subscribe("his"))["ok"]
    assert (await reader.ask("get_status"))["connection"]["subject"] == "alice"
    with pytest.raises(RefusedError) as refused:
        await reader.ask("authenticate", {"token": "other"})  # another subject
    assert refused.value.code == 4010


@pytest.mark.parametrize("token", ["wrong", "expired", "ünknown", "a b", "x" * 20_000, "a\r\nX-Api-Key: good"])
async def test_a_late_login_is_refused_like_an_early_one(place: Place, sockets: Readers, token: str) -> None:
    reader = sockets(place.site.server)
    assert isinstance(reader, SocketReader)
    with pytest.raises(RefusedError) as refused:
        await reader.ask("authenticate", {"token": token})
    assert refused.value.code == (4011 if token == "expired" else 4010)


async def test_a_ticket_stands_for_the_session(place: Place) -> None:
    async with (
        httpx2.AsyncClient(base_url=place.site.url, timeout=10) as http,
        readers_of(SOCKETS["websocket"]) as readers,
    ):
        for path in ("/executions/his/stream", "/ws"):
            answer = await http.post("/tickets", json={}, headers={"X-API-Key": "good"})
            ticket = answer.json()["ticket"]
            if path == "/ws":
                reader = readers(place.site.server)
                assert isinstance(reader, SocketReader)
                reader.path = f"/ws?ticket={ticket}"
                assert (await reader.subscribe("his"))["ok"]
                assert (await reader.ask("get_status"))["connection"]["subject"] == "alice"
            else:
                async with http.stream("GET", f"{path}?ticket={ticket}") as stream:
                    assert stream.status_code == 200
            again = await http.get(f"/executions/his/stream?ticket={ticket}")
            assert again.status_code == 401


# ---------------------------------------------------------------- the end of a login
BEAT = {"heartbeat_interval": 0.1}


async def test_a_logout_ends_open_connections_at_the_next_heartbeat(readers: Readers) -> None:
    if not readers.kind.lasting:
        return
    own = accounts()
    with place_of(own, own.later, gateway=BEAT) as place:
        his, other = readers(place.site.server, token="good"), readers(place.site.server, token="other")
        place.site.hub.open("bobs", owner="bob")
        await his.subscribe("his")
        await other.subscribe("bobs")
        del own.known["good"]
        assert (await first(his, "error")).payload["code"] == 4010
        place.site.hub.publish("bobs", "note", {"i": 1})
        while (await first(other, "update")).payload["type"] != "note":
            pass


@pytest.mark.parametrize("reason", ["raising", "hanging", "another subject"])
async def test_only_a_clear_answer_keeps_a_connection(
    sockets: Readers, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    own, answers = accounts(), ["good"]

    async def authenticate(_: HTTPConnection) -> Principal | None:
        request = HTTPConnection({"type": "http", "headers": [(b"x-api-key", answers[0].encode())]})
        return await own.later(request)

    with place_of(own, authenticate, gateway=BEAT) as place:
        reader = sockets(place.site.server)
        await reader.subscribe("his")
        answers[0] = {"another subject": "other"}.get(reason, reason)
        assert (await first(reader, "error")).payload["code"] == 4010
        await first(reader, "closed")
        assert reader.close_code == 4010
    assert len(failures(caplog)) == (reason != "another subject")


async def test_a_session_that_ends_stops_the_delivery(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.gateway.transports.connection._EXPIRY_GRACE", 0.2)
    if not readers.kind.lasting:
        return
    own = accounts()
    own.known["good"] = Principal(subject="alice", expires_at=time.time() + 0.6)
    with place_of(own, own.later, gateway={"heartbeat_interval": 5}) as place:
        reader = readers(place.site.server, token="good")
        await reader.subscribe("his")
        assert (await first(reader, "error")).payload["code"] == 4011
        await first(reader, "closed")


async def test_a_session_that_is_extended_goes_on(sockets: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.gateway.transports.connection._EXPIRY_GRACE", 20.0)
    own = accounts()
    ends = time.time() + 0.3
    own.known["good"] = Principal(subject="alice", expires_at=ends)
    with place_of(own, own.later, gateway={"heartbeat_interval": 0.2}) as place:
        reader = sockets(place.site.server, token="good")
        assert isinstance(reader, SocketReader)
        await reader.subscribe("his", follow=True)
        assert 0 < (await first(reader, "other", "auth_expiring")).payload["in_s"] <= 0.3
        async with asyncio.timeout(10):  # until the delivery pauses
            while time.time() < ends or own.asked < 3:
                await asyncio.sleep(0.01)
        own.known["good"] = Principal(subject="alice", expires_at=time.time() + 600)
        place.site.hub.publish("his", "note", {"i": 1})
        while (await first(reader, "update")).payload["type"] != "note":
            pass
        assert (await reader.ask("authenticate", {"token": "good"}))["expires_in_s"] > 500


async def test_revoking_a_session_by_its_id_and_its_subject() -> None:
    own = accounts()
    own.known["new"] = Principal(subject="alice", claims={"iat": time.time() + 60})
    with place_of(own, own.later) as place:
        async with httpx2.AsyncClient(base_url=place.site.url) as http:

            async def status(key: str) -> int:
                return (await http.get("/executions/his", headers={"X-API-Key": key})).status_code

            assert [await status("good"), await status("new")] == [200, 200]
            place.site.gateway.policy.revoke(jti="good")
            assert [await status("good"), await status("new")] == [401, 200]
            own.known["good"] = replace(own.known["good"], claims={"iat": time.time() - 60})
            assert await status("good") == 200
            place.site.gateway.policy.revoke(subject="alice")
            assert [await status("good"), await status("new")] == [401, 200]


async def test_a_ticket_is_not_checked_by_the_application_again_but_can_be_revoked() -> None:
    own = accounts()
    with place_of(own, own.later, gateway=BEAT) as place:
        async with (
            httpx2.AsyncClient(base_url=place.site.url, timeout=10) as http,
            readers_of(SOCKETS["websocket"]) as readers,
        ):
            answer = await http.post("/tickets", json={}, headers={"X-API-Key": "good"})
            reader = readers(place.site.server)
            assert isinstance(reader, SocketReader)
            reader.path = f"/ws?ticket={answer.json()['ticket']}"
            await reader.subscribe("his")
            asked = own.asked
            for _ in range(2):
                await first(reader, "other", "heartbeat")
            assert own.asked == asked
            place.site.gateway.policy.revoke(subject="alice")
            await first(reader, "closed")
            assert reader.close_code == 4010


# ---------------------------------------------------------------- limits
async def test_limits_of_a_subject_count_sessions(readers: Readers) -> None:
    if not readers.kind.lasting:
        return
    own = accounts()
    with place_of(own, own.later, limits={"connections_per_subject": 1}) as place:
        assert (await readers(place.site.server, **presented("cookie", "good")).subscribe("his"))["ok"]
        with pytest.raises(RefusedError) as refused:
            await readers(place.site.server, **presented("key", "good")).subscribe("his")
        assert refused.value.code == 4291


async def test_failed_logins_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    own = accounts()
    with place_of(own, own.later, limits={"failed_logins_per_address": "2/minute"}) as place:
        async with httpx2.AsyncClient(base_url=place.site.url) as http:
            codes = [
                (await http.get("/executions", headers={"X-API-Key": key})).json().get("error", {}).get("code")
                for key in ("good", "wrong", "raising", "good")
            ]
    assert codes == [None, 4010, 4010, 4292]
    assert len(failures(caplog)) == 1


@pytest.mark.parametrize(("status", "logged"), [(401, 0), (403, 0), (500, 1)])
async def test_exceptions_of_dependencies_mean_not_logged_in(
    status: int, logged: int, caplog: pytest.LogCaptureFixture
) -> None:
    def authenticate(_: HTTPConnection) -> Principal | None:
        raise HTTPException(status)

    with place_of(accounts(), authenticate) as place:
        async with httpx2.AsyncClient(base_url=place.site.url) as http:
            assert (await http.get("/executions")).status_code == 401
    assert len(failures(caplog)) == logged


async def test_a_slow_answer_at_heartbeats_is_charged_to_the_subject() -> None:
    own, callers = accounts(), list[str]()
    with place_of(own, own.sync, gateway=BEAT) as place:
        workers: Any = place.site.gateway.policy._workers  # pyright: ignore[reportPrivateUsage]
        call = workers.call

        async def noting(caller: str, *arguments: Any) -> Any:
            callers.append(caller)
            return await call(caller, *arguments)

        workers.call = noting
        async with readers_of(SOCKETS["websocket"]) as readers:
            reader = readers(place.site.server, token="good")
            await reader.subscribe("his")
            await first(reader, "other", "heartbeat")
        workers.call = call
    assert callers[:2] == ["address 127.0.0.1", "subject alice"]
