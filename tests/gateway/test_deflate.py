"""WebSocket messages compressed once for all that negotiated it."""

import asyncio
import json
import logging
import random
import string
import zlib
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

from lg_streaming.filters import ALL
from lg_streaming.gateway.delivery.frames import FrameCache, web_socket_frame
from lg_streaming.gateway.hooks.server import WebSocketTransport, current_transport
from lg_streaming.gateway.transports.deflate import Deflate, Framer
from lg_streaming.gateway.transports.packets import EncodeBatch, Packets
from lg_streaming.log.base import PendingUpdate, StoredUpdate
from lg_streaming.publisher import NO_SCOPE
from lg_streaming.settings import CompressionSettings
from tests.gateway.site import RawClient, Site, site
from tests.support.node import node_client
from tests.support.server import serve

THRESHOLD = 500
ON: dict[str, Any] = {"compression": {"websocket": True, "threshold": THRESHOLD}}
NEGOTIATES = {"ws_per_message_deflate": True}
FAR = "".join(random.Random(5).choices(string.ascii_letters, k=5_000)) * 3
"""Return a text that repeats itself, at a distance beyond a small window."""
SHORT, LONG = "s", "lorem ipsum " * 100


@pytest.fixture
def place() -> Generator[Site]:
    """A server that negotiates compression, with the setting on."""
    with site(gateway=ON, uvicorn=NEGOTIATES) as running:
        yield running


@asynccontextmanager
async def client(place: Site, **factory: Any) -> AsyncGenerator[RawClient]:
    """A client of the `websockets` package that offers compression, logged in."""
    address = f"{place.server.ws_url}/socket.io/?EIO=4&transport=websocket"
    extensions = [ClientPerMessageDeflateFactory(**factory)]
    async with connect(address, compression=None, extensions=extensions, max_size=None) as connection:
        reader = RawClient(connection)
        await reader.until('0{"sid"')
        await reader.send("40")
        await reader.event("connection_status")
        yield reader


class Frame:
    """One frame as it came."""

    def __init__(self, head: int, payload: bytes) -> None:
        self.head, self.payload = head, payload

    @property
    def compressed(self) -> bool:
        return bool(self.head & 0x40)

    @property
    def text(self) -> str:
        return self._inflated.decode() if self.compressed else self.payload.decode()

    @property
    def _inflated(self) -> bytes:
        return zlib.decompressobj(-15).decompress(self.payload + b"\0\0\xff\xff")


async def read_frame(reader: asyncio.StreamReader) -> Frame:
    head, size = await reader.readexactly(2)
    if size > 125:
        size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
    return Frame(head, await reader.readexactly(size))


