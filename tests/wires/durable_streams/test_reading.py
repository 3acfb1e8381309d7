"""Rights, the Python client, several readers and processes, shutdown, and what a reader gets after a gap."""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncGenerator, Generator
from typing import Any

import durable_streams
import httpx2
import jwt
import pytest

from lg_streaming.gateway.dialects.durable_streams import reading
from tests.support.redis_server import RedisServer
from tests.wires.durable_streams.place import Place, place

SECRET = "a secret of at least thirty-two bytes"


def bearer(subject: str, *, lasts: float = 600, **claims: Any) -> dict[str, str]:
    token = jwt.encode({"sub": subject, "exp": time.time() + lasts, **claims}, SECRET, "HS256")
    return {"Authorization": f"Bearer {token}"}


def contents(items: list[dict[str, Any]]) -> str:
    return "".join(item["data"]["content"] for item in items if item["type"] == "token")


def tokens(start: int, end: int) -> str:
    return "".join(f"t{index} " for index in range(start, end))


@contextlib.asynccontextmanager
async def client() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as http:
        yield http


def events_in(text: str) -> list[tuple[str, Any]]:
    """Return the events of a stream; a part of one at the end is an error."""
    assert text.endswith("\n\n") or not text
    lines = [each.split("\n") for each in text.split("\n\n")[:-1]]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data:"))) for name, data in lines]


async def test_the_python_client_reads_live_and_resumes(running: Place) -> None:
    running.module.hub.open("python")
    running.tokens("python", 3)
    items: list[dict[str, Any]] = []
    async with durable_streams.astream(f"{running.url}/python", offset="-1", live="sse") as response:
        async for item in response.iter_json():
            items.append(item)
            if len(items) == 4:
                running.tokens("python", 3, start=3)
            if len(items) == 7:
                running.tokens("python", 3, start=6)
            if len(items) == 8:
                break
        offset = response.offset  # this client sets it after the items of a message
    assert contents(items) == tokens(0, 7)
    await running.module.hub.close("python")
    async with durable_streams.astream(f"{running.url}/python", offset=offset, live=False) as rest:
        assert contents([item async for item in rest.iter_json()]) == tokens(6, 9)


# ---------------------------------------------------------------- rights
@pytest.fixture(scope="module")
def guarded() -> Generator[Place]:
    with place(auth={"secret": SECRET}) as it:
        it.module.hub.open("alices", owner="alice")
        it.tokens("alices", 3)
        yield it


@pytest.mark.parametrize("query", ["", "?offset=-1&live=sse", "?offset=-1&live=long-poll", "?offset=now"])
async def test_who_may_read(guarded: Place, query: str) -> None:
    async with client() as http:

        async def ask(execution_id: str, headers: dict[str, str], method: str = "GET") -> tuple[int, Any]:
            url = f"{guarded.url}/{execution_id}{query}"
            async with http.stream(method, url, headers=headers) as answer:
                whole = answer.status_code == 200 and "sse" in query
                return answer.status_code, None if whole else await answer.aread()

        assert (await ask("alices", bearer("alice")))[0] == 200
        assert (await ask("alices", {}))[0] == 401
        assert (await ask("alices", {"X-Api-Key": bearer("alice")["Authorization"]}))[0] == 200
        forbidden, unknown = await ask("alices", bearer("bob")), await ask("missing", bearer("bob"))
        assert forbidden[0] == unknown[0] == 403
        assert forbidden[1].replace(b"alices", b"missing") == unknown[1]
        assert (await ask("alices", bearer("bob"), "HEAD"))[0] == 403
        reader = bearer("carol", lg_streaming=[{"executions": ["*"], "actions": ["read"]}])
        assert (await ask("alices", reader))[0] == 200


async def test_an_event_stream_ends_cleanly_with_its_token(guarded: Place) -> None:
    # The settings forgive five seconds.
    async with client() as http, asyncio.timeout(20):
        answer = await http.get(f"{guarded.url}/alices?offset=-1&live=sse", headers=bearer("alice", lasts=-4))
        found = events_in(answer.text)
        assert found[0][0] == "data"
        assert found[-1][0] == "control"
        assert "streamClosed" not in found[-1][1]
        assert (await http.get(f"{guarded.url}/alices?offset=-1", headers=bearer("alice", lasts=-6))).status_code == 401


