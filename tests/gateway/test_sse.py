"""Server-Sent Events over real HTTP."""

import asyncio
import json
import random
import socket
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx2
import jwt
import pytest

from tests.gateway.site import SECRET, Site, site
from tests.gateway.sse import Event, EventSource


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


async def run(place: Site, execution_id: str, tokens: int, *, delay: float = 0.0) -> None:
    place.hub.open(execution_id)
    for index in range(tokens):
        place.tokens(execution_id, 1, start=index)
        if delay:
            await asyncio.sleep(delay)
    await place.hub.close(execution_id)


def stream(place: Site, execution_id: str) -> str:
    return f"{place.url}/executions/{execution_id}/stream"


async def read(source: EventSource) -> list[Event]:
    async with source.open() as events:
        return [event async for event in events]


def numbers(events: list[Event]) -> list[int]:
    return [event.json["metadata"]["sequence_number"] for event in events if event.json.get("metadata")]


def token(subject: str = "alice", **claims: Any) -> str:
    return jwt.encode({"sub": subject, "exp": int(time.time()) + 600, **claims}, SECRET, "HS256")


# ---------------------------------------------------------------- reading
@pytest.mark.row("FLOW-D7")
async def test_a_run_from_its_start_to_its_end(open_site: Site, http: httpx2.AsyncClient) -> None:
    source = EventSource(http, stream(open_site, "exec-1"))
    producing = asyncio.create_task(run(open_site, "exec-1", 100, delay=0.001))
    events = await read(source)
    await producing
    assert numbers(events) == list(range(1, 103))
    assert [event.type for event in events] == ["workflow_start", *["token"] * 100, "workflow_complete", "end"]
    for event in events[:-1]:
        metadata = event.json["metadata"]
        assert event.last_event_id == f"{metadata['epoch']}:{metadata['sequence_number']}"
    assert events[-1].json == {"execution_id": "exec-1"}
    assert events[-1].last_event_id == events[-2].last_event_id
    assert source.retry is not None
    assert 500 <= source.retry <= 3_000


@pytest.mark.row("PYEV-13", "FLOW-D14")
async def test_the_headers(open_site: Site, http: httpx2.AsyncClient) -> None:
    await run(open_site, "exec-1", 1)
    answer = await http.get(stream(open_site, "exec-1"))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache, no-transform"
    assert answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers
    head = await http.head(stream(open_site, "exec-1"))
    assert (head.status_code, head.content) == (200, b"")
    assert open_site.gateway.connections == 0


async def test_the_same_update_as_on_every_other_wire(open_site: Site, http: httpx2.AsyncClient) -> None:
    await run(open_site, "exec-1", 1)
    subscription = open_site.hub.subscribe("exec-1")
    page = await subscription.next_page()
    subscription.close()
    events = await read(EventSource(http, stream(open_site, "exec-1")))
    assert [event.data.encode() for event in events[:-1]] == [record.json for record in page.records]


@pytest.mark.row("FLOW-D6")
@pytest.mark.parametrize("seed", range(3))
async def test_coming_back_with_the_last_event_id_loses_and_repeats_nothing(
    open_site: Site, http: httpx2.AsyncClient, seed: int
) -> None:
    rng = random.Random(seed)
    source = EventSource(http, stream(open_site, "exec-1"))
    producing = asyncio.create_task(run(open_site, "exec-1", 300, delay=0.001))
    got: list[Event] = []
    while not got or got[-1].type != "end":
        some = rng.randrange(1, 80)
        async with source.open() as events:
            async for event in events:
                got.append(event)
                some -= 1
                if not some:
                    break
    await producing
    assert numbers(got) == list(range(1, 303))
    assert await read(source) == []
    assert source.status == 204


async def test_last_event_id_wins_over_after(open_site: Site, http: httpx2.AsyncClient) -> None:
    await run(open_site, "exec-1", 10)
    state = await open_site.hub.describe("exec-1")
    assert state is not None
    source = EventSource(http, stream(open_site, "exec-1"), params={"after": f"{state.epoch}:3"})
    assert numbers(await read(source)) == list(range(4, 13))
    source.last_event_id = f"{state.epoch}:9"
    assert numbers(await read(source)) == [10, 11, 12]