@asynccontextmanager
async def wire(place: Site, offer: str | None) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A raw socket, upgraded and logged in."""
    reader, writer = await asyncio.open_connection(place.server.host, place.server.port, limit=2**24)
    try:
        extension = f"Sec-WebSocket-Extensions: {offer}\r\n" if offer else ""
        writer.write(
            (
                "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nConnection: Upgrade\r\n"
                f"Host: localhost:{place.server.port}\r\n"
                "Upgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
                f"{extension}\r\n"
            ).encode()
        )
        await reader.readuntil(b"\r\n\r\n")
        send(writer, "40")
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


def send(writer: asyncio.StreamWriter, text: str) -> None:
    data = text.encode()
    assert len(data) < 126
    writer.write(bytes((0x81, 0x80 | len(data), 0, 0, 0, 0)) + data)


async def frame_with(reader: asyncio.StreamReader, start: str) -> Frame:
    async with asyncio.timeout(10):
        while not (frame := await read_frame(reader)).text.startswith(start):
            pass
        return frame


async def subscribed(place: Site, offer: str | None) -> dict[str, Frame]:
    """The frames of the two updates of `exec-1`, a short and a long one."""
    async with wire(place, offer) as (reader, writer):
        send(writer, '42["subscribe_execution",{"execution_id":"exec-1"}]')
        return {name: await frame_with(reader, '42["event"') for name in ("short", "long")}


def publish(place: Site) -> None:
    for content in (SHORT, LONG):
        place.hub.publish("exec-1", "note", {"content": content})


def content_of(text: str) -> str:
    return json.loads(text.partition("[")[1] + text.partition("[")[2])[1]["data"]["content"]


# ---------------------------------------------------------------- frames
def decoded(frame: bytes, window_bits: int) -> str:
    head, size = frame[0], frame[1]
    payload = frame[2 if size < 126 else 4 if size == 126 else 10 :]
    if head & 0x40:
        payload += b"\0\0\xff\xff"
        # At once, zlib would look back as far as the call's own result reaches, over any window.
        inflate = zlib.decompressobj(-window_bits).decompress
        payload = b"".join(inflate(payload[start : start + 16]) for start in range(0, len(payload), 16))
    return payload.decode()


@given(
    text=st.text(max_size=2_000) | st.integers(1, 20_000) | st.none(),
    window_bits=st.integers(9, 15),
    threshold=st.sampled_from([0, 10, 1_024]),
    level=st.integers(1, 9),
)
@settings(deadline=None)
def test_a_reader_with_the_same_window_reads_it(
    text: str | int | None, window_bits: int, threshold: int, level: int
) -> None:
    text = FAR if text is None else "äb" * text if isinstance(text, int) else text
    frame = Deflate(window_bits=window_bits, threshold=threshold, level=level)(text.encode())
    assert decoded(frame, window_bits) == text
    assert len(frame) <= len(web_socket_frame(text.encode()))
    if len(text.encode()) < threshold:
        assert not frame[0] & 0x40


def test_readers_with_the_same_window_share_what_was_compressed() -> None:
    made: list[int] = []

    class Counted(Deflate):
        def __call__(self, text: bytes) -> bytes:
            made.append(self.window_bits)
            return super().__call__(text)

    chunks, packets = FrameCache(), Packets("/")
    records = [StoredUpdate.from_pending(PendingUpdate("note", NO_SCOPE, "medium", 0.0, b'{"data":1}'[:-1]), 1, "e")]
    for bits in (12, 12, 9, 12, 9):
        frame = Counted(window_bits=bits, threshold=0, level=6)
        list(chunks.frames("a", records, ALL, EncodeBatch(packets, frame)))
    list(chunks.frames("a", records, ALL, EncodeBatch(packets)))
    assert made == [12, 9]


# ---------------------------------------------------------------- on a server
@pytest.mark.row("HIVE-08")
@pytest.mark.parametrize("offer", ["permessage-deflate", "permessage-deflate; server_no_context_takeover"])
async def test_messages_from_the_threshold_on_are_compressed(place: Site, offer: str) -> None:
    publish(place)
    frames = await subscribed(place, offer)
    assert not frames["short"].compressed
    assert frames["long"].compressed
    assert len(frames["long"].payload) < len(LONG) / 3
    assert [content_of(frame.text) for frame in frames.values()] == [SHORT, LONG]


@pytest.mark.row("HIVE-08")
async def test_it_is_off_unless_set(caplog: pytest.LogCaptureFixture) -> None:
    with site(uvicorn=NEGOTIATES) as place:
        publish(place)
        frames = await subscribed(place, "permessage-deflate")
    assert not any(frame.compressed for frame in frames.values())
    assert not [record for record in caplog.records if "ws_per_message_deflate" in record.getMessage()]


async def test_who_did_not_ask_for_it_gets_plain_frames_beside_who_did(place: Site) -> None:
    publish(place)
    plain, compressed = await asyncio.gather(subscribed(place, None), subscribed(place, "permessage-deflate"))
    assert not plain["long"].compressed
    assert compressed["long"].compressed
    assert plain["long"].text == compressed["long"].text


@pytest.mark.row("HIVE-08")
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize(
    "factory", [{}, {"server_max_window_bits": 9}, {"server_no_context_takeover": True}, {"client_max_window_bits": 9}]
)
async def test_an_ordinary_client_reads_it(place: Site, factory: dict[str, Any], batch: bool) -> None:
    async with client(place, **factory) as reader:
        assert reader.connection.protocol.extensions
        options = {"execution_id": "exec-1", "batch": batch}
        place.hub.open("exec-1")
        assert (await reader.ask("subscribe_execution", options))["ok"]
        await reader.event("updates" if batch else "status")
        for number in range(40):
            content = f"{number} {FAR}" if number % 2 else str(number)
            place.hub.publish("exec-1", "note", {"content": content})
            event = await reader.event("updates" if batch else "event")
            (update,) = event["updates"] if batch else [event]
            assert update["data"]["content"] == content


@pytest.mark.row("HIVE-08")
async def test_answers_are_compressed_too(place: Site) -> None:
    for number in range(20):
        place.hub.open(f"exec-{number}/" + "x" * 50)
    async with wire(place, "permessage-deflate") as (reader, writer):
        for number in range(20):
            execution_id = f"exec-{number}/" + "x" * 50
            send(writer, f'42["subscribe_execution",{{"execution_id":"{execution_id}"}}]')
            await frame_with(reader, '42["status"')
        send(writer, '421["get_status"]')
        answer = await frame_with(reader, "431[")
    assert answer.compressed
    assert json.loads(answer.text[3:])[0]["ok"]


@pytest.mark.row("HIVE-08")
@pytest.mark.parametrize("offered", [True, False])
async def test_the_official_client_of_node(place: Site, offered: bool) -> None:
    options: dict[str, Any] = {} if offered else {"perMessageDeflate": False}
    async with node_client(place.url, opts=options) as node:
        assert (await node.emit("subscribe_execution", {"execution_id": "exec-1"}))["ok"]
        publish(place)
        assert (await node.event("event"))["data"]["content"] == SHORT
        assert (await node.event("event"))["data"]["content"] == LONG


async def test_a_server_of_another_kind_compresses_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lg_streaming.gateway.transports.websocket_connection.current_transport", lambda: None)
    with site(gateway=ON, uvicorn=NEGOTIATES) as place:
        publish(place)
        async with client(place) as reader:
            await reader.ask("subscribe_execution", {"execution_id": "exec-1"})
            assert (await reader.event("event"))["data"]["content"] == SHORT
            assert (await reader.event("event"))["data"]["content"] == LONG


async def test_the_server_may_still_send_by_itself() -> None:
    """Its messages refer to what it sent before unless it is kept from doing so, and the peer saw others between."""
    first, second = "".join(random.Random(1).choices(string.ascii_letters, k=1_000)), FAR[:1_000]

    async def talk(websocket: WebSocket) -> None:
        line = current_transport()
        assert isinstance(line, WebSocketTransport)
        await websocket.accept()
        for text in (first, second, first, second):
            await websocket.send_text(text)
            bits = line.take_over_deflate()
            assert bits is not None
            line.write(Deflate(window_bits=bits, threshold=0, level=6)(LONG.encode()))
        await websocket.close()

    with serve(Starlette(routes=[WebSocketRoute("/", talk)]), ws_per_message_deflate=True) as server:
        async with connect(server.ws_url, compression="deflate") as connection:
            seen = [message async for message in connection]
    assert seen == [text for each in (first, second, first, second) for text in (each, LONG)]


async def test_a_server_that_does_not_negotiate_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    with site(gateway=ON) as place:
        publish(place)
        for _ in range(2):
            assert not (await subscribed(place, "permessage-deflate"))["long"].compressed
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert sum("ws_per_message_deflate=True" in text for text in warnings) == 1


async def test_a_message_that_inflates_beyond_the_limit_closes(place: Site) -> None:
    async with client(place) as reader:
        await reader.send("42" + json.dumps(["x" * 20_000_000]))
        code, _ = await reader.closed()
        assert code == 1009


def test_level_0_compresses_nothing() -> None:
    framings = Framer(CompressionSettings(websocket=True, level=0))
    assert framings.framing_of(None) is web_socket_frame
