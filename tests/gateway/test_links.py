"""Links: a read-only credential for one execution, over every transport, on both logs, until its end."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from starlette.requests import HTTPConnection
from websockets.asyncio.client import connect

from lg_streaming import Principal, StreamingModule
from lg_streaming.client import SSEClient
from lg_streaming.errors import (
    BadRequestError,
    ForbiddenError,
    StreamingConfigError,
    TokenExpiredError,
    UnauthorizedError,
)
from lg_streaming.gateway.auth.policy import Policy
from lg_streaming.settings import AuthSettings
from tests.gateway.contract.adapters import READERS, SOCKETS, Readers, RefusedError, first, readers_of, take, until_over
from tests.gateway.site import SECRET, Site, site
from tests.gateway.test_rest import bearer, code_of, token
from tests.gateway.tokens import peer
from tests.support.redis_server import RedisServer
from tests.support.server import serve

LIMITS = {"messages_per_second": None, "failed_logins_per_address": None, "connects_per_address": None}
TEAM: list[dict[str, Any]] = [{"actions": ["read", "control"], "executions": ["acme/*"]}]


async def _by_team(principal: Principal, action: str, execution_id: str, owner: str | None) -> bool:
    return action == "read" and execution_id.startswith(f"{principal.claims.get('team', '?')}/")


def settings(log: str = "memory://", prefix: str = "lg", **auth: Any) -> dict[str, Any]:
    return {"auth": {"secret": SECRET, **auth}, "limits": LIMITS, "log": log, "redis": {"prefix": prefix}}


@pytest.fixture(scope="module", params=["memory", "redis"])
def place(request: pytest.FixtureRequest) -> Generator[Site]:
    redis: RedisServer = request.getfixturevalue("shared_redis")
    log = "memory://" if request.param == "memory" else redis.url
    with site(authorize=_by_team, **settings(log, f"lg-{uuid4().hex[:8]}")) as running:
        for execution_id, owner in (("exec-1", "alice"), ("exec-2", "alice"), ("acme/1", "bob"), ("red/1", "carol")):
            running.hub.open(execution_id, owner=owner)
            running.tokens(execution_id, 3)
        asyncio.run(running.hub.writer.flush())
        yield running


@pytest.fixture
async def http(place: Site) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=20, base_url=place.url) as client:
        yield client


@pytest.fixture(params=READERS)
async def readers(request: pytest.FixtureRequest) -> AsyncGenerator[Readers]:
    async with readers_of(READERS[request.param]) as made:
        yield made


async def made(http: httpx2.AsyncClient, execution_id: str = "exec-1", *, expires_in: float = 600, **who: Any) -> str:
    body = {"expires_in_s": expires_in}
    answer = await http.post(f"/executions/{execution_id}/links", json=body, headers=bearer(**who))
    assert answer.status_code == 201, answer.text
    return answer.json()["link"]


def shown(link: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {link}"}


# ---------------------------------------------------------------- what it opens
async def test_a_link_reads_its_execution_over_every_transport(
    place: Site, http: httpx2.AsyncClient, readers: Readers
) -> None:
    link = await made(http)
    for _ in range(2):  # any number of times
        reader = readers(place.server, token=link)
        await reader.subscribe("exec-1")
        updates = await take(reader, 2)
        assert updates[1]["data"]["content"] == "t0 "
    for other in ("exec-2", "acme/1", "unknown"):
        with pytest.raises(RefusedError) as refused:
            await readers(place.server, token=link).subscribe(other)
        assert refused.value.code == 4030


async def test_the_answer_names_the_end(http: httpx2.AsyncClient) -> None:
    answer = (await http.post("/executions/exec-1/links", json={}, headers=bearer())).json()
    assert answer["link"].startswith("lgl_")
    assert answer["expires_in_s"] == 3600
    assert answer["expires_at"].endswith("Z")
    assert "alice" not in answer["link"]
    assert set(answer) == {"link", "expires_in_s", "expires_at"}


async def test_a_link_reads_and_does_nothing_else(http: httpx2.AsyncClient) -> None:
    headers = shown(await made(http))
    assert (await http.get("/executions/exec-1", headers=headers)).json()["owner"] == "alice"
    refused: list[tuple[str, str, Any]] = [
        ("GET", "/executions", None),
        ("GET", "/fleet", None),
        ("GET", "/metrics", None),
        ("GET", "/executions/exec-2", None),
        ("GET", "/executions/exec-2/updates", None),
        ("GET", "/executions/exec-2/stream", None),
        ("DELETE", "/executions/exec-1", None),
        ("POST", "/executions/exec-1/pause", None),
        ("POST", "/executions/exec-1/resume", None),
        ("POST", "/executions/exec-1/inputs", {"input": {}}),
        ("POST", "/executions/exec-1/responses", {"prompt_id": "p", "response": 1}),
        ("POST", "/executions/exec-1/links", {}),
        ("POST", "/executions", {"graph": "any", "input": {}}),
        ("POST", "/tickets", {"execution_id": "exec-2"}),
    ]
    for method, path, body in refused:
        answer = await http.request(method, path, json=body, headers=headers)
        assert answer.status_code in {401, 403}, (method, path, answer.text)
        assert answer.json()["error"]["code"] in {4010, 4030}, (method, path)
    assert (await http.get("/graphs", headers=headers)).json() == {"graphs": []}
    assert (await http.get("/executions/exec-1", headers=bearer())).json()["state"] == "running"


async def test_messages_of_a_link_holder(place: Site, http: httpx2.AsyncClient) -> None:
    link = await made(http)
    for kind in SOCKETS.values():
        async with readers_of(kind) as sockets:
            reader: Any = sockets(place.server, token=link)
            forbidden: dict[str, dict[str, Any]] = {
                "cancel_execution": {"execution_id": "exec-1"},
                "start_execution": {"graph": "any", "input": {}},
                "join_room": {"room_id": "lobby"},
            }
            for name, payload in forbidden.items():
                with pytest.raises(RefusedError) as refused:
                    await reader.ask(name, payload)
                assert refused.value.code == 4030
            status = await reader.ask("get_status")
            assert "subject" not in status["connection"]  # it is not the holder's
            assert 0 < status["connection"]["expires_in_s"] <= 600
            await reader.ask("subscribe_events", {})
            seen: set[str] = set()
            place.tokens("exec-2", 1)
            place.tokens("exec-1", 1)
            while not seen:
                seen.add((await first(reader, "update")).payload["metadata"]["execution_id"])
            assert seen == {"exec-1"}


async def test_a_link_can_log_a_connection_in_and_gets_tickets(place: Site, http: httpx2.AsyncClient) -> None:
    link = await made(http)
    async with connect(f"{place.server.ws_url}/ws") as socket:
        await socket.recv()
        await socket.send(json.dumps({"type": "authenticate", "payload": {"token": link}, "id": 1}))
        answer = json.loads(await socket.recv())["payload"]
        assert answer["ok"]
        assert answer["expires_in_s"] <= 600
    for execution_id, status in (("exec-1", 200), ("exec-2", 403)):
        ticket = (await http.post("/tickets", json={}, headers=shown(link))).json()["ticket"]
        for expected in (status, 401):  # a ticket is good once
            async with http.stream("GET", f"/executions/{execution_id}/stream?ticket={ticket}") as stream:
                assert stream.status_code == expected
    assert (await http.get("/executions/exec-1", headers={"X-API-Key": link})).status_code == 200


async def test_the_python_client_takes_a_link_as_its_token(place: Site, http: httpx2.AsyncClient) -> None:
    async with SSEClient(place.url, token=await made(http)) as client:
        async for update in client.subscribe("exec-1"):
            assert update.type in {"workflow_start", "token"}
            if update.type == "token":
                break


# ---------------------------------------------------------------- whose rights it has
async def test_a_link_has_the_right_of_its_issuer(http: httpx2.AsyncClient) -> None:
    granted = await made(http, "acme/1", subject="dora", lg_streaming=TEAM)
    allowed = await made(http, "red/1", subject="erik", team="red")
    for link, execution_id in ((granted, "acme/1"), (allowed, "red/1")):
        assert (await http.get(f"/executions/{execution_id}", headers=shown(link))).status_code == 200
    denied = http.post("/executions/acme/1/links", json={}, headers=bearer("mallory"))
    assert await code_of(denied) == (403, 4030)
    unknown = http.post("/executions/acme/none/links", json={}, headers=bearer("dora", lg_streaming=TEAM))
    assert await code_of(unknown) == (403, 4030)
    assert await code_of(http.post("/executions/exec-1/links", json={})) == (401, 4010)


@pytest.mark.parametrize("wrong", [0, -1, 604_801, "soon", None, True, 1e300])
async def test_the_time_is_checked(http: httpx2.AsyncClient, wrong: object) -> None:
    answer = http.post("/executions/exec-1/links", json={"expires_in_s": wrong}, headers=bearer())
    assert await code_of(answer) == (400, 4000)


async def test_claims_that_are_too_large_make_no_link(http: httpx2.AsyncClient) -> None:
    large = secrets.token_urlsafe(7_000)  # as nothing compresses it
    answer = await http.post("/executions/exec-1/links", json={}, headers=bearer(large=large))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, 4000)
    assert "too large" in answer.json()["error"]["message"]


# ---------------------------------------------------------------- its end
async def test_a_stream_ends_with_its_link(place: Site, http: httpx2.AsyncClient, readers: Readers) -> None:
    link = await made(http, expires_in=0.6)
    reader = readers(place.server, token=link)
    await reader.subscribe("exec-1")
    if reader.duplex:
        await first(reader, "other", "auth_expiring")
        while (code := await _code(reader.subscribe("exec-1"))) is None:
            pass
        assert code == 4011  # the connection has its time of grace, without updates
        return
    async with asyncio.timeout(20):
        items = await until_over(reader)
    assert items[-1].what == "closed"
    with pytest.raises(RefusedError) as refused:
        await readers(place.server, token=link).subscribe("exec-1")
    assert refused.value.code == 4011
    assert "link" in refused.value.error["message"]


async def _code(asked: Awaitable[object]) -> int | None:
    try:
        await asked
    except RefusedError as refused:
        return refused.code
    return None


@pytest.mark.parametrize("by", ["subject", "jti"])
async def test_a_revocation_of_the_issuer_voids_its_links(http: httpx2.AsyncClient, place: Site, by: str) -> None:
    name = f"of-frida-{by}"
    place.hub.open(name, owner=name)
    link = await made(http, name, subject=name, jti=name, iat=time.time() - 60)
    assert (await http.get(f"/executions/{name}", headers=shown(link))).status_code == 200
    place.gateway.policy.revoke(subject=name) if by == "subject" else place.gateway.policy.revoke(jti=name)
    assert await code_of(http.get(f"/executions/{name}", headers=shown(link))) == (401, 4010)


async def test_a_revocation_lasts_as_long_as_the_links_of_its_tokens() -> None:
    """The tokens end in a minute, a link a week later."""
    now = [time.time()]
    policy = Policy(AuthSettings.model_validate({"secret": SECRET}), clock=lambda: now[0])
    alice = Principal(subject="alice", claims={"iat": now[0] - 1})
    link = await policy.issue_link(alice, "exec-1", expires_in=604_800)
    assert (await policy.authenticate(peer(), link.text)).restricted_to == "exec-1"
    policy.revoke(subject="alice", expires_at=now[0] + 60)
    now[0] += 604_000
    for number in range(10_001):  # as many as forget those that have ended
        policy.revoke(jti=str(number), expires_at=now[0] + 60)
    with pytest.raises(UnauthorizedError):
        await policy.authenticate(peer(), link.text)
    now[0] += 1_000
    with pytest.raises(TokenExpiredError):
        await policy.authenticate(peer(), link.text)


async def test_the_application_may_revoke_a_link() -> None:
    seen: list[str] = []

    def revoked(principal: Principal) -> bool:
        seen.append(principal.source)
        return principal.source == "link"

    policy = Policy(AuthSettings.model_validate({"secret": SECRET}), revoked=revoked)
    for principal in (Principal(subject="alice"), Principal()):
        link = await policy.issue_link(principal, "exec-1", expires_in=60)
        with pytest.raises(UnauthorizedError):
            await policy.authenticate(peer(), link.text)
    assert seen == ["link", "link"]
    policy.close()


# ---------------------------------------------------------------- forgeries
async def test_a_changed_link_is_refused(http: httpx2.AsyncClient) -> None:
    link = await made(http)
    body = link.removeprefix("lgl_")
    changed = [
        f"lgl_{body[:at]}{'A' if body[at] != 'A' else 'B'}{body[at + 1 :]}" for at in (0, 5, 20, 60, len(body) - 1)
    ]
    foreign = await Policy(AuthSettings.model_validate({"secret": SECRET})).issue_link(
        Principal(subject="alice"), "exec-1", expires_in=60
    )
    for wrong in (*changed, "lgl_", link[:-4], link + "A", f"{link}=", link.replace("lgl_", "lgl_lgl_"), foreign.text):
        assert await code_of(http.get("/executions/exec-1", headers=shown(wrong))) == (401, 4010), wrong


async def test_wrong_links_count_as_failed_logins() -> None:
    with site(auth={"secret": SECRET}, limits={"failed_logins_per_address": "3/minute"}) as strict:
        async with httpx2.AsyncClient(base_url=strict.url) as http:
            codes = [(await http.get("/executions", headers=shown("lgl_abc"))).status_code for _ in range(5)]
    assert codes == [401, 401, 401, 429, 429]


async def test_a_link_in_an_address_is_refused_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with site(auth={"secret": SECRET}, uvicorn={"access_log": True, "log_level": "info"}) as place:
        place.hub.open("exec-1", owner="alice")
        async with httpx2.AsyncClient(base_url=place.url) as http:
            link = await made(http)
            for query in (f"link={link}", f"x={link}", link, f"access_token={link}", f"ticket={link}"):
                for path in ("/executions/exec-1", "/executions/exec-1/stream", "/ws", "/socket.io/"):
                    answer = await http.get(f"{path}?{query}")
                    assert answer.status_code in {400, 401, 426}, (path, query)
        async with connect(f"{place.server.ws_url}/ws?link={link}") as socket:
            assert json.loads(await socket.recv())["payload"]["code"] == 4000
    text = "\n".join(each.getMessage() for each in caplog.records if not each.name.startswith("http"))
    assert "/ws?" in text
    assert link[4:40] not in text


# ---------------------------------------------------------------- where there are none
@pytest.mark.parametrize(
    ("auth", "says"),
    [
        ({}, "authentication"),
        ({"enabled": False}, "authentication"),
        ({"secret": SECRET, "max_link_age": 0}, "max_link"),
    ],
    ids=["local mode", "off", "no links"],
)
async def test_without_authentication_there_are_no_links(auth: dict[str, Any], says: str) -> None:
    with site(auth=auth) as place:
        place.hub.open("exec-1", owner="alice")
        async with httpx2.AsyncClient(base_url=place.url) as http:
            answer = await http.post("/executions/exec-1/links", json={}, headers=bearer())
            assert (answer.status_code, answer.json()["error"]["code"]) == (403, 4030)
            assert says in answer.json()["error"]["message"]


async def test_links_without_a_limit() -> None:
    policy = Policy(AuthSettings.model_validate({"secret": SECRET, "max_link_age": None}))
    link = await policy.issue_link(Principal(subject="alice"), "exec-1", expires_in=3e8)
    assert (await policy.authenticate(peer(), link.text)).subject == "alice"
    for wrong in (2e9, float("inf"), float("nan"), 0):
        with pytest.raises(BadRequestError):
            await policy.issue_link(Principal(subject="alice"), "exec-1", expires_in=wrong)


# ---------------------------------------------------------------- the application's own logins, and its limits
async def test_links_of_an_application_that_logs_in_by_cookies() -> None:
    def authenticate(request: HTTPConnection) -> Principal | None:
        return Principal(subject=request.cookies["user"]) if "user" in request.cookies else None

    with site(authenticate=authenticate) as place:
        for execution_id in ("exec-1", "exec-2"):
            place.hub.open(execution_id, owner="alice")
        async with httpx2.AsyncClient(base_url=place.url, headers={"Cookie": "user=alice"}) as http:
            link = (await http.post("/executions/exec-1/links", json={})).json()["link"]
            # The link counts, and not the session that the browser sends with it.
            assert (await http.get("/executions/exec-1", headers=shown(link))).status_code == 200
            assert (await http.get("/executions/exec-2", headers=shown(link))).status_code == 403
            assert (await http.get("/executions/exec-2")).status_code == 200
        async with httpx2.AsyncClient(base_url=place.url) as stranger:
            assert (await stranger.get("/executions/exec-1", headers=shown(link))).status_code == 200
            assert (await stranger.get("/executions/exec-1", headers=shown("lgl_no"))).status_code == 401


async def test_readers_with_a_link_do_not_use_up_the_connections_of_its_issuer() -> None:
    with site(auth={"secret": SECRET}, limits={"connections_per_subject": 1}) as place:
        place.hub.open("exec-1", owner="alice")
        async with httpx2.AsyncClient(base_url=place.url) as http, readers_of(READERS["sse"]) as readers:
            link = await made(http)
            for credential in (link, link, token(), link):
                await readers(place.server, token=credential).subscribe("exec-1")
            with pytest.raises(RefusedError) as refused:
                await readers(place.server, token=token()).subscribe("exec-1")
            assert refused.value.code == 4291
            assert {client.subject for client in place.gateway.clients} == {None, "alice"}


# ---------------------------------------------------------------- several processes, and programs
@dataclass(frozen=True, slots=True)
class Program:
    streaming: StreamingModule
    url: str


StartProgram = Callable[[ExitStack], Program]


@pytest.fixture
def programs(shared_redis: RedisServer, redis_prefix: str) -> StartProgram:
    def start(stack: ExitStack) -> Program:
        streaming = StreamingModule(settings(shared_redis.url, redis_prefix))
        app = FastAPI()
        streaming.install(app)
        return Program(streaming, stack.enter_context(serve(app)).url)

    return start


async def test_a_link_holds_in_other_processes_and_after_a_restart(
    programs: StartProgram,
) -> None:
    with ExitStack() as first_life:
        one = programs(first_life)
        one.streaming.hub.open("exec-1", owner="alice")
        await one.streaming.hub.close("exec-1")
        async with httpx2.AsyncClient(base_url=one.url) as http:
            link = await made(http)
            of_the_program = await one.streaming.link("exec-1", expires_in=60)
    with ExitStack() as second_life:
        two, three = programs(second_life), programs(second_life)
        async with httpx2.AsyncClient() as http:
            for each in (link, of_the_program, await two.streaming.link("exec-1")):
                for url in (two.url, three.url):
                    answer = await http.get(f"{url}/executions/exec-1", headers=shown(each))
                    assert answer.status_code == 200
            two.streaming.revoke(subject="alice")
            async with asyncio.timeout(20):
                for url in (two.url, three.url):
                    while (await http.get(f"{url}/executions/exec-1", headers=shown(link))).status_code == 200:
                        await asyncio.sleep(0.01)


async def test_a_key_that_redis_lost_is_made_anew(
    programs: StartProgram, shared_redis: RedisServer, redis_prefix: str
) -> None:
    with ExitStack() as stack:
        one, two = programs(stack), programs(stack)
        one.streaming.hub.open("exec-1", owner="alice")
        before = await one.streaming.link("exec-1")
        for name in await asyncio.to_thread(shared_redis.execute, "KEYS", f"{redis_prefix}*link_key*"):
            await asyncio.to_thread(shared_redis.execute, "DEL", name)
        after = await two.streaming.link("exec-1")
        async with httpx2.AsyncClient(base_url=one.url) as http:
            assert (await http.get("/executions/exec-1", headers=shown(after))).status_code == 200
            assert (await http.get("/executions/exec-1", headers=shown(before))).status_code == 401


async def test_a_program_makes_links() -> None:
    streaming = StreamingModule(settings())
    with pytest.raises(StreamingConfigError):
        await streaming.link("exec-1")
    app = FastAPI()
    streaming.install(app)
    with serve(app) as server:
        streaming.hub.open("his", owner="alice")
        streaming.hub.open("nobodys")
        links = {
            "his": [await streaming.link("his"), await streaming.link("his", subject="alice", expires_in=5)],
            "nobodys": [await streaming.link("nobodys")],
            "later": [await streaming.link("later", subject=42)],
        }
        streaming.hub.open("later", owner="42")
        async with httpx2.AsyncClient(base_url=server.url) as http:
            for execution_id, each in ((name, link) for name, found in links.items() for link in found):
                assert (await http.get(f"/executions/{execution_id}", headers=shown(each))).status_code == 200
            foreign = await streaming.link("his", subject="mallory")
            assert (await http.get("/executions/his", headers=shown(foreign))).status_code == 403
        for wrong in (0, 1e9, float("nan")):
            with pytest.raises(BadRequestError):
                await streaming.link("his", expires_in=wrong)
        with pytest.raises(BadRequestError):
            await streaming.link("a b")
    open_to_all = StreamingModule({"auth": {"enabled": False}})
    open_to_all.install(FastAPI())
    with pytest.raises(ForbiddenError):
        await open_to_all.link("exec-1")
    await open_to_all.aclose()