async def test_past_the_end_there_is_nothing_even_for_a_reader_whose_filter_left_the_end_out(
    open_site: Site, http: httpx2.AsyncClient
) -> None:
    await run(open_site, "exec-1", 5)
    source = EventSource(http, stream(open_site, "exec-1"), params={"events": "token"})
    events = await read(source)
    assert [event.type for event in events] == ["token"] * 5 + ["end"]
    assert await read(source) == []
    assert source.status == 204
    latest = EventSource(http, stream(open_site, "exec-1"), params={"after": "latest"})
    await read(latest)
    assert latest.status == 204


@pytest.mark.row("CFLOW-09", "PYEV-D5")
async def test_filters_and_plain_messages(open_site: Site, http: httpx2.AsyncClient) -> None:
    hub = open_site.hub
    hub.emitter("exec-1", node_id="write").token("a")
    hub.emitter("exec-1", node_id="plan").token("b")
    hub.publish("exec-1", "task:done", {"n": 1})
    hub.publish("exec-1", "odd\nname", {"n": 1})
    await hub.close("exec-1")

    async def types(**params: str) -> list[str]:
        return [event.type for event in await read(EventSource(http, stream(open_site, "exec-1"), params=params))]

    assert await types(events="token,task:*") == ["token", "token", "task:done", "end"]
    assert await types(node_ids="write") == ["token", "end"]
    assert await types(events="event") == ["task:done", "odd name", "end"]
    assert await types(events="task:*", named="false") == ["message", "end"]


@pytest.mark.row("CFLOW-08", "FLOW-D4", "PYEV-D9")
async def test_a_quiet_stream_is_kept_alive_and_a_follower_stays(http: httpx2.AsyncClient) -> None:
    with site(gateway={"heartbeat_interval": 0.05}) as place:
        await run(place, "exec-1", 1)
        source = EventSource(http, stream(place, "exec-1"), params={"follow": "true"})
        async with source.open() as events:
            got = [await anext(events) for _ in range(3)]
            waiting = asyncio.ensure_future(anext(events))
            async with asyncio.timeout(5):
                while source.comments.count("keep-alive") < 3:
                    await asyncio.sleep(0.01)
            await run(place, "exec-1", 1)
            got.append(await waiting)
            got += [await anext(events) for _ in range(2)]
        assert numbers(got) == list(range(1, 7))


async def test_gaps(http: httpx2.AsyncClient) -> None:
    with site(retention={"max_updates": 10}) as place:
        await run(place, "exec-1", 50)
        state = await place.hub.describe("exec-1")
        assert state is not None
        source = EventSource(http, stream(place, "exec-1"), last_event_id=f"{state.epoch}:5")
        events = await read(source)
        assert events[0].type == "gap"
        assert events[0].json == {"execution_id": "exec-1", "from": 6, "to": 42, "reason": "evicted"}
        assert numbers(events) == list(range(43, 53))
        failing = EventSource(http, stream(place, "exec-1"), {"on_gap": "fail"}, last_event_id=f"{state.epoch}:5")
        gap, error = await read(failing)
        assert (gap.type, gap.json) == ("gap", events[0].json)
        assert (error.type, error.json["code"]) == ("error", 4091)
        assert failing.last_event_id == f"{state.epoch}:5"


# ---------------------------------------------------------------- refusals have a real status
@pytest.mark.row("PYEV-D6")
@pytest.mark.parametrize(
    "path",
    [
        "/executions//stream",
        "/executions/a%20b/stream",
        "/executions/a%00b/stream",
        "/executions/a%0Ab/stream",
        "/executions/a%0D%0Aevent:%20x/stream",
        "/executions/%FF/stream",
        "/executions/%E2%80%AE/stream",
        f"/executions/{'x' * 257}/stream",
        f"/executions/{'x' * 1024}/stream",
        "/executions/a%20b",
        "/executions/a/stream?after=nonsense",
        "/executions/a/stream?batch=perhaps",
        "/executions/a/stream?delivery=at-least-once",
        "/executions/a/stream?since=yesterday",
        "/executions/a/stream?dialect=other",
        "/executions/a/stream?follow=maybe",
        "/executions/a/stream?nodes=write",
        "/executions/a/stream?min_priority=urgent",
        "/executions/a/stream?categories=",
        "/executions/a/stream?events=",
        "/executions/a/stream?token=a.b.c",
        "/executions/a/stream?access_token=a.b.c",
        "/executions/a?token=a.b.c",
        "/executions/a/stream?events=" + ",".join(f"e{index}" for index in range(200)),
    ],
)
async def test_bad_requests(open_site: Site, path: str) -> None:
    status, body = await raw_get(open_site, path)
    assert status == 400
    assert body["error"]["code"] in {4000, 4001}
    assert body["error"]["message"]


