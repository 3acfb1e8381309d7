"""WebSocket handshakes with an odd address or version: no token is logged, and no proxy passes for a caller."""

import base64
import logging
from collections.abc import Generator

import pytest
from fastapi import FastAPI

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.settings import AuthSettings
from tests.serving.guarded import Guarded, guarded

TOKEN = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.s3cret"


def handshake(path: str, *, host: str = "x", version: str = "1.1") -> bytes:
    key = base64.b64encode(bytes(16)).decode()
    return (
        f"GET {path} HTTP/{version}\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
    ).encode()


def local_app() -> FastAPI:
    app = FastAPI()
    StreamingModule(StreamingSettings(auth=AuthSettings())).install(app)
    return app


@pytest.fixture
def server() -> Generator[Guarded]:
    with guarded(local_app()) as running:
        yield running


@pytest.mark.parametrize(
    "path",
    [
        "/ws/?token=s3cret",
        "/socket.io?access-token=s3cret",
        "/executions/e/stream?a=1;token=s3cret",
        f"/nowhere?{TOKEN}",
        f"/nowhere?note=Token%20{TOKEN}",
        f"/ws/{TOKEN}",
        f"/ws;token={TOKEN}",
        f"http://x/ws?token={TOKEN}",
        "/ws/?ticket=s3cret",
    ],
)
def test_an_address_that_no_route_takes_is_logged_without_its_token(
    server: Guarded, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="uvicorn.error")  # whose level a server of another test may have set
    assert server.ask(handshake(path)).startswith(b"HTTP/1.1 403")
    lines = [record.getMessage() for record in caplog.records]
    assert any('"WebSocket ' in line and line.replace("%2A", "*").count("***") == 1 for line in lines), lines
    assert not [line for line in lines if "s3cret" in line]


def test_an_address_without_a_token_is_logged_as_it_is(server: Guarded, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="uvicorn.error")  # whose level a server of another test may have set
    server.ask(handshake("/nowhere/tokens;a/my-token?after=1;b&c"))
    assert any(
        '"WebSocket /nowhere/tokens%3Ba/my-token?after=1;b&c" 403' in each.getMessage() for each in caplog.records
    )


@pytest.mark.parametrize("path", ["/ws", "/socket.io/?EIO=4&transport=websocket"])
def test_a_handshake_of_http_1_0_is_refused_as_it_comes_from_a_proxy(server: Guarded, path: str) -> None:
    own = f"localhost:{server.port}"
    answer = server.ask(handshake(path, host=own, version="1.0"))
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"needs HTTP/1.1" in answer
    with server.connect(handshake(path, host=own)) as sock:
        assert sock.recv(12) == b"HTTP/1.1 101"
