"""Every frame counts: a peer that floods a WebSocket below its messages is closed with a reason."""
# pyright: reportPrivateUsage=false

import asyncio
import gc
import json
import socket
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import socketio
from websockets.asyncio.client import connect
from websockets.protocol import Protocol

from lg_streaming.errors import StreamingError
from lg_streaming.gateway.hooks.server import WebSocketTransport
from lg_streaming.gateway.transports.inbound import InboundMeter
from lg_streaming.observability.events import ClientDisconnected, GatewayEvent
from lg_streaming.settings import LimitSettings
from tests.gateway.site import Site, site
from tests.support.frames import BINARY, CLOSE, CONT, PING, PONG, TEXT, RawSocket, deflated, frame, raw_socket
from tests.support.heap import young_heap

PATIENCE = 20.0
ENGINE_IO = "/socket.io/?EIO=4&transport=websocket"
PATHS = {"websocket": "/ws", "socketio": ENGINE_IO}
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover\r\n"
LOGIN = {"websocket": b"", "socketio": frame(TEXT, b"40")}
# A deflate stream of empty blocks inflates to nothing, at any length.
EMPTY_BLOCKS = b"\0\0\0\xff\xff" * 12_000 + b"\0"


class Counts:
    """The reaction of a server to frames."""

    def __init__(self) -> None:
        self.handled = 0
        self.events: list[GatewayEvent] = []

    def __call__(self, event: GatewayEvent) -> None:
        self.events.append(event)

    async def close_code(self) -> int | None:
        """The code with which the first connection that logged in was closed."""
        async with asyncio.timeout(PATIENCE):
            while True:
                for event in self.events:
                    if isinstance(event, ClientDisconnected):
                        return event.code
                await asyncio.sleep(0.01)


@pytest.fixture(scope="module", autouse=True)
def heap() -> Generator[None]:
    """Nearly every test looks for what is still alive."""
    with young_heap():
        yield


@pytest.fixture(scope="module")
def all_counts(heap: None) -> Generator[Counts]:
    counts = Counts()
    handle = Protocol.recv_frame

    def counted(protocol: Protocol, frame: Any) -> None:
        if protocol.side.name == "SERVER":
            counts.handled += 1
        handle(protocol, frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Protocol, "recv_frame", counted)
        yield counts


@pytest.fixture
def counts(all_counts: Counts) -> Counts:
    all_counts.handled = 0
    all_counts.events.clear()
    return all_counts


@pytest.fixture(scope="module")
def place(all_counts: Counts) -> Generator[Site]:
    """One server for all: none of this may harm it."""
    with site(
        uvicorn={"ws_per_message_deflate": True}, limits={"connects_per_address": None}, observer=all_counts
    ) as running:
        yield running


@pytest.fixture(params=PATHS)
def transport(request: pytest.FixtureRequest) -> str:
    return request.param


@asynccontextmanager
async def open_raw(
    place: Site, transport: str, headers: str = "", *, login: bool = True, buffer: int | None = None
) -> AsyncGenerator[RawSocket]:
    path = PATHS[transport]
    async with raw_socket(place.server.host, place.server.port, path, headers=headers, buffer=buffer) as raw:
        if login:
            await raw.send(LOGIN[transport])
            async with asyncio.timeout(PATIENCE):
                while not place.gateway.connections:
                    await asyncio.sleep(0.005)
        yield raw


def keep_little_in_the_kernel(place: Site) -> None:
    """Have the connections of a server take over small buffers, so that its own backlog is soon reached."""
    for listening in place.server._server.servers:
        for each in listening.sockets:
            for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                each.setsockopt(socket.SOL_SOCKET, buffer, 65_536)


async def deserted(place: Site) -> None:
    async with asyncio.timeout(PATIENCE):
        while place.gateway.connections:
            await asyncio.sleep(0.01)
        while alive():
            await asyncio.sleep(0.05)


def alive() -> int:
    gc.collect()
    return sum(isinstance(each, (InboundMeter, WebSocketTransport)) for each in gc.get_objects())


