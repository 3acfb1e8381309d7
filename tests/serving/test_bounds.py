"""Bounds of a request: sizes, handshakes, trailers."""

import asyncio
import json
import re
from collections.abc import Generator
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.gateway.hooks.server import WebSocketTransport, current_transport
from lg_streaming.settings import AuthSettings
from tests.attacks.attack import Target
from tests.attacks.front import HANDSHAKES, TOO_MUCH, pour
from tests.gateway.tokens import SECRET
from tests.gateway.tokens import token as make_token
from tests.serving.guarded import Guarded, guarded
from tests.support.node import node_client

MIB = 1_048_576


def make_app() -> FastAPI:
    app = FastAPI()
    settings = {"auth": AuthSettings.model_validate({"secret": SECRET}), "limits": {"login_timeout": 0.5}}
    StreamingModule(StreamingSettings.model_validate(settings)).install(app)

    @app.post("/echo")
    async def echo(request: Request) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction]
        body = await request.body()
        return {"size": len(body), "fields": [name.decode() for name, _ in request.scope["headers"]]}

    @app.websocket("/line")
    async def line(websocket: WebSocket) -> None:  # pyright: ignore[reportUnusedFunction]
        await websocket.accept()
        await websocket.send_json(isinstance(current_transport(), WebSocketTransport))
        await websocket.close()

    return app


@pytest.fixture(scope="module")
def server() -> Generator[Guarded]:
    with guarded(make_app(), ws_per_message_deflate=False, log_level="warning") as running:
        yield running


