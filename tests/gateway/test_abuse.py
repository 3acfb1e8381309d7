"""Bad input over every way in: a coded error or a clean close, no other client disturbed, nothing left behind."""

import asyncio
import gc
import json
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import quote

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from lg_streaming.gateway.session.session import Session
from lg_streaming.gateway.transports.connection import Connection
from lg_streaming.hub import Subscription
from lg_streaming.hub.wildcard import WildcardSubscription
from tests.gateway.contract.adapters import (
    PATIENCE,
    READERS,
    SOCKETS,
    RefusedError,
    SocketReader,
    readers_of,
    take,
)
from tests.gateway.site import Site, site
from tests.support.heap import young_heap

# What is sent by chance: in CI all of it.
RANDOM_MESSAGES, USUAL_MESSAGES = (50_000, 1_000) if os.environ.get("CI") else (8_000, 400)
FREE: dict[str, Any] = {"messages_per_second": None, "connects_per_address": None}


@pytest.fixture(scope="module", autouse=True)
def heap() -> Generator[None]:
    """Check that nothing is left behind."""
    with young_heap():
        yield


@pytest.fixture(scope="module")
def place() -> Generator[Site]:
    """One server for all: none of this may harm it."""
    with site(limits=FREE) as running:
        yield running


@asynccontextmanager
async def undisturbed(place: Site) -> AsyncGenerator[None]:
    """Check that another client that watches all the while gets a later update."""
    async with readers_of(READERS["websocket"]) as readers:
        bystander = readers(place.server)
        await bystander.subscribe("calm", after="latest", follow=True)
        yield
        place.hub.publish("calm", "note", {"after": "the abuse"})
        (update, *_) = await take(bystander, 1)
        assert update["metadata"]["execution_id"] == "calm"
    await deserted(place)


async def deserted(place: Site) -> None:
    async with asyncio.timeout(PATIENCE):
        while place.gateway.connections or place.hub.statistics().subscriptions:
            await asyncio.sleep(0.005)


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


# ---------------------------------------------------------------- messages, over both sockets
_SUBSCRIBE = "subscribe_execution"
_EVENTS = "subscribe_events"


def anything(*values: Any) -> tuple[Any, ...]:
    return values


MESSAGES: list[tuple[str, Any]] = [
    *[(_SUBSCRIBE, payload) for payload in ("e", 7, True, 1.5, [], ["e"], [{"execution_id": "e"}])],
    *[
        (_SUBSCRIBE, {"execution_id": bad})
        for bad in anything(None, 7, True, [], {}, "", " ", "a b", "\u0000", "a\r\nb: c")
    ],
    *[
        (_SUBSCRIBE, {"execution_id": bad})
        for bad in anything("\u2028", "\u202e", "\ufeff", "\x7f", "x" * 257, "é" * 300)
    ],
    *[(_SUBSCRIBE, {"executionId": bad}) for bad in anything(None, "", "a\tb", {"$gt": ""}, ["e"])],
    (_SUBSCRIBE, {}),
    (_SUBSCRIBE, {"execution_id": "e", "__proto__": {"admin": True}}),
    (_SUBSCRIBE, {"execution_id": "e", "constructor": 1}),
    (_SUBSCRIBE, {"execution_id": "e", "Execution_id": "f"}),
    (_SUBSCRIBE, {"execution_id": "e", "node_id": "write"}),
    *[
        (_SUBSCRIBE, {"execution_id": "e", "events": bad})
        for bad in anything("token", 7, {}, [7], [None], [""], [["a"]])
    ],
    *[
        (_SUBSCRIBE, {"execution_id": "e", "events": bad})
        for bad in anything(["x" * 257], ["x"] * 129, [{"type": "token"}])
    ],
    *[(_SUBSCRIBE, {"execution_id": "e", name: "x"}) for name in ("node_ids", "agentTypes", "categories")],
    *[(_SUBSCRIBE, {"execution_id": "e", "min_priority": bad}) for bad in anything("highest", "", 1, ["high"], "HIGH")],
    *[
        (_SUBSCRIBE, {"execution_id": "e", "since": bad})
        for bad in anything("yesterday", 0, "", "2026-11-20", "9" * 400)
    ],
    *[(_SUBSCRIBE, {"execution_id": "e", "until": bad}) for bad in anything("2026-11-20T20:00:00", [], "NaN")],
    *[(_SUBSCRIBE, {"execution_id": "e", name: "yes"}) for name in ("batch", "follow", "merge")],
    *[(_SUBSCRIBE, {"execution_id": "e", name: 1}) for name in ("batch", "follow", "merge")],
    *[(_SUBSCRIBE, {"execution_id": "e", "on_gap": bad}) for bad in anything("explode", "", 1, ["oldest"])],
    *[
        (_SUBSCRIBE, {"execution_id": "e", "after": bad})
        for bad in anything(7, "", "1", "a:b", "a:-1", "a:1e9", ":1", "a: 1")
    ],
    *[
        (_SUBSCRIBE, {"execution_id": "e", "after": bad})
        for bad in anything("a:" + "9" * 400, "é" * 300 + ":1", ["a:1"])
    ],
    (_SUBSCRIBE, {"execution_id": "e", "delivery": "at-least-once"}),
    (_SUBSCRIBE, deep(20)),
    ("unsubscribe_execution", {}),
    ("unsubscribe_execution", {"execution_id": "a b"}),
    ("unsubscribe_execution", {"execution_id": "e", "events": ["token"]}),
    *[(_EVENTS, {"executions": bad}) for bad in anything("acme/*", [7], [""], ["x" * 257], ["a"] * 129, {})],
    (_EVENTS, {"execution_id": "e"}),
    (_EVENTS, {"follow": True}),
    ("unsubscribe_events", {"executions": ["a"]}),
    *[("join_room", {"room_id": bad}) for bad in anything(None, "", "a b", "x" * 252, 7, [], "\n")],
    ("join_room", {"room_id": "a", "token": "b"}),
    ("leave_room", {"room": "a"}),
    ("authenticate", {}),
    ("authenticate", {"token": ""}),
    ("authenticate", {"token": 7}),
    ("authenticate", {"token": ["a"], "apiKey": "b"}),
    ("ping", {"extra": 1}),
    ("get_status", {"secret": True}),
    *[
        (name, {})
        for name in ("shout", "", "Ping", "ping ", "__init__", "handle", "x" * 5_000, "subscribe_execution\u0000")
    ],
]