async def raw_get(place: Site, path: str, *headers: str) -> tuple[int, Any]:
    """The path as it is, which no client library leaves it."""
    reader, writer = await asyncio.open_connection(place.server.host, place.server.port)
    lines = [f"GET {path} HTTP/1.1", f"Host: localhost:{place.server.port}", "Connection: close", *headers, "", ""]
    writer.write("\r\n".join(lines).encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 5)).partition(b"\r\n\r\n")
    writer.close()
    return int(head.split()[1]), json.loads(body) if body else None


@pytest.mark.parametrize("path", ["acme/run-1", "acme%2Frun-1", "acme%2frun%2D1"])
async def test_an_id_with_a_slash_plain_or_encoded(open_site: Site, http: httpx2.AsyncClient, path: str) -> None:
    await run(open_site, "acme/run-1", 2)
    assert len(await read(EventSource(http, stream(open_site, path)))) == 5
    assert (await http.get(f"{open_site.url}/executions/{path}")).json()["execution_id"] == "acme/run-1"


async def test_tokens_by_header_or_cookie() -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("his", owner="alice")
        await place.hub.close("his")
        address = "/executions/his/stream"
        assert (await raw_get(place, address))[0] == 401
        assert (await raw_get(place, address, "Authorization: Bearer x.y.z"))[0] == 401
        assert (await raw_get(place, address, f"Authorization: Bearer {token(exp=1)}"))[1]["error"]["code"] == 4011
        forbidden = await raw_get(place, address, f"Authorization: Bearer {token('bob')}")
        unknown = await raw_get(place, "/executions/hit/stream", f"Authorization: Bearer {token('bob')}")
        assert forbidden[0] == unknown[0] == 403
        assert str(forbidden).replace("his", "hit") == str(unknown)
        async with httpx2.AsyncClient() as http:
            for headers in ({"Authorization": f"Bearer {token()}"}, {"Cookie": f"lg_streaming_token={token()}"}):
                assert len(await read(EventSource(http, stream(place, "his"), headers=headers))) == 3
            missing = await http.get(stream(place, "his"))
            assert missing.headers["www-authenticate"] == "Bearer"


@pytest.mark.row("PYEV-15")
async def test_an_authenticated_user_reads_some_categories() -> None:
    with site(auth={"secret": SECRET}) as place:
        place.hub.open("doc-7", owner="alice")
        for category in ("chat", "workflow", "document"):
            place.hub.emitter("doc-7", category=category).event("message", {"about": category})
        await place.hub.close("doc-7")
        async with httpx2.AsyncClient() as http:
            source = EventSource(
                http,
                stream(place, "doc-7"),
                params={"categories": "chat,document"},
                headers={"Authorization": f"Bearer {token()}"},
            )
            events = await read(source)
    assert [event.json["data"]["about"] for event in events[:-1]] == ["chat", "document"]


async def test_a_stream_ends_when_its_token_does() -> None:
    with site(auth={"secret": SECRET, "leeway": 0}) as place:
        place.hub.open("his", owner="alice")
        headers = {"Authorization": f"Bearer {token(exp=int(time.time()) + 2)}"}
        async with httpx2.AsyncClient() as http, asyncio.timeout(5):
            events = await read(EventSource(http, stream(place, "his"), headers=headers))
        assert [event.type for event in events] == ["workflow_start", "error"]
        assert events[-1].json["code"] == 4011
        assert place.hub.statistics().subscriptions == 0