# ---------------------------------------------------------------- by number
BY_NUMBER = {
    "pings": frame(PING, b"p" * 125) * 500,
    "empty pings": frame(PING) * 4_000,
    "pongs that nobody asked for": frame(PONG, b"p" * 20) * 500,
    "empty fragments": frame(TEXT, fin=False) + frame(CONT, fin=False) * 4_000,
    "small fragments": frame(TEXT, b"{", fin=False) + frame(CONT, b" ", fin=False) * 4_000,
    "fragments with pings between": frame(BINARY, fin=False) + (frame(CONT, fin=False) + frame(PING)) * 2_000,
    "messages in two fragments": (frame(TEXT, b"{", fin=False) + frame(CONT, b"}")) * 2_000,
    "empty messages": frame(TEXT) * 4_000,
    "small messages": frame(TEXT, b"3") * 4_000,
    "empty fragments, compressed": frame(TEXT, deflated(b"{"), fin=False, compressed=True)
    + frame(CONT, fin=False) * 400,
}


@pytest.mark.parametrize("kind", BY_NUMBER)
async def test_a_flood_is_closed_by_name(place: Site, counts: Counts, transport: str, kind: str) -> None:
    headers = DEFLATE if "compressed" in kind else ""
    async with open_raw(place, transport, headers) as raw:
        began = time.monotonic()
        await raw.send(BY_NUMBER[kind])
        code, reason, payloads = await raw.closed()
        took = time.monotonic() - began
        assert (code, reason) == (4293, "message_rate")
        assert any(b'"code":4293' in payload for payload in payloads)
        assert counts.handled < 300 + 120 * took
    await deserted(place)


@pytest.mark.parametrize("kind", ["pings", "pongs that nobody asked for", "empty fragments"])
async def test_a_flood_before_the_login_is_closed(place: Site, transport: str, kind: str) -> None:
    async with open_raw(place, transport, login=False) as raw:
        await raw.send(BY_NUMBER[kind])
        assert (await raw.closed())[:2] == (4293, "message_rate")
    await deserted(place)


async def test_a_flood_that_is_never_read_ends(place: Site, counts: Counts, transport: str) -> None:
    async with open_raw(place, transport) as raw:
        took = await raw.flood(BY_NUMBER["pings"], PATIENCE)
        assert took < 64 * 2**20
        assert await counts.close_code() == 4293
        assert counts.handled < 2_000
    await deserted(place)


async def test_pongs_of_engine_io_count(place: Site) -> None:
    with site(limits={"messages_per_second": None, "frames_per_second": 5, "frame_burst": 20}) as other:
        async with open_raw(other, "socketio") as raw:
            await raw.send(frame(TEXT, b"3") * 19)
            await raw.send(frame(TEXT, b'4217["ping"]'))
            await raw.until(b"4317[")
            await raw.send(frame(TEXT, b"3") * 200)
            assert (await raw.closed())[:2] == (4293, "message_rate")


async def test_each_limit_can_be_taken_away() -> None:
    free = {"messages_per_second": None, "frames_per_second": None}
    with site(limits=free) as other:
        async with open_raw(other, "websocket") as raw:
            await raw.send(frame(PONG) * 3_000 + frame(TEXT, b'{"type":"ping","id":1}') * 200)
            for _ in range(200):
                await raw.until(b'"type":"reply"')
            await raw.send(frame(CLOSE))
            assert await raw.receive() == (CLOSE, b"")


# ---------------------------------------------------------------- by bytes
BY_BYTES = {
    "bombs": frame(TEXT, deflated(b" " * 65_000), compressed=True) * 120,
    "blocks of nothing": frame(TEXT, EMPTY_BLOCKS, compressed=True) * 100,
    "large messages": frame(TEXT, b" " * 65_000) * 120,
}


@pytest.mark.parametrize("kind", BY_BYTES)
async def test_bytes_count_inflated_or_as_they_come(place: Site, counts: Counts, transport: str, kind: str) -> None:
    async with open_raw(place, transport, DEFLATE) as raw:
        await raw.send(BY_BYTES[kind])
        # The third message that is none may close before all bytes are counted.
        assert await counts.close_code() in {4293, 4000}
        assert counts.handled <= 60
    await deserted(place)


async def test_bombs_in_one_read_are_not_all_inflated(counts: Counts) -> None:
    """None of them is looked at before the read is through, so messages that are counted later do not help."""
    limits = {"messages_per_second": None, "frames_per_second": None}
    with site(uvicorn={"ws_per_message_deflate": True}, limits=limits) as place:
        async with open_raw(place, "websocket", DEFLATE) as raw:
            bomb = frame(TEXT, deflated(b'{"type":"ping","payload":{}}' + b" " * 65_000), compressed=True)
            await raw.send(bomb * 1_000)
            assert (await raw.closed())[:2] == (4293, "message_rate")
            assert counts.handled < 100