def get(path: bytes = b"/health/live", *fields: bytes) -> bytes:
    lines = [b"GET %s HTTP/1.1" % path, b"Host: localhost", b"Connection: close", *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def chunked(trailer: bytes, extension: bytes = b"") -> bytes:
    head = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"3%s\r\nabc\r\n0\r\n%s\r\n" % (extension, trailer)


WITHIN: dict[str, bytes] = {
    "60 KB in one field": get(b"/health/live", b"X-A: " + b"a" * 60_000),
    "60 KB in 100 fields": get(b"/health/live", *(b"X-%d: " % n + b"a" * 590 for n in range(100))),
    "128 fields": get(b"/health/live", *(b"X-%d: a" % n for n in range(126))),
    "16 KB of query": get(b"/health/live?" + b"a" * 16_300),
    "a chunk extension": chunked(b"", b";a=" + b"b" * 10_000),
    "8 KB of trailer": chunked(b"X-A: " + b"a" * 8_000 + b"\r\n"),
}
BEYOND: dict[str, tuple[int, bytes]] = {
    "66 KB in one field": (431, get(b"/health/live", b"X-A: " + b"a" * 66_000)),
    "66 KB in 100 fields": (431, get(b"/health/live", *(b"X-%d: " % n + b"a" * 660 for n in range(100)))),
    "200 KB in one field": (431, get(b"/health/live", b"X-A: " + b"a" * 200_000)),
    "129 fields": (431, get(b"/health/live", *(b"X-%d: a" % n for n in range(127)))),
    "5,000 fields": (431, get(b"/health/live", *(b"X: a" for _ in range(5_000)))),
    "17 KB of query": (414, get(b"/health/live?" + b"a" * 16_400)),
    "17 KB of path": (414, get(b"/" + b"a" * 16_400)),
}


@pytest.mark.parametrize("name", WITHIN)
def test_a_request_within_the_bounds_is_served(server: Guarded, name: str) -> None:
    assert server.ask(WITHIN[name]).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("name", BEYOND)
def test_a_request_beyond_them_is_refused_with_a_code(server: Guarded, name: str) -> None:
    status, data = BEYOND[name]
    head, _, body = server.ask(data).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head
    assert json.loads(body)["error"]["code"] == 4130


@pytest.mark.parametrize("name", TOO_MUCH)
async def test_what_has_no_end_is_ended(server: Guarded, name: str) -> None:
    target = Target(host="127.0.0.1", port=server.port, pid=0, log=None)  # pyright: ignore[reportArgumentType]
    sent, _ = await pour(target, *TOO_MUCH[name], most=64 * MIB)
    assert sent < 64 * MIB
    assert server.ask(get()).startswith(b"HTTP/1.1 200 ")


def test_trailers_do_not_become_header_fields(server: Guarded) -> None:
    answer = server.ask(chunked(b"X-Forwarded-For: 203.0.113.9\r\nX-Late: a\r\n"))
    assert json.loads(answer.rpartition(b"\r\n\r\n")[2]) == {
        "size": 3,
        "fields": ["host", "connection", "transfer-encoding"],
    }


def test_what_is_no_http_is_refused_with_a_code_and_not_logged(
    server: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    for data in (b"\x16\x03\x01\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nA b: c\r\n\r\n", b"\0" * 100):
        assert b'"code":4000' in server.ask(data)
    assert not caplog.records


def test_callers_that_leave_or_fail_amid_a_body_are_not_logged(
    server: Guarded, caplog: pytest.LogCaptureFixture
) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
    server.connect(head + b"Content-Length: 9\r\n\r\nabc").close()
    server.ask(head + b"Content-Length: 9\r\n\r\nabc")
    server.ask(head + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\nnonsense\r\n")
    assert server.ask(get()).startswith(b"HTTP/1.1 200 ")
    assert not caplog.records


def test_garbage_after_a_request_does_not_get_into_its_answer(server: Guarded) -> None:
    with server.connect() as sock:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")
        sock.sendall(b"abc\0\0garbage\r\n\r\n")
        answer = b""
        while piece := sock.recv(65_536):
            answer += piece
    assert len(re.findall(rb"HTTP/1\.1 \d\d\d", answer)) <= 2
    assert b"HTTP/1.1" not in answer.split(b"\r\n\r\n", 1)[1].split(b"}", 1)[0]


# ---------------------------------------------------------------- WebSocket
@pytest.mark.parametrize("name", HANDSHAKES)
def test_each_handshake_is_answered_or_closed(server: Guarded, name: str, caplog: pytest.LogCaptureFixture) -> None:
    server.ask(HANDSHAKES[name])
    assert not [record for record in caplog.records if record.exc_info]


def test_what_the_application_does_not_answer_is_closed(server: Guarded) -> None:
    async def deaf(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            while (await receive())["type"] != "websocket.disconnect":
                pass

    with guarded(deaf, lifespan="off") as other:
        assert other.ask(HANDSHAKES["a cookie of 20 KB"]).startswith(b"HTTP/1.1 503 ")


async def test_the_gateway_finds_the_line_of_a_websocket(server: Guarded) -> None:
    async with connect(f"ws://127.0.0.1:{server.port}/line") as websocket:
        assert await websocket.recv() == "true"


async def test_a_token_that_one_transport_takes_is_taken_by_all(server: Guarded) -> None:
    token = make_token(padding="x" * 11_000)
    assert 14_000 < len(token) <= 16_384
    bearer = b"Authorization: Bearer " + token.encode()
    cookie = f"lg_streaming_token={token}"
    for field in (bearer, b"Cookie: " + cookie.encode()):
        assert server.ask(get(b"/executions", field)).startswith(b"HTTP/1.1 200 ")
    for headers in ({"Authorization": f"Bearer {token}"}, {"Cookie": cookie}):
        async with connect(f"ws://127.0.0.1:{server.port}/ws", additional_headers=headers) as websocket:
            assert json.loads(await websocket.recv())["type"] == "connection_status"
    async with node_client(server.url, opts={"extraHeaders": {"Cookie": cookie}}) as client:
        assert await client.event("connection_status")


async def test_a_websocket_header_beyond_the_bounds_is_refused(server: Guarded) -> None:
    with pytest.raises(InvalidStatus) as raised:
        await connect(f"ws://127.0.0.1:{server.port}/ws", additional_headers={"Cookie": "a=" + "b" * 66_000})
    assert raised.value.response.status_code == 431


async def test_connections_are_counted_no_longer_once_they_end(server: Guarded) -> None:
    async with connect(f"ws://127.0.0.1:{server.port}/line") as websocket:
        await websocket.recv()
    async with asyncio.timeout(20):
        while server.guard.open:
            await asyncio.sleep(0.01)