async def test_nothing_is_open_by_default_behind_a_proxy_or_for_another_host(open_site: Site) -> None:
    for path in ("/executions/a/stream", "/executions/a"):
        for header in ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Real-IP: 127.0.0.1"):
            status, body = await raw_get(open_site, path, header)
            assert (status, body["error"]["code"]) == (401, 4010)
    async with httpx2.AsyncClient() as http:
        rebound = await http.get(f"{open_site.url}/executions/a", headers={"Host": "rebound.example.com"})
        assert rebound.status_code == 401


@pytest.mark.row("FLOW-07")
async def test_origins_and_preflights() -> None:
    with site(gateway={"cors_origins": ("https://app.example.com",)}) as place:
        await run(place, "exec-1", 1)
        async with httpx2.AsyncClient() as http:
            allowed = await http.get(stream(place, "exec-1"), headers={"Origin": "https://app.example.com"})
            assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
            assert allowed.headers["access-control-allow-credentials"] == "true"
            refused = await http.get(stream(place, "exec-1"), headers={"Origin": "https://evil.example.com"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (403, 4031)
            assert "access-control-allow-origin" not in refused.headers
            asked = await http.options(
                stream(place, "exec-1"),
                headers={"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"},
            )
            assert asked.status_code == 204
            assert "Authorization" in asked.headers["access-control-allow-headers"]
            elsewhere = await http.options(stream(place, "exec-1"), headers={"Origin": "https://evil.example.com"})
            assert elsewhere.status_code == 403


# ---------------------------------------------------------------- leaving
async def test_a_client_that_leaves_is_noticed_at_once(open_site: Site, http: httpx2.AsyncClient) -> None:
    async with EventSource(http, stream(open_site, "exec-1")).open():
        assert open_site.hub.statistics().subscriptions == 1
        assert open_site.gateway.connections == 1
    async with asyncio.timeout(1):
        while open_site.hub.statistics().subscriptions or open_site.gateway.connections:
            await asyncio.sleep(0.005)


async def test_a_reader_that_stops_reading_is_cut_off() -> None:
    with site(limits={"send_timeout": 0.3}, retention={"max_updates": 100_000, "max_bytes": 2**30}) as place:
        for _ in range(2_000):
            place.hub.publish("big", "note", {"fill": "x" * 10_000})
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        sock.connect((place.server.host, place.server.port))
        sock.sendall(b"GET /executions/big/stream HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % place.server.port)
        async with asyncio.timeout(5):
            while not place.hub.statistics().subscriptions:
                await asyncio.sleep(0.01)
            while place.hub.statistics().subscriptions:
                await asyncio.sleep(0.01)
        assert place.gateway.connections == 0
        sock.close()


async def test_too_many_connections() -> None:
    with site(limits={"connections": 1}) as place:
        async with httpx2.AsyncClient() as http, EventSource(http, stream(place, "a")).open():
            refused = await http.get(stream(place, "b"))
            assert (refused.status_code, refused.json()["error"]["code"]) == (503, 4291)
            assert refused.headers["retry-after"] == "1"


# ---------------------------------------------------------------- plain HTTP
@pytest.mark.row("AOS-18")
async def test_an_executions_state(open_site: Site, http: httpx2.AsyncClient) -> None:
    open_site.hub.open("exec-1", owner="alice")
    open_site.tokens("exec-1", 3)
    answer = (await http.get(f"{open_site.url}/executions/exec-1")).json()
    assert {key: answer[key] for key in ("execution_id", "state", "owner", "oldest")} == {
        "execution_id": "exec-1",
        "state": "running",
        "owner": "alice",
        "oldest": 1,
    }
    assert answer["position"].endswith(":4")
    assert answer["updated_at"].endswith("Z")
    page = (await http.get(f"{open_site.url}/executions/exec-1/updates")).json()
    assert answer["updated_at"] == page["updates"][-1]["metadata"]["timestamp"]
    unknown = await http.get(f"{open_site.url}/executions/nothing")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (403, 4030)


async def test_health(open_site: Site, http: httpx2.AsyncClient) -> None:
    answer = await http.get(f"{open_site.url}/health", headers={"X-Forwarded-For": "203.0.113.1"})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "protocol": 1})