@pytest.fixture(params=SOCKETS)
async def reader(request: pytest.FixtureRequest, place: Site) -> AsyncGenerator[SocketReader]:
    async with readers_of(SOCKETS[request.param]) as readers:
        made = readers(place.server)
        assert isinstance(made, SocketReader)
        yield made


@pytest.mark.parametrize("number", range(len(MESSAGES)))
async def test_a_bad_message_is_answered(place: Site, reader: SocketReader, number: int) -> None:
    name, payload = MESSAGES[number]
    async with undisturbed(place):
        with pytest.raises(RefusedError) as refused:
            await reader.ask(name, payload)
        assert refused.value.code in {4000, 4001}
        assert len(refused.value.error["message"]) < 1_000
        assert (await reader.ask("ping"))["ok"]
        assert not reader.kept or reader.kept[0].what == "other"
        await reader.aclose()


# ---------------------------------------------------------------- what is no message, on the plain WebSocket
FRAMES: list[str | bytes] = [
    *["", " ", "null", "true", "7", '"ping"', "[]", "{}", "{", "[", '{"type":', '{"type":"ping"', "{'type':'ping'}"],
    *['{"type":7}', '{"type":null}', '{"type":["ping"]}', '{"type":{}}', '{"payload":{}}', '{"TYPE":"ping"}'],
    *[
        '{"type":"ping","extra":1}',
        '{"type":"ping","__proto__":{}}',
        '{"type":"ping"}x',
        '{"type":"ping"}{"type":"ping"}',
    ],
    *[f'{{"type":"ping","id":{bad}}}' for bad in ("true", "[]", "{}", "1.5", "1e400", "NaN", "-", "9" * 400)],
    *['{"type":"\\ud800"}', '{"type":"ping","id":"\\udfff"}', "42[]", '42["ping"]', "2probe", "\u0000", "\ufeff{}"],
    *["[" * 40, '{"a":' * 40, "[" * 30_000, '{"type":"ping","payload":' + "[" * 33 + "]" * 33 + "}", '"' * 40_000],
    *[b"", b'{"type":"ping"}', b"\xff\xfe", bytes(1_000)],
    *["-Infinity", "\u2028", "\\u0000", "<xml/>", "GET / HTTP/1.1\r\n\r\n"],
]