# ---------------------------------------------------------------- pages
async def test_a_long_history_comes_in_pages(running: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_PAGE", 5)
    running.tokens("pages", 10)
    await running.module.hub.close("pages")
    found: list[tuple[int, bool, bool]] = []
    items: list[dict[str, Any]] = []
    async with client() as http:
        offset = "-1"
        while len(found) < 4 and (not found or not found[-1][1]):
            answer = await http.get(f"{running.url}/pages?offset={offset}")
            items += answer.json()
            flags = ("stream-up-to-date" in answer.headers, "stream-closed" in answer.headers)
            found.append((len(answer.json()), *flags))
            offset = answer.headers["stream-next-offset"]
    assert found == [(5, False, False), (5, False, False), (2, True, True)]
    assert contents(items) == tokens(0, 10)


# ---------------------------------------------------------------- ends
async def test_a_long_stream_ends_cleanly_and_the_next_one_goes_on() -> None:
    with place(gateway={"max_stream_duration": 0.3}) as it:
        it.module.hub.open("long")
        it.tokens("long", 3)
        async with client() as http:
            first = events_in((await http.get(f"{it.url}/long?offset=-1&live=sse")).text)
            it.tokens("long", 3, start=3)
            offset = first[-1][1]["streamNextOffset"]
            second = events_in((await http.get(f"{it.url}/long?offset={offset}&live=sse")).text)
    items = [item for name, content in [*first, *second] if name == "data" for item in content]
    assert contents(items) == tokens(0, 6)


async def test_at_shutdown_streams_end_cleanly_and_polls_are_answered() -> None:
    with place(wait=20) as it:
        it.module.hub.open("stop")
        it.tokens("stop", 3)
        async with client() as http:
            tail = (await http.head(f"{it.url}/stop")).headers["stream-next-offset"]
            poll = asyncio.create_task(http.get(f"{it.url}/stop?offset={tail}&live=long-poll"))
            async with http.stream("GET", f"{it.url}/stop?offset=-1&live=sse") as answer:
                parts = answer.aiter_text()
                text = await anext(parts)
                while it.module.gateway.connections < 2:  # pyright: ignore[reportOptionalMemberAccess]
                    await asyncio.sleep(0.01)
                stopping = asyncio.create_task(asyncio.to_thread(it.server.stop))
                text += "".join([part async for part in parts])
            polled = await poll
            await stopping
    assert events_in(text)[-1][1]["streamNextOffset"] == tail
    assert polled.status_code == 204
    assert polled.headers["stream-next-offset"] == tail


async def test_a_reader_that_lags_gets_the_gap_as_a_message(running: Place) -> None:
    hub = running.module.hub
    hub.open("lag")
    running.tokens("lag", 2)
    async with client() as http, http.stream("GET", f"{running.url}/lag?offset=-1&live=sse") as answer:
        parts = answer.aiter_text()
        text = await anext(parts)
        running.tokens("lag", 200, start=2)  # at once: the reader cannot keep up with 40 that are kept
        await hub.close("lag")
        text += "".join([part async for part in parts])
    found = events_in(text)
    names = [name for name, _ in found]
    assert all(after == "control" for name, after in itertools.pairwise(names) if name == "data")
    items = [item for name, content in found if name == "data" for item in content]
    gaps = [item for item in items if item["type"] == "gap"]
    assert [gap["data"]["from"] for gap in gaps] == [4]
    offsets = [content["streamNextOffset"] for name, content in found if name == "control"]
    assert offsets == sorted(offsets)
    numbers = [item["metadata"]["sequence_number"] for item in items if item["type"] != "gap"]
    assert numbers == [1, 2, 3, *range(gaps[0]["data"]["to"] + 1, 205)]
    assert found[-1][1]["streamClosed"] is True


async def test_a_page_of_another_origin_may_read_the_headers() -> None:
    with place(gateway={"cors_origins": ["https://app.example.com"]}) as it:
        it.module.hub.open("cors")
        async with client() as http:
            headers = {"Origin": "https://app.example.com"}
            answer = await http.get(f"{it.url}/cors", headers=headers)
            error = await http.get(f"{it.url}/cors?offset=x", headers=headers)
            stream = http.stream("GET", f"{it.url}/cors?offset=-1&live=sse", headers=headers)
            async with stream as live:
                shown = [each.headers["access-control-expose-headers"].lower() for each in (answer, error, live)]
    for each in shown:
        assert {"stream-next-offset", "stream-cursor", "stream-up-to-date", "stream-closed"} <= set(each.split(", "))


@pytest.fixture
def two(shared_redis: RedisServer, redis_prefix: str) -> Generator[tuple[Place, Place]]:
    """Two servers on one Redis."""
    settings: dict[str, Any] = {"log": shared_redis.url, "redis": {"prefix": redis_prefix}}
    with place(**settings) as one, place(**settings) as other:
        yield one, other


async def test_two_processes_share_a_log(two: tuple[Place, Place]) -> None:
    one, other = two
    one.module.hub.open("shared")
    one.tokens("shared", 3)
    async with client() as http:
        async with asyncio.timeout(20):
            while "t2 " not in (answer := await http.get(f"{other.url}/shared")).text:
                pass
        offset = answer.headers["stream-next-offset"]
        live = asyncio.create_task(http.get(f"{other.url}/shared?offset={offset}&live=sse"))
        one.tokens("shared", 3, start=3)
        await one.module.hub.close("shared")
        found = events_in((await live).text)
    items = [item for name, content in found if name == "data" for item in content]
    assert contents(answer.json() + items) == tokens(0, 6)
    assert found[-1][1]["streamClosed"] is True