async def test_fragments_have_a_size_together(transport: str) -> None:
    with site(uvicorn={"ws_max_size": 2**24}) as place:
        async with open_raw(place, transport) as raw:
            await raw.send(frame(TEXT, b" " * 10_000, fin=False) + frame(CONT, b" " * 10_000, fin=False) * 40)
            assert (await raw.closed())[0] == 1009
        async with open_raw(place, transport) as raw:
            await raw.send(frame(TEXT, b" " * 40_000, fin=False) + frame(CONT, b" " * 40_000))
            assert (await raw.closed())[:2] == (4130, "too_large")


# ---------------------------------------------------------------- what is written
@pytest.mark.parametrize("size", [60, 125])
async def test_pongs_that_nobody_reads_count_against_the_backlog(counts: Counts, transport: str, size: int) -> None:
    limits = {"frames_per_second": None, "messages_per_second": None, "backlog_bytes": 150_000}
    with site(limits=limits, observer=counts) as place:
        keep_little_in_the_kernel(place)
        async with open_raw(place, transport, buffer=4_096) as raw:
            took = await raw.flood(frame(PING, b"p" * size) * 200, PATIENCE)
            assert await counts.close_code() == 4400
            # The pongs that the kernel takes on both sides, and the backlog; without a bound it is more each second.
            assert counts.handled * (size + 2) < 1_000_000
            # What is sent while the server waits for the answer to its close.
            assert took < 45 * 2**20
        await deserted(place)


async def test_pings_whose_pongs_are_read_are_answered(transport: str) -> None:
    with site(limits={"frames_per_second": None, "messages_per_second": None, "backlog_bytes": 100_000}) as place:
        async with open_raw(place, transport) as raw:
            for number in range(3_000):
                await raw.send(frame(PING, b"ping %08d" % number) * 2)
                if not number % 100:
                    await raw.until(b"ping %08d" % number)


# ---------------------------------------------------------------- deadlines
BEGINNINGS = {
    "a fragment": frame(TEXT, b"{", fin=False),
    "half a frame": frame(TEXT, b"{" * 100)[:50],
    "half a head": b"\x81",
    "half a ping": frame(PING, b"p" * 100)[:50],
}


@pytest.mark.parametrize("kind", BEGINNINGS)
async def test_a_message_has_to_be_complete_in_time(transport: str, kind: str) -> None:
    with site(limits={"message_timeout": 0.3}) as place:
        async with open_raw(place, transport) as raw:
            await raw.send(BEGINNINGS[kind])
            code, reason, _ = await raw.closed()
            assert (code, reason) == (4401, "dead")
        await deserted(place)


async def test_dripping_does_not_move_the_deadline(transport: str) -> None:
    with site(limits={"message_timeout": 0.4}) as place:
        async with open_raw(place, transport) as raw:
            closed = asyncio.create_task(raw.closed())
            await raw.send(frame(TEXT, b"{", fin=False))
            while not closed.done():
                await raw.send(frame(CONT, b" ", fin=False) + frame(PONG))
                await asyncio.wait({closed}, timeout=0.1)
            assert closed.result()[:2] == (4401, "dead")


async def test_messages_that_become_complete_may_go_on_for_ever() -> None:
    with site(limits={"message_timeout": 1.0}) as place:
        async with open_raw(place, "websocket") as raw:
            await raw.send(frame(TEXT, b'{"type":', fin=False))
            for number in range(15):  # at no moment nothing has begun
                await asyncio.sleep(0.1)
                await raw.send(frame(CONT, b'"ping","id":%d}' % number) + frame(TEXT, b'{"type":', fin=False))
            for _ in range(15):
                await raw.until(b'"type":"reply"')


async def test_time_in_which_the_server_does_not_read_does_not_count() -> None:
    refused: list[StreamingError] = []
    asked = 0
    limits = LimitSettings(message_timeout=0.02)
    meter = InboundMeter(limits, refused.append, lambda _: True)

    def paused() -> bool:
        nonlocal asked
        asked += 1
        return asked < 4

    meter.rest(partial=True, paused=paused)
    async with asyncio.timeout(PATIENCE):
        while not refused:
            await asyncio.sleep(0.01)
    assert (asked, refused[0].code) == (4, 4401)