@pytest.mark.parametrize("number", range(len(FRAMES)))
async def test_what_is_no_message_is_answered_and_the_third_closes(place: Site, number: int) -> None:
    async with undisturbed(place), connect(f"{place.server.ws_url}/ws", max_size=None) as socket:
        await socket.recv()
        for _ in range(3):
            await socket.send(FRAMES[number])
        async with asyncio.timeout(PATIENCE):
            told = [json.loads(await socket.recv()) for _ in range(3)]
            await socket.wait_closed()
        assert [message["type"] for message in told] == ["error"] * 3
        assert {message["payload"]["code"] for message in told} == {4000}
        assert socket.close_code == 4000


# ---------------------------------------------------------------- HTTP
REQUESTS: list[tuple[str, dict[str, str]]] = [
    *[
        (f"e/stream?{query}", {})
        for query in ("x=1", "EVENTS=token", "token=a.b.c", "access_token=x", "jwt=x", "auth=x")
    ],
    *[(f"e/stream?batch={bad}", {}) for bad in ("", "yes", "2", "True%00", "[]")],
    *[(f"e/stream?follow={bad}", {}) for bad in ("maybe", "-1")],
    *[(f"e/stream?named={bad}", {}) for bad in ("1.0", "none")],
    *[(f"e/stream?after={quote(bad)}", {}) for bad in ("7", "a:b", ":", "a:-1", "a:\r\nb", "é:1", "x" * 3_000)],
    *[(f"e/stream?on_gap={bad}", {}) for bad in ("explode", "", "OLDEST")],
    *[(f"e/stream?min_priority={bad}", {}) for bad in ("none", "", "9")],
    *[(f"e/stream?since={bad}", {}) for bad in ("now", "2026-13-01T00:00:00Z", "2026-11-20T20:00:00", "0")],
    ("e/stream?events=" + ",".join(["x"] * 129), {}),
    ("e/stream?events=" + "x" * 257, {}),
    *[
        (f"{bad}/stream", {})
        for bad in ("a%20b", "%00", "%0d%0aX-Evil:1", "%ff%fe", "x" * 257, "%e2%80%a8", "a%7fb", "")
    ],
    *[("e/stream", {"Last-Event-ID": bad}) for bad in ("7", "a:b", "latest!", "a:1:2", "x" * 5_000, "é:1")],
    *[("e/stream", {"Origin": bad}) for bad in ("null", "https://evil.example.com", "http://127.0.0.1", "x")],
    *[("e/stream", {"Host": bad}) for bad in ("evil.example.com", "127.0.0.1.evil.com", "169.254.169.254")],
    *[
        ("e/stream", {name: "127.0.0.1"})
        for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via", "CF-Connecting-IP")
    ],
]


@pytest.mark.parametrize("number", range(len(REQUESTS)))
async def test_a_bad_request_has_a_status_and_an_error(place: Site, number: int) -> None:
    path, headers = REQUESTS[number]
    async with undisturbed(place):
        lines = {"Host": f"127.0.0.1:{place.server.port}", "Connection": "close", **headers}
        request = f"GET /executions/{path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
        stream, writer = await asyncio.open_connection(place.server.host, place.server.port)
        writer.write(request.encode("latin-1", "replace"))
        async with asyncio.timeout(PATIENCE):
            answer = await stream.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        status = int(head.split()[1])
        assert status in {400, 401, 403}, head
        assert b"evil:1" not in head.lower()
        error = json.loads(body)["error"]
        assert error["code"] // 10 == status if status != 400 else error["code"] in {4000, 4001}


def test_there_are_enough_cases() -> None:
    assert len(MESSAGES) * len(SOCKETS) + len(FRAMES) + len(REQUESTS) >= 300


# ---------------------------------------------------------------- chance
_VALID: list[tuple[str, Any]] = [
    (_SUBSCRIBE, {"execution_id": "e", "events": ["token", "task:*"], "after": "abc:17", "batch": True}),
    (_SUBSCRIBE, {"executionId": "calm", "follow": True, "on_gap": "tail", "since": "2026-11-20T20:00:00Z"}),
    ("unsubscribe_execution", {"execution_id": "e"}),
    (_EVENTS, {"executions": ["acme/*", "**"], "events": ["token"]}),
    ("unsubscribe_events", {"events": ["token"]}),
    ("join_room", {"room_id": "lobby"}),
    ("leave_room", {"room_id": "lobby"}),
    ("authenticate", {"token": "a.b.c"}),
    ("ping", {}),
    ("get_status", {}),
]
_NASTY = [
    *["\u0000", "\\u0000", "\\ud800", '"', "\\", "{", "}", "[", "]", ",", ":", "null", "true", "-1", "1e999", "NaN"],
    *[
        "9" * 40,
        "[" * 40,
        '{"a":' * 40,
        "\u2028",
        "🐍",
        "**",
        "../",
        "%00",
        "\r\n",
        "__proto__",
        "connect",
        "51-",
        "4",
        "1",
    ],
]


