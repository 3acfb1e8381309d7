"""The login of the watch page: `/watch-session` describes the caller, and keeps a token in a cookie."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.requests import HTTPConnection

from lg_streaming import Grant, Principal, StreamingModule
from lg_streaming.settings import GatewaySettings
from tests.gateway.site import SECRET
from tests.gateway.starts import make_graphs
from tests.gateway.test_rest import APP, EVIL, bearer, code_of, token
from tests.support.server import Server, serve

PATH = "/watch-session"
COOKIE = "lg_streaming_token"


@contextmanager
def place_of(
    streaming: StreamingModule, *, mount: str = "", **uvicorn: Any
) -> Generator[tuple[StreamingModule, Server]]:
    app = FastAPI()
    streaming.install(app, ui=True)
    outer = app
    if mount:
        outer = FastAPI()
        outer.mount(mount, app)
    with serve(outer, **uvicorn) as server:
        yield streaming, server


@pytest.fixture(scope="module")
def place() -> Generator[tuple[StreamingModule, Server]]:
    streaming = StreamingModule({"auth": {"secret": SECRET}, "gateway": {"cors_origins": [APP], "login_url": "/in"}})
    with place_of(streaming) as running:
        streaming.hub.open("his", owner="alice")
        streaming.hub.open("hers", owner="bob")
        yield running


@pytest.fixture
async def http(place: tuple[StreamingModule, Server]) -> AsyncGenerator[httpx2.AsyncClient]:
    _, server = place
    async with httpx2.AsyncClient(base_url=server.url, headers={"Origin": server.url}) as client:
        yield client


def cookie_in(answer: httpx2.Response) -> Any:
    cookies = SimpleCookie(answer.headers["set-cookie"])
    return next(iter(cookies.values()))


# ---------------------------------------------------------------- in and out
async def test_a_login_lasts_until_its_token_expires_or_a_logout(http: httpx2.AsyncClient) -> None:
    before = (await http.get(PATH)).json()
    assert before == {"login": "needed", "form": True, "login_url": "/in", "reason": None}
    given = token("alice")
    answer = await http.post(PATH, json={"token": f" {given}\n"})
    assert answer.status_code == 201
    cookie = cookie_in(answer)
    assert (cookie.key, cookie.value) == (COOKIE, given)
    assert cookie["httponly"]
    assert cookie["samesite"] == "strict"
    assert cookie["path"] == "/"
    assert not cookie["secure"]
    assert 590 <= int(cookie["max-age"]) <= 606
    assert (await http.get("/executions/his")).status_code == 200
    session = (await http.get(PATH, params={"execution_id": "his"})).json()
    assert {"login": "in", "by": "token", "subject": "alice"}.items() <= session.items()
    assert session["expires_at"].endswith("Z")
    assert session["can"] == {"list": True, "start": False, "read": True, "control": True, "share": True}
    foreign = (await http.get(PATH, params={"execution_id": "hers"})).json()["can"]
    assert foreign == {"list": True, "start": False, "read": False, "control": False, "share": False}
    assert (await http.delete(PATH)).status_code == 200
    assert COOKIE not in http.cookies
    assert (await http.get("/executions/his")).status_code == 401


async def test_the_page_of_a_link_holder_may_read(http: httpx2.AsyncClient) -> None:
    link = (await http.post("/executions/his/links", json={}, headers=bearer("alice"))).json()["link"]
    session = (await http.get(PATH, params={"execution_id": "his"}, headers={"Authorization": f"Bearer {link}"})).json()
    assert {"login": "in", "by": "link", "subject": None}.items() <= session.items()
    assert session["can"] == {"list": False, "start": False, "read": True, "control": False, "share": False}
    refused = await http.post(PATH, json={"token": link})
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, 4000)
    assert "link" in refused.json()["error"]["message"]
    assert "set-cookie" not in refused.headers


async def test_an_expired_token_says_so(http: httpx2.AsyncClient) -> None:
    expired = token("alice", exp=int(time.time()) - 60)
    session = (await http.get(PATH, headers={"Cookie": f"{COOKIE}={expired}"})).json()
    assert session["login"] == "needed"
    assert session["reason"]["code"] == 4011
    assert await code_of(http.post(PATH, json={"token": expired})) == (401, 4011)


@pytest.mark.parametrize(
    "body", [{}, {"token": ""}, {"token": 7}, {"token": "x" * 20_000}, {"token": "x", "more": 1}, [], "text"]
)
async def test_the_body_is_checked(http: httpx2.AsyncClient, body: object) -> None:
    assert await code_of(http.post(PATH, json=body)) == (400, 4000)


async def test_a_wrong_token_sets_no_cookie(http: httpx2.AsyncClient) -> None:
    for wrong in ("nonsense", token("alice")[:-4], "a; Path=/x", "\x00"):
        answer = await http.post(PATH, json={"token": wrong})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, 4010)
        assert "set-cookie" not in answer.headers


async def test_a_token_that_no_cookie_can_hold_is_refused(http: httpx2.AsyncClient) -> None:
    answer = await http.post(PATH, json={"token": token("alice", large="x" * 4_000)})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 4000)
    assert "too long for a cookie" in answer.json()["error"]["message"]


# ---------------------------------------------------------------- other pages
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL},
        {"Origin": APP},
        {"Origin": "null"},
        {"Origin": APP, "Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Referer": f"{APP}/"},
    ],
    ids=["foreign", "listed", "opaque", "cross-site", "no origin"],
)
async def test_a_page_of_another_origin_logs_nobody_in_or_out(
    place: tuple[StreamingModule, Server], headers: dict[str, str]
) -> None:
    async with httpx2.AsyncClient(base_url=place[1].url, headers=headers) as http:
        for request in (http.post(PATH, json={"token": token("mallory")}), http.delete(PATH)):
            answer = await request
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, 4031)
            assert "set-cookie" not in answer.headers


async def test_a_form_of_another_page_cannot_log_in(http: httpx2.AsyncClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        body = f'{{"token": "{token("mallory")}"}}'
        answer = await http.post(PATH, content=body, headers={"Content-Type": kind})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, 4000)


# ---------------------------------------------------------------- where the cookie goes
@pytest.mark.parametrize(
    ("prefix", "mount", "cookie", "path"),
    [("/live", "", "c", "/live"), ("", "/inner", "c", "/inner"), ("/live", "/inner", "__Host-c", "/")],
    ids=["prefix", "mount", "host only"],
)
async def test_the_cookie_is_sent_to_the_gateway_alone(prefix: str, mount: str, cookie: str, path: str) -> None:
    settings = {"auth": {"secret": SECRET, "cookie": cookie}, "gateway": {"prefix": prefix}}
    with place_of(StreamingModule(settings), mount=mount) as (_, server):
        async with httpx2.AsyncClient() as http:
            answer = await http.post(f"{server.url}{mount}{prefix}{PATH}", json={"token": token()})
            found = cookie_in(answer)
            assert (found.key, found["path"], bool(found["secure"])) == (cookie, path, cookie.startswith("__"))


@pytest.mark.parametrize(
    "headers", [{"X-Forwarded-Proto": "https"}, {"Forwarded": "for=1.2.3.4;proto=https"}, {}], ids=str
)
async def test_behind_tls_the_cookie_is_secure(http: httpx2.AsyncClient, headers: dict[str, str]) -> None:
    origin = str(http.headers["Origin"]).replace("http:", "https:")
    answer = await http.post(PATH, json={"token": token()}, headers={**headers, "Origin": origin})
    assert answer.status_code == 201
    assert cookie_in(answer)["secure"]


# ---------------------------------------------------------------- other kinds of authentication
async def test_where_authentication_is_off_nothing_is_needed() -> None:
    for auth in ({}, {"enabled": False}):
        with place_of(StreamingModule({"auth": auth})) as (_, server):
            async with httpx2.AsyncClient(base_url=server.url) as http:
                session = (await http.get(PATH, params={"execution_id": "any"})).json()
                assert session["login"] == "off"
                assert session["can"] == {"list": True, "start": False, "read": True, "control": True, "share": False}
                assert await code_of(http.post(PATH, json={"token": token()})) == (403, 4030)
                if not auth:  # no login would admit a caller of another machine
                    foreign = http.get(PATH, headers={"X-Forwarded-For": "1.2.3.4"})
                    assert await code_of(foreign) == (401, 4010)


async def test_without_a_cookie_for_tokens_the_page_has_no_form() -> None:
    with place_of(StreamingModule({"auth": {"secret": SECRET, "cookie": None}})) as (_, server):
        async with httpx2.AsyncClient(base_url=server.url) as http:
            assert (await http.get(PATH)).json()["form"] is False
            answer = await http.post(PATH, json={"token": token()})
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, 4030)
            assert "auth.cookie" in answer.json()["error"]["message"]


async def test_the_session_of_an_application_needs_no_form() -> None:
    def authenticate(request: HTTPConnection) -> Principal | None:
        grants = (Grant(actions=frozenset({"start"}), graphs=("*",)),)
        return Principal(subject="alice", grants=grants) if request.cookies.get("sid") == "good" else None

    streaming = StreamingModule(authenticate=authenticate)
    streaming.graphs["any"] = make_graphs()["shout"]
    with place_of(streaming) as (_, server):
        async with httpx2.AsyncClient(base_url=server.url) as http:
            assert (await http.get(PATH)).json() == {
                "login": "needed",
                "form": False,
                "login_url": None,
                "reason": None,
            }
            assert await code_of(http.post(PATH, json={"token": token()})) == (403, 4030)
            session = (await http.get(PATH, headers={"Cookie": "sid=good"})).json()
            assert {"login": "in", "by": "application", "subject": "alice"}.items() <= session.items()
            assert session["can"] == {"list": True, "start": True}


# ---------------------------------------------------------------- limits
async def test_wrong_tokens_count_as_failed_logins_and_visits_do_not() -> None:
    settings = {"auth": {"secret": SECRET}, "limits": {"failed_logins_per_address": "3/minute"}}
    with place_of(StreamingModule(settings)) as (_, server):
        async with httpx2.AsyncClient(base_url=server.url) as http:
            visits = await asyncio.gather(*(http.get(PATH) for _ in range(10)))
            assert {answer.status_code for answer in visits} == {200}
            codes = [(await http.post(PATH, json={"token": "wrong"})).status_code for _ in range(5)]
            assert codes == [401, 401, 401, 429, 429]
            assert (await http.post(PATH, json={"token": token()})).status_code == 429


@pytest.mark.parametrize(
    "wrong", ["login", "//evil.example", "/\\evil.example", "javascript:alert(1)", "data:x", "https://", "/a b", "/ü"]
)
def test_the_address_of_the_login_is_one(wrong: str) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(login_url=wrong)
    assert GatewaySettings(login_url="/login?next={next}").login_url == "/login?next={next}"
    assert GatewaySettings(login_url="https://id.example.com/").login_url == "https://id.example.com/"
