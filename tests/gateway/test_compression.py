"""HTTP answers and event streams, compressed for clients that accept it."""

import asyncio
import gc
import gzip
import random
import socket
import sys
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from weakref import ref

import brotli
import httpx2
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.datastructures import Headers

from lg_streaming import StreamHub, StreamingSettings, sse_response
from lg_streaming.errors import MissingExtraError
from lg_streaming.gateway.http.compression import Coder, Compression, negotiate
from lg_streaming.gateway.http.context import HttpContext
from lg_streaming.settings import CompressionSettings, ContentCoding
from tests.gateway.site import Site, site
from tests.gateway.sse import Event, EventSource

CODINGS: tuple[ContentCoding, ...] = ("gzip", "zstd", "br", "deflate")


@pytest.fixture
async def http() -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


def coder(coding: str, **options: Any) -> Coder:
    opened = Compression(CompressionSettings(**options)).open(Headers({"accept-encoding": coding}))
    assert opened is not None
    assert opened.name == coding
    return opened


def reader(coding: str) -> Callable[[bytes], bytes]:
    """Decodes what comes, piece by piece, with the reference implementation."""
    match coding:
        case "gzip":
            return zlib.decompressobj(31).decompress
        case "deflate":
            return zlib.decompressobj(15).decompress
        case "br":
            process = cast("Any", brotli).Decompressor().process
            # A call gives back what fits its buffer; the rest has to be asked for.
            return lambda data: process(data) + process(b"")
        case _:
            return zstandard.ZstdDecompressor().decompressobj().decompress


def stream(place: Site, execution_id: str = "exec-1") -> str:
    return f"{place.url}/executions/{execution_id}/stream"