def mutated(rng: random.Random, text: str) -> str | bytes:
    """A message that was valid once."""
    for _ in range(rng.choice((1, 1, 1, 2, 3, 8))):
        at, end = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        match rng.randrange(6):
            case 0:
                text = text[:at] + rng.choice(_NASTY) + text[at:]
            case 1:
                text = text[:at] + text[end:]
            case 2:
                text = text[:end] + text[at:end] + text[end:]
            case 3:
                text = text[:at]
            case 4:
                text = text[:at] + chr(rng.choice((rng.randrange(128), rng.randrange(0xD800)))) + text[at + 1 :]
            case _:
                text = text[:at] + text[at:end][::-1] + text[end:]
    text = text[:4_000]
    return text.encode() if rng.random() < 0.01 else text


def distorted(rng: random.Random, payload: Any) -> Any:
    """A payload of which some part is something else; it still is JSON."""
    if rng.random() < 0.3:
        return rng.choice([None, True, -1, 2**63, 1e308, "", "x" * 300, [], {}, [payload], {"a": payload}, *_NASTY])
    if isinstance(payload, dict) and payload:
        fields: dict[str, Any] = payload  # pyright: ignore[reportUnknownVariableType]
        name = rng.choice(list(fields))
        return {**fields, rng.choice([name, name, name + "s", "events"]): distorted(rng, fields[name])}
    return rng.choice(["a", "token", "calm", "a/*", "a:1", 7])


async def fuzz(reader: SocketReader, rng: random.Random, packets: int) -> None:
    """Sends up to so many on one connection without waiting for answers."""
    socket = await reader.open()

    async def listen() -> None:
        with suppress(ConnectionClosed):
            async for _ in socket:
                pass

    listening = asyncio.create_task(listen())
    with suppress(ConnectionClosed):
        for sent in range(packets):
            name, payload = rng.choice(_VALID)
            if rng.random() < 0.6:
                await socket.send(reader.encode(name, distorted(rng, payload), sent))
            else:
                await socket.send(mutated(rng, reader.encode(name, payload, sent)))
    await reader.aclose()
    await listening


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Return how many of the sent messages a server took and answered."""
    counts: Counter[str] = Counter()

    def counting(name: str) -> None:
        original = getattr(Connection, name)

        def call(*arguments: Any) -> Any:
            counts["all"] += 1
            return original(*arguments)

        monkeypatch.setattr(Connection, name, call)

    for name in ("received", "malformed", "on_reserved_event"):
        counting(name)
    return counts


async def fuzz_all(place: Site, looked_at: Counter[str], total: int, *, per_connection: int) -> None:
    for number, (kind, each) in enumerate(SOCKETS.items(), 1):
        rng = random.Random(f"{kind} {total}")
        async with undisturbed(place), readers_of(each) as readers:
            while looked_at["all"] < total * number / len(SOCKETS):
                made = readers(place.server)
                assert isinstance(made, SocketReader)
                await fuzz(made, rng, per_connection)
                readers.made.clear()


def alive() -> int:
    gc.collect()
    return sum(isinstance(each, (Session, Connection, WildcardSubscription, Subscription)) for each in gc.get_objects())


async def survived(place: Site, before: int) -> None:
    await deserted(place)
    async with asyncio.timeout(PATIENCE):
        while alive() > before:
            await asyncio.sleep(0.1)
    rooms = place.gateway._context.rooms.sizes()  # pyright: ignore[reportPrivateUsage]
    assert (rooms, place.hub.statistics().executions) == ({}, 1)


async def test_thousands_of_random_messages(monkeypatch: pytest.MonkeyPatch, looked_at: Counter[str]) -> None:
    # Without this the third message that is malformed closes, and most of them would not be looked at.
    monkeypatch.setattr("lg_streaming.gateway.session.session._MAX_VIOLATIONS", 1_000_000)
    with site(limits=FREE) as place:
        before = alive()
        await fuzz_all(place, looked_at, RANDOM_MESSAGES, per_connection=500)
        await survived(place, before)


async def test_random_messages_with_the_usual_limits(looked_at: Counter[str]) -> None:
    with site(limits={"connects_per_address": None}) as place:
        before = alive()
        await fuzz_all(place, looked_at, USUAL_MESSAGES, per_connection=60)
        await survived(place, before)