# ---------------------------------------------------------------- text
@pytest.mark.parametrize(
    "frames",
    [
        frame(TEXT, b"\xff\xfe"),
        frame(TEXT, b'{"a":"\xc3', fin=False) + frame(CONT, b'"}'),
        frame(TEXT, b"\xed\xa0\x80"),
        frame(TEXT, b"abc\xe2\x82"),
    ],
)
async def test_text_that_is_not_utf_8_closes_without_a_traceback(
    place: Site, transport: str, frames: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_raw(place, transport) as raw:
        await raw.send(frames)
        assert (await raw.closed())[0] == 1007
    await deserted(place)
    assert not [record for record in caplog.records if record.exc_info]


async def test_a_letter_may_lie_in_two_fragments(place: Site) -> None:
    async with open_raw(place, "websocket") as raw:
        await raw.send(frame(TEXT, b'{"type":"ping","id":"\xc3', fin=False) + frame(PING) + frame(CONT, b'\xa9"}'))
        await raw.until('"id":"é"'.encode())


# ---------------------------------------------------------------- others
async def test_a_bystander_is_not_disturbed(place: Site) -> None:
    """Many flood at once, over and over; who asks all the while is answered."""
    blocks = list(BY_NUMBER.values())
    done = asyncio.Event()

    async def attack(number: int) -> None:
        while not done.is_set():
            transport = list(PATHS)[number % 2]
            try:
                async with raw_socket(place.server.host, place.server.port, PATHS[transport]) as raw:
                    await raw.flood(blocks[number % len(blocks)], 5)
            except ConnectionError:
                await asyncio.sleep(0.1)

    async with connect(f"{place.server.ws_url}/ws", compression=None) as bystander:
        await bystander.recv()
        attacks = [asyncio.create_task(attack(number)) for number in range(20)]
        waits: list[float] = []
        for number in range(25):
            began = time.perf_counter()
            await bystander.send(json.dumps({"type": "ping", "id": number}))
            async with asyncio.timeout(PATIENCE):
                while json.loads(await bystander.recv()).get("id") != number:
                    pass
            waits.append(time.perf_counter() - began)
            await asyncio.sleep(0.06)
        done.set()
        await asyncio.gather(*attacks)
        # Server and attackers share this process: alone the server answers far sooner.
        assert sorted(waits)[len(waits) // 2] < 1.0
    await deserted(place)


# ---------------------------------------------------------------- those who mean well
async def test_keepalive_pings_and_fragments_of_a_usual_client_pass(place: Site) -> None:
    async with connect(f"{place.server.ws_url}/ws", ping_interval=0.02, ping_timeout=5) as client:
        await client.recv()
        began = time.monotonic()
        while time.monotonic() - began < 2:
            text = json.dumps({"type": "ping", "id": 7})
            await client.send([text[at : at + 8] for at in range(0, len(text), 8)])
            async with asyncio.timeout(PATIENCE):
                assert json.loads(await client.recv())["id"] == 7
            await asyncio.sleep(0.1)


async def test_large_messages_at_the_rate_that_is_allowed_pass(place: Site, transport: str) -> None:
    async with open_raw(place, transport, DEFLATE) as raw:
        message = b'{"type":"ping",%b"id":1}' if transport == "websocket" else b'421["ping"%b]'
        for _ in range(38):
            await raw.send(frame(TEXT, message % (b" " * 65_000)))
        for _ in range(38):
            await raw.until(b'"ok":true')


async def test_the_official_client_of_python_is_never_closed() -> None:
    with site(gateway={"ping_interval": 0.05, "ping_timeout": 5}) as place:
        client = socketio.AsyncClient(reconnection=False)
        await client.connect(place.url, transports=["websocket"])
        for _ in range(30):
            answer = cast("dict[str, object]", await client.call("ping", timeout=20))
            assert answer["ok"]
            await asyncio.sleep(0.06)
        assert client.connected
        await client.disconnect()


@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
async def test_a_body_without_end_is_not_read(place: Site, transport: str, method: str) -> None:
    reader, writer = await asyncio.open_connection(place.server.host, place.server.port)
    path = "/ws" if transport == "websocket" else "/socket.io/?EIO=4&transport=polling&sid=x"
    writer.write(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000000000\r\n\r\n".encode())
    async with asyncio.timeout(PATIENCE):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head[9:12] in {b"400", b"426"}
        assert await reader.read()
    writer.close()
