"""A connection that is kept short takes little more than its reader does."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect

from lg_streaming.gateway.delivery.frames import web_socket_frame
from lg_streaming.gateway.hooks.server import WebSocketTransport, current_transport
from tests.support.server import serve

FRAME = web_socket_frame(b"x" * 300)
SHORT = 4_096
ENOUGH = 1_000_000
QUIET = 20


async def fill(line: WebSocketTransport) -> int:
    """Writes until the line is full and stays so, or has taken enough; returns how many bytes it took."""
    taken = quiet = 0
    while quiet < QUIET and taken < ENOUGH:
        quiet = 0 if line.writable.is_set() else quiet + 1
        if line.writable.is_set():
            line.write(FRAME)
            taken += len(FRAME)
        await asyncio.sleep(0.01 if quiet else 0)
    return taken


class Filling:
    """A server whose connections are filled as soon as they are opened; then come one text more and the end."""

    def __init__(self, short: int | None) -> None:
        self._short = short
        self.filled: Future[tuple[int, int]] = Future()
        """Bytes that were taken, and how many of them wait in the process."""

    async def serve(self, websocket: WebSocket) -> None:
        line = current_transport()
        assert isinstance(line, WebSocketTransport)
        await websocket.accept()
        if self._short is not None:
            line.limit_write_buffer(self._short)
        taken = await fill(line)
        self.filled.set_result((taken, line.buffered))
        await line.wait_writable()
        line.write(web_socket_frame(b"last"))
        with suppress(WebSocketDisconnect):
            await websocket.receive_text()


@asynccontextmanager
async def stalled(filling: Filling, loop: str, *, tls: Path | None = None) -> AsyncGenerator[ClientConnection]:
    """A client with small buffers that reads only on demand."""
    options: dict[str, Any] = {"loop": loop}
    trusted = None
    if tls is not None:
        authority = trustme.CA()
        trusted = ssl.create_default_context()
        authority.configure_trust(trusted)
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tls / "cert.pem")
        options["ssl_certfile"] = tls / "cert.pem"
    with serve(Starlette(routes=[WebSocketRoute("/ws", filling.serve)]), **options) as server:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (server.host, server.port))
        address = f"{'ws' if tls is None else 'wss'}://{server.host}:{server.port}/ws"
        async with connect(address, sock=sock, ssl=trusted, compression=None, max_queue=1) as client:
            client.transport.pause_reading()
            yield client


async def read_all(client: ClientConnection) -> int:
    """Bytes of frames up to the last text."""
    client.transport.resume_reading()
    size = 0
    while await client.recv() != "last":
        size += len(FRAME)
    return size


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_what_is_taken_for_a_reader_that_does_not_read_stays_small(loop: str) -> None:
    filling = Filling(SHORT)
    async with asyncio.timeout(20), stalled(filling, loop) as client:
        taken, waiting = await asyncio.wrap_future(filling.filled)
        assert waiting <= SHORT + len(FRAME)
        assert taken < 100_000
        assert await read_all(client) == taken


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_line_that_is_not_kept_short_takes_much(loop: str) -> None:
    filling = Filling(None)
    async with asyncio.timeout(20), stalled(filling, loop) as client:
        taken, _ = await asyncio.wrap_future(filling.filled)
        assert taken >= ENOUGH
        client.transport.abort()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_under_tls_less_is_taken_too(loop: str, tmp_path: Path) -> None:
    filling = Filling(SHORT)
    async with asyncio.timeout(20), stalled(filling, loop, tls=tmp_path) as client:
        taken, _ = await asyncio.wrap_future(filling.filled)
        assert taken < ENOUGH / 2  # uvloop does not let its lower half be limited; without it, 3.6 million
        assert await read_all(client) == taken
