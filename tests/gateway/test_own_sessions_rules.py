"""Rules for logins by the application: pages of other sites, tokens and sessions together, unusable answers."""

import functools
import logging
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.security import APIKeyHeader
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Receive, Scope, Send

from lg_streaming import Grant, Principal, StreamingModule
from lg_streaming.errors import OriginError, StreamingConfigError, TokenExpiredError, UnauthorizedError
from lg_streaming.gateway import Authenticate
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.settings import AuthSettings
from tests.gateway.contract.adapters import READERS, SOCKETS, RefusedError, SocketReader, readers_of
from tests.gateway.site import Site, site
from tests.gateway.tokens import NOW, SECRET, token
from tests.support.server import serve

LISTED = "https://app.example.com"
EVIL = "https://evil.example.com"


def from_cookie(request: HTTPConnection) -> Principal | None:
    return Principal(subject=request.cookies["sid"]) if "sid" in request.cookies else None


def scope_of(**headers: str) -> Scope:
    names = {"host": "localhost:8000", **{name.replace("_", "-"): value for name, value in headers.items()}}
    return {
        "type": "http",
        "client": ("203.0.113.9", 1),
        "server": ("127.0.0.1", 8000),
        "path": "/executions",
        "query_string": b"tenant=acme",
        "headers": [(name.encode(), value.encode()) for name, value in names.items()],
    }


def policy(authenticate: Authenticate, *, cors_origins: tuple[str, ...] = (), **auth: Any) -> Policy:
    settings = AuthSettings.model_validate(auth)
    return Policy(settings, authenticate=authenticate, cors_origins=cors_origins, clock=lambda: NOW, answer_timeout=1)


async def login(
    authenticate: Authenticate, given: str | None = None, *, cors_origins: tuple[str, ...] = (), **headers: str
) -> Principal:
    door = policy(authenticate, cors_origins=cors_origins, secret=SECRET)
    return await door.authenticate(door.peer_of(scope_of(**headers)), given)


# ---------------------------------------------------------------- settings
def test_authenticate_turns_authentication_on() -> None:
    door = policy(from_cookie)
    assert (door.requires_token, door.local_only) == (True, False)


def test_it_cannot_go_with_authentication_off() -> None:
    with pytest.raises(StreamingConfigError, match="False admits every caller"):
        policy(from_cookie, enabled=False)
    with pytest.raises(StreamingConfigError, match="authenticate"):
        StreamingModule({"auth": {"enabled": False}}, authenticate=from_cookie).install(FastAPI())


async def test_without_it_no_request_is_kept() -> None:
    assert Policy(AuthSettings()).peer_of(scope_of()).scope is None


# ---------------------------------------------------------------- the request
async def test_the_function_gets_the_whole_request() -> None:
    seen: list[HTTPConnection] = []

    def authenticate(request: HTTPConnection) -> Principal | None:
        seen.append(request)
        return Principal(subject=request.query_params["tenant"])

    assert (await login(authenticate, x_tenant="a", cookie="b=c")).subject == "acme"
    assert (seen[0].headers["x-tenant"], seen[0].cookies, seen[0].url.path) == ("a", {"b": "c"}, "/executions")


@pytest.mark.parametrize("header", ["", "Basic YTpi", "Bearer old"])
async def test_the_token_of_a_message_is_the_bearer_token(header: str) -> None:
    def authenticate(request: HTTPConnection) -> Principal | None:
        assert request.headers.getlist("authorization") == ["Bearer opaque"]
        return Principal(subject="alice")

    assert (await login(authenticate, "opaque", authorization=header)).source == "application"


# ---------------------------------------------------------------- tokens and sessions
async def test_a_jwt_counts_where_the_application_knows_nobody() -> None:
    assert (await login(from_cookie, token())).source == "token"
    assert (await login(from_cookie, authorization=f"Bearer {token(sub='bob')}")).subject == "bob"
    assert (await login(from_cookie, cookie=f"lg_streaming_token={token()}")).subject == "alice"
    with pytest.raises(TokenExpiredError):
        await login(from_cookie, token(exp=NOW - 60))


async def test_the_application_comes_first() -> None:
    assert (await login(from_cookie, token(), cookie="sid=carol")).subject == "carol"


async def test_an_opaque_token_without_a_key_is_not_valid() -> None:
    door = policy(from_cookie)
    with pytest.raises(UnauthorizedError, match="the token is not valid"):
        await door.authenticate(door.peer_of(scope_of()), "opaque")
    with pytest.raises(UnauthorizedError, match="log in to the application"):
        await door.authenticate(door.peer_of(scope_of()))