# ---------------------------------------------------------------- which coding
@pytest.mark.parametrize(
    ("wish", "coding"),
    [
        ("", None),
        ("identity", None),
        ("gzip", "gzip"),
        ("x-gzip", "gzip"),
        ("GZip;Q=0.5", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br, zstd", "gzip"),
        ("deflate, br", "br"),
        ("gzip;q=0.5, br;q=0.6", "br"),
        ("gzip;q=0.001, identity;q=0", "gzip"),
        ("gzip;q=0", None),
        ("*", "gzip"),
        ("gzip;q=0, *", "zstd"),
        ("*;q=0", None),
        ("*;q=0, br", "br"),
        ("identity, gzip;q=0.5", None),
        ("identity;q=0.5, gzip", "gzip"),
        ("identity, gzip", "gzip"),
        ("compress, lzma", None),
        (" \tgzip ; q=1.000 ,,", "gzip"),
        ("gzip;q=1.1", None),
        ("gzip;q=nan, br", "br"),
        ("gzip;q=0.1234", None),
        ("gzip;level=9", None),
        ("gzip\x00, ;q=1, =, deflate", "deflate"),
        ("gzip" + " " * 2_000, None),
        ("gzip," * 100_000, None),
    ],
)
def test_the_client_says_which_coding_it_likes(wish: str, coding: str | None) -> None:
    assert negotiate(wish, CODINGS) == coding


@given(st.text(alphabet="gzipbrdeflatzs*identiy;q=01. ,\t\0é", max_size=200))
def test_no_header_breaks_the_choice(wish: str) -> None:
    assert negotiate(wish, CODINGS) in {None, *CODINGS}


def test_several_headers_are_one() -> None:
    headers = Headers(raw=[(b"accept-encoding", b"gzip;q=0.5"), (b"accept-encoding", b"deflate")])
    opened = Compression(CompressionSettings()).open(headers)
    assert opened is not None
    assert opened.name == "deflate"


@pytest.mark.parametrize("package", ["brotli", "zstandard"])
def test_without_its_package_a_coding_is_not_offered(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    coding = {"brotli": "br", "zstandard": "zstd"}[package]
    monkeypatch.setitem(sys.modules, package, None)
    assert Compression(CompressionSettings()).open(Headers({"accept-encoding": coding})) is None
    assert Compression(CompressionSettings()).open(Headers({"accept-encoding": f"{coding}, gzip;q=0.1"})) is not None
    with pytest.raises(MissingExtraError, match=rf"'{coding}'.*pip install 'lg-streaming\[compression\]'"):
        Compression(CompressionSettings.model_validate({"codings": [coding]}))


def test_the_settings_say_which_codings_there_are_and_which_comes_first() -> None:
    both = Headers({"accept-encoding": "gzip, br, deflate, zstd"})
    chosen = Compression(CompressionSettings(codings=("zstd", "gzip"))).open(both)
    assert chosen is not None
    assert chosen.name == "zstd"
    assert Compression(CompressionSettings(codings=("zstd",))).open(Headers({"accept-encoding": "gzip"})) is None


@pytest.mark.parametrize("options", [{"http": False}, {"level": 0}])
def test_compression_can_be_off(options: dict[str, Any]) -> None:
    off = Compression(CompressionSettings.model_validate(options))
    assert off.open(Headers({"accept-encoding": "gzip, br, deflate, zstd"})) is None


# ---------------------------------------------------------------- bytes
@pytest.mark.parametrize("coding", CODINGS)
@given(
    pieces=st.lists(st.binary(max_size=300) | st.integers(1, 15_000), max_size=8),
    last=st.binary(max_size=100),
    threshold=st.sampled_from([0, 1, 500, 100_000]),
    level=st.integers(1, 9),
)
@settings(deadline=None)
def test_each_write_can_be_read_at_once(
    coding: ContentCoding, pieces: list[bytes | int], last: bytes, threshold: int, level: int
) -> None:
    writer, read = coder(coding, threshold=threshold, level=level), reader(coding)
    for piece in (b"lorem " * piece if isinstance(piece, int) else piece for piece in pieces):
        assert read(writer.write(piece)) == piece
    end = writer.finish(last)
    assert read(end) == last


@given(pieces=st.lists(st.binary(max_size=2_000), max_size=8), threshold=st.sampled_from([0, 1_024, 100_000]))
def test_checksums_and_ends_are_right(pieces: list[bytes], threshold: int) -> None:
    for coding, decode in (("gzip", gzip.decompress), ("deflate", zlib.decompress)):
        writer = coder(coding, threshold=threshold)
        assert decode(b"".join(map(writer.write, pieces)) + writer.finish()) == b"".join(pieces)


@pytest.mark.parametrize("coding", CODINGS)
def test_updates_that_leave_one_by_one_shrink_by_what_they_share(coding: ContentCoding) -> None:
    writer = coder(coding)
    updates = [
        b'id: k3f9:%d\nevent: token\ndata: {"type":"token","data":{"content":"t%d ","index":%d,"role":"ai"},"metadata":'
        b'{"timestamp":"2026-11-20T20:00:00.%03dZ","sequence_number":%d,"epoch":"k3f9","execution_id":"exec-1",'
        b'"node_id":"write"}}\n\n' % (number, number, number, number % 1_000, number)
        for number in range(500)
    ]
    assert len(b"".join(map(writer.write, updates))) < 0.25 * len(b"".join(updates))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_the_beginning_of_a_stream_is_stored_and_still_remembered(coding: ContentCoding) -> None:
    writer = coder(coding, threshold=1_000)
    unlike = bytes(range(256)) * 3
    assert unlike in writer.write(unlike)
    again = writer.write(unlike)
    assert len(again) < 100


# ---------------------------------------------------------------- on a server
@pytest.mark.row("FLOW-04")
@pytest.mark.row("CFLOW-10")
@pytest.mark.row("CFLOW-D3")
@pytest.mark.parametrize("threshold", [0, 1_024])
@pytest.mark.parametrize("coding", CODINGS)
async def test_each_update_arrives_when_it_is_published(
    http: httpx2.AsyncClient, coding: ContentCoding, threshold: int
) -> None:
    with site(gateway={"compression": {"threshold": threshold}, "heartbeat_interval": 0.05}) as place:
        place.hub.open("exec-1")
        source = EventSource(http, stream(place), headers={"Accept-Encoding": coding})
        async with source.open() as events:
            assert (await anext(events)).type == "workflow_start"
            for number in range(30):
                place.tokens("exec-1", 1, start=number)
                assert (await anext(events)).json["data"]["index"] == number
            seen, rest = len(source.comments), asyncio.create_task(_types(events))
            async with asyncio.timeout(5):
                while len(source.comments) < seen + 2:
                    await asyncio.sleep(0.01)
            await place.hub.close("exec-1")
            assert await rest == ["workflow_complete", "end"]


async def _types(events: AsyncIterator[Event]) -> list[str]:
    return [event.type async for event in events]


@pytest.mark.row("FLOW-04")
async def test_the_headers_of_a_stream(http: httpx2.AsyncClient) -> None:
    page = "https://app.example.com"
    with site(gateway={"cors_origins": [page]}) as place:
        place.hub.open("exec-1")
        await place.hub.close("exec-1")
        coded = await http.get(stream(place), headers={"Accept-Encoding": "zstd"})
        plain = await http.get(stream(place), headers={"Accept-Encoding": "identity", "Origin": page})
    assert coded.headers["content-encoding"] == "zstd"
    assert coded.headers["vary"] == "Accept-Encoding"
    assert "content-length" not in coded.headers
    assert "content-encoding" not in plain.headers
    assert {part.strip() for part in plain.headers["vary"].split(",")} == {"Origin", "Accept-Encoding"}
    assert coded.text.count("event: end") == plain.text.count("event: end") == 1


@pytest.mark.row("CFLOW-10")
@pytest.mark.parametrize("options", [{"http": False}, {"level": 0}])
async def test_a_server_that_does_not_compress(http: httpx2.AsyncClient, options: dict[str, Any]) -> None:
    with site(gateway={"compression": options}) as place:
        place.hub.open("exec-1")
        await place.hub.close("exec-1")
        for path in ("stream", ""):
            answer = await http.get(f"{place.url}/executions/exec-1/{path}".rstrip("/"))
            assert answer.request.headers["accept-encoding"]
            assert "content-encoding" not in answer.headers
            assert "vary" not in answer.headers


@pytest.mark.row("FLOW-04")
@pytest.mark.parametrize("coding", CODINGS)
async def test_an_answer_is_compressed_from_the_threshold_on(http: httpx2.AsyncClient, coding: ContentCoding) -> None:
    with site(gateway={"compression": {"threshold": 400}}) as place:
        for execution_id in ("short", "long/" + "x" * 240):
            place.hub.open(execution_id, owner="o" * 100)
            address = f"{place.url}/executions/{execution_id}"
            answer = await http.get(address, headers={"Accept-Encoding": coding})
            assert answer.json()["execution_id"] == execution_id
            assert answer.headers.get("content-encoding") == (None if execution_id == "short" else coding)
            assert answer.headers["vary"] == "Accept-Encoding"
            if execution_id != "short":
                assert int(answer.headers["content-length"]) < len(answer.content)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
async def test_curl(open_site: Site, coding: str) -> None:
    version = await asyncio.create_subprocess_exec("curl", "--version", stdout=asyncio.subprocess.PIPE)
    features = {"gzip": b"libz", "deflate": b"libz", "br": b"brotli", "zstd": b"zstd"}
    if features[coding] not in (await version.communicate())[0]:
        pytest.skip(f"this curl does not know {coding}")
    open_site.hub.open("exec-1")
    curl = await asyncio.create_subprocess_exec(
        "curl", "-sSN", "--compressed", "-H", f"Accept-Encoding: {coding}", stream(open_site), stdout=-1
    )
    assert curl.stdout is not None
    async with asyncio.timeout(10):
        for number in range(20):
            open_site.tokens("exec-1", 1, start=number)
            while f'"index":{number}'.encode() not in await curl.stdout.readline():
                pass
        await open_site.hub.close("exec-1")
        assert b"event: end" in await curl.stdout.read()
        assert await curl.wait() == 0


@pytest.mark.parametrize("coding", CODINGS)
async def test_a_reader_that_lags_can_decode_all_of_what_is_left_when_the_server_stops(coding: ContentCoding) -> None:
    """Coded bytes that wait for the reader are not lost between their neighbours."""
    with site(gateway={"compression": {"threshold": 0}}, retention={"max_bytes": 2**26}) as place:
        place.hub.open("exec-1")
        address = ("127.0.0.1", place.server.port)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        with sock:
            sock.connect(address)
            sock.sendall(
                b"GET /executions/exec-1/stream HTTP/1.1\r\nHost: localhost:%d\r\nAccept-Encoding: %b\r\n\r\n"
                % (place.server.port, coding.encode())
            )
            await asyncio.to_thread(_publish_a_lot, place)
            await _stalled(place.server.port)
            stopping = asyncio.create_task(asyncio.to_thread(place.server.stop))
            await asyncio.sleep(0.1)  # the server cancels its next write before there is room for it
            body = await asyncio.to_thread(_read_chunks, sock)
            await stopping
    text = reader(coding)(body).decode()
    numbers = [int(line.rpartition(":")[2]) for line in text.splitlines() if line.startswith("id: ")]
    assert all(second == first + 1 for first, second in pairwise(numbers))
    assert text.endswith("\n\n")
    assert "event: server_restart" in text


async def _stalled(port: int) -> None:
    """Returns when what the kernel holds for the reader has not changed for a while."""
    seen: list[str] = []
    while len(seen) < 6 or len(set(seen[-6:])) > 1:
        await asyncio.sleep(0.05)
        for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
            _, local, _, state, queues, *_ = line.split()
            if local.endswith(f":{port:04X}") and state == "01":
                seen.append(queues)


def _publish_a_lot(place: Site) -> None:
    """More than the kernel's buffers and the server's take, of what cannot be compressed."""
    source = random.Random(7)
    for _ in range(60):
        place.hub.publish("exec-1", "note", source.randbytes(100_000).hex())


def _read_chunks(sock: socket.socket) -> bytes:
    """The body of an answer in chunks."""
    with sock.makefile("rb") as file:
        while file.readline() != b"\r\n":
            pass
        parts: list[bytes] = []
        while size := int(file.readline() or b"0", 16):
            parts.append(file.read(size))
            file.readline()
        return b"".join(parts)


class _Gated:
    """A connection that takes a message of the response only while its gate is open, as a server with a full buffer."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.waiting: list[bytes] = []
        self.body = b""

    async def send(self, message: Any) -> None:
        body = message.get("body", b"")
        if not self.open.is_set():
            self.waiting.append(body)
        await self.open.wait()
        self.body += body

    async def receive(self) -> Any:
        await asyncio.Event().wait()


async def _waiting_keep_alive(gated: _Gated, **gateway: Any) -> tuple[HttpContext, asyncio.Task[None]]:
    """A compressed stream whose keep-alive waits for the client."""
    options = {"compression": {"threshold": 0}, "heartbeat_interval": 0.02, **gateway}
    hub = StreamHub(StreamingSettings.model_validate({"gateway": options, "limits": {"send_timeout": 0.1}}))
    context = HttpContext.for_hub(hub)
    scope: Any = {"type": "http", "http_version": "1.1", "headers": [(b"accept-encoding", b"gzip")]}
    hub.open("exec-1")
    serving = asyncio.create_task(sse_response(hub, "exec-1")(scope, gated.receive, gated.send))
    while b"workflow_start" not in zlib.decompressobj(31).decompress(gated.body):
        await asyncio.sleep(0.001)
    gated.open.clear()
    while not any(gated.waiting):
        await asyncio.sleep(0.001)
    return context, serving


async def test_a_keep_alive_that_waits_is_sent_once_where_the_stream_ends() -> None:
    gated = _Gated()
    context, serving = await _waiting_keep_alive(gated)
    context.close_for_restart()
    await asyncio.sleep(0.01)
    gated.open.set()
    await asyncio.wait_for(serving, 5)
    await context.gateway.hub.aclose()
    text = gzip.decompress(gated.body).decode()
    assert text.count("event: server_restart") == 1
    assert text.endswith("\n\n")


async def test_a_keep_alive_that_a_slow_client_did_not_take_in_time_is_not_missing_in_what_follows() -> None:
    gated = _Gated()
    context, serving = await _waiting_keep_alive(gated)
    await asyncio.sleep(0.15)  # `send_timeout` of the keep-alive passes
    gated.open.set()
    context.gateway.hub.publish("exec-1", "note", "afterwards")
    await context.gateway.hub.close("exec-1")
    await asyncio.wait_for(serving, 5)
    await context.gateway.hub.aclose()
    assert "afterwards" in gzip.decompress(gated.body).decode()


async def test_a_stream_and_its_compressor_are_freed_at_its_end_without_a_collection() -> None:
    gated = _Gated()
    context, serving = await _waiting_keep_alive(gated)
    gated.open.set()
    stream = ref(next(iter(context.streams)))
    gc.disable()
    try:
        await context.gateway.hub.close("exec-1")
        await asyncio.wait_for(serving, 5)
        del serving
        assert stream() is None
    finally:
        gc.enable()
    await context.gateway.hub.aclose()