# ---------------------------------------------------------------- pages of other sites
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": EVIL},
        {"origin": "null"},
        {"origin": f"{LISTED}.evil.com"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
async def test_a_page_of_another_site_is_refused_before_the_application_decides(headers: dict[str, str]) -> None:
    def authenticate(_: HTTPConnection) -> Principal | None:
        raise AssertionError

    with pytest.raises(OriginError):
        await login(authenticate, cors_origins=(LISTED,), cookie="sid=alice", **headers)


@pytest.mark.parametrize("origin", ["", LISTED, "http://localhost:8000"])
async def test_a_cookie_counts_for_our_own_pages_and_listed_ones(origin: str) -> None:
    headers = {"origin": origin} if origin else {}
    assert (await login(from_cookie, cors_origins=(LISTED,), cookie="sid=alice", **headers)).subject == "alice"


async def test_with_a_star_nothing_counts_that_a_browser_adds_by_itself() -> None:
    seen: list[HTTPConnection] = []

    def authenticate(request: HTTPConnection) -> Principal | None:
        seen.append(request)
        return None

    headers = {"cookie": "sid=alice", "origin": EVIL}
    for scheme in ("Basic YTpi", "Negotiate x", "NTLM x", "digest x"):
        with pytest.raises(UnauthorizedError, match="required"):
            await login(authenticate, cors_origins=("*",), authorization=scheme, **headers)
        assert "authorization" not in seen[-1].headers
        assert (seen[-1].cookies, "cookie" in seen[-1].headers) == ({}, False)
    door = policy(authenticate, cors_origins=("*",))
    scope = {**scope_of(authorization="Bearer mine", **headers), "session": {"user": 1}, "user": "alice", "auth": "all"}
    with pytest.raises(UnauthorizedError):
        await door.authenticate(door.peer_of(scope))
    request = seen[-1]
    assert (request.session, request.user.is_authenticated, request.auth.scopes) == ({}, False, [])
    assert request.headers["authorization"] == "Bearer mine"
    assert scope["session"] == {"user": 1}


@pytest.fixture(scope="module")
def starred() -> Generator[Site]:
    with site(authenticate=from_cookie, gateway={"cors_origins": ("*",)}) as running:
        running.hub.open("his", owner="alice")
        yield running


@pytest.fixture(scope="module")
def listed() -> Generator[Site]:
    with site(authenticate=from_cookie, gateway={"cors_origins": (LISTED,)}) as running:
        running.hub.open("his", owner="alice")
        yield running


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(("stars", "code"), [(True, 4010), (False, 4031)])
async def test_a_page_of_another_site_does_not_act_for_its_visitor(
    starred: Site, listed: Site, kind: str, *, stars: bool, code: int
) -> None:
    place = starred if stars else listed
    async with readers_of(READERS[kind]) as readers:
        headers = {"Cookie": "sid=alice", "Origin": EVIL}
        with pytest.raises(RefusedError) as refused:
            await readers(place.server, headers=headers).subscribe("his")
        assert refused.value.code == code
        own = {"Cookie": "sid=alice", "Origin": place.url}
        assert (await readers(place.server, headers=own).subscribe("his"))["ok"]


@pytest.mark.parametrize(("method", "path"), [("POST", "/tickets"), ("DELETE", "/executions/his")])
async def test_a_page_of_another_site_sends_no_request_with_a_cookie(
    starred: Site, listed: Site, method: str, path: str
) -> None:
    async with httpx2.AsyncClient(timeout=10) as http:
        for place, codes in ((starred, {4010, 4031}), (listed, {4031})):
            for mark in ({"Origin": EVIL}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
                headers = {"Cookie": "sid=alice", **mark}
                answer = await http.request(method, place.url + path, json={}, headers=headers)
                assert answer.json()["error"]["code"] in codes
            preflight = {"Origin": EVIL, "Access-Control-Request-Method": method}
            answer = await http.request("OPTIONS", place.url + path, headers=preflight)
            assert "access-control-allow-credentials" not in answer.headers
    state = await listed.hub.describe("his")
    assert state is not None
    assert state.state == "running"


# ---------------------------------------------------------------- answers
def answering(answer: object) -> Authenticate:
    def authenticate(_: HTTPConnection) -> Principal | None:
        return cast("Principal | None", answer)

    return authenticate


@contextmanager
def one_error(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    yield
    errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.exc_info for record in errors] == [None]
    assert "\n" not in errors[0].getMessage()
    caplog.clear()


@pytest.mark.parametrize(
    "answer",
    [
        True,
        "alice",
        {"subject": "alice"},
        Principal(),
        Principal(subject=""),
        Principal(subject=cast("Any", 1.5)),
        Principal(subject="alice", expires_at=cast("Any", datetime(2100, 1, 1, tzinfo=UTC))),
        Principal(subject="alice", expires_at=float("nan")),
        Principal(subject="alice", expires_at=cast("Any", True)),
        Principal(subject="alice", claims=cast("Any", None)),
        Principal(subject="alice", grants=cast("Any", [Grant(actions=frozenset({"read"}), executions=("*",))])),
        Principal(subject="alice", grants=(cast("Any", "read"),)),
    ],
    ids=str,
)
async def test_an_answer_that_cannot_be_used_refuses_the_caller(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    with one_error(caplog), pytest.raises(UnauthorizedError, match="the login could not be checked"):
        await login(answering(answer))


@pytest.mark.parametrize(
    ("subject", "text"), [("alice", "alice"), (42, "42"), (UUID(int=7), "00000000-0000-0000-0000-000000000007")]
)
async def test_a_subject_counts_as_its_text_like_an_owner(subject: Any, text: str) -> None:
    assert (await login(answering(Principal(subject=subject)))).subject == text


async def test_a_session_that_has_expired_has_its_own_code() -> None:
    with pytest.raises(TokenExpiredError):
        await login(answering(Principal(subject="alice", expires_at=NOW)))
    assert (await login(answering(Principal(subject="alice", expires_at=NOW + 1)))).expires_at == NOW + 1


async def test_callable_objects_and_their_async_kind() -> None:
    class Sync:
        def __call__(self, request: HTTPConnection) -> Principal | None:
            return from_cookie(request)

    class Async:
        async def __call__(self, request: HTTPConnection) -> Principal | None:
            return from_cookie(request)

    each: Authenticate
    for each in (Sync(), Async(), functools.partial(from_cookie)):
        assert (await login(each, cookie="sid=alice")).subject == "alice"


# ---------------------------------------------------------------- rights
async def test_rights_of_a_principal_of_the_application() -> None:
    grants = (Grant(actions=frozenset({"read"}), executions=("acme/*",)),)
    alice = Principal(subject="alice", grants=grants, claims={"plan": "team"})
    door = policy(answering(alice))
    found = await door.authenticate(door.peer_of(scope_of()))
    assert await door.allows(found, "control", "any", "alice")
    assert await door.allows(found, "read", "acme/1", "bob")
    assert not await door.allows(found, "control", "acme/1", "bob")
    assert not await door.allows(found, "read", "other", "bob")


async def test_authorize_and_revoked_get_the_same_principal() -> None:
    seen: list[Principal] = []

    def authorize(principal: Principal, *_: object) -> bool:
        seen.append(principal)
        return principal.claims["plan"] == "team"

    def revoked(principal: Principal) -> bool:
        seen.append(principal)
        return False

    alice = Principal(subject="alice", claims={"plan": "team"})
    door = Policy(AuthSettings(), authenticate=answering(alice), authorize=authorize, revoked=revoked)
    found = await door.authenticate(door.peer_of(scope_of()))
    assert await door.allows(found, "read", "bobs", "bob")
    assert seen == [alice, alice]


# ---------------------------------------------------------------- an application with middlewares
class Sessions:
    """Middleware that gives a request its `session`, as Starlette's does."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in {"http", "websocket"}:
            user = HTTPConnection(scope).cookies.get("session")
            scope["session"] = {"user": user} if user else {}
        await self.app(scope, receive, send)


api_key = APIKeyHeader(name="X-API-Key")


async def from_session_or_key(request: HTTPConnection) -> Principal | None:
    if "user" in request.session:
        return Principal(subject=request.session["user"])
    key = await api_key(cast("Any", request))
    return Principal(subject="machine") if key == "k" else None


@pytest.fixture(scope="module")
def application() -> Generator[Any]:
    app = FastAPI()
    streaming = StreamingModule(authenticate=from_session_or_key)
    streaming.install(app)
    app.add_middleware(Sessions)
    for owner in ("alice", "machine"):
        streaming.hub.open(f"{owner}s", owner=owner)
    with serve(app) as server:
        yield server


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("headers", "subject"), [({"Cookie": "session=alice"}, "alice"), ({"X-API-Key": "k"}, "machine")]
)
async def test_the_session_of_a_middleware_and_a_dependency_of_fastapi(
    application: Any, kind: str, headers: dict[str, str], subject: str
) -> None:
    async with readers_of(READERS[kind]) as readers:
        assert (await readers(application, headers=headers).subscribe(f"{subject}s"))["ok"]
        for wrong in ({}, {"X-API-Key": "w"}):
            with pytest.raises(RefusedError) as refused:
                await readers(application, headers=wrong).subscribe(f"{subject}s")
            assert refused.value.code == 4010


async def test_rights_that_a_fresh_login_has_no_more_end_subscriptions() -> None:
    rights = {"wide": (Grant(actions=frozenset({"read"}), executions=("**",)),), "narrow": ()}

    def authenticate(request: HTTPConnection) -> Principal | None:
        key = request.headers.get("authorization", "").removeprefix("Bearer ")
        return Principal(subject="alice", grants=rights[key]) if key in rights else None

    with site(authenticate=authenticate) as place:
        place.hub.open("bobs", owner="bob")
        async with readers_of(SOCKETS["websocket"]) as readers:
            reader = readers(place.server, token="wide")
            assert isinstance(reader, SocketReader)
            await reader.subscribe("bobs")
            await reader.ask("authenticate", {"token": "narrow"})
            assert (await reader.ask("get_status"))["subscriptions"] == []
