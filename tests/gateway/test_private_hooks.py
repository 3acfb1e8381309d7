"""The private parts of python-socketio, python-engineio and uvicorn that the gateway relies on are still there."""
# pyright: reportPrivateUsage=false, reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

import asyncio
import inspect
import socket
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
from engineio import async_server, async_socket, base_server
from engineio.async_drivers import asgi
from socketio import async_manager
from socketio import async_server as socketio_server
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.protocol import Protocol
from websockets.server import ServerProtocol

from lg_streaming.errors import StreamingConfigError
from lg_streaming.gateway import Gateway
from lg_streaming.gateway.hooks import engineio as _engineio
from lg_streaming.gateway.hooks.server import ServerTransport, WebSocketTransport, current_transport
from lg_streaming.hub import StreamHub
from tests.gateway.site import Site, raw_client
from tests.support.server import serve


def parameters(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def test_engineio() -> None:
    assert parameters(async_server.AsyncServer._handle_connect) == ["self", "environ", "transport", "jsonp_index"]
    assert parameters(async_server.AsyncServer._trigger_event) == ["self", "event", "args", "kwargs"]
    assert parameters(async_server.AsyncServer.handle_request) == ["self", "args", "kwargs"]
    assert parameters(async_socket.AsyncSocket._websocket_handler) == ["self", "ws"]
    assert parameters(async_socket.AsyncSocket.handle_get_request) == ["self", "environ"]
    assert parameters(async_socket.AsyncSocket.close) == ["self", "wait", "abort", "reason"]
    assert parameters(async_socket.AsyncSocket.send) == ["self", "pkt"]
    assert "handler(self)" in inspect.getsource(asgi.WebSocket.__call__)
    assert "asgi_send" in inspect.getsource(asgi.WebSocket)
    assert "raise OSError" in inspect.getsource(asgi.WebSocket.wait)
    assert "'asgi.scope'" in inspect.getsource(asgi.translate_request)
    assert base_server.BaseServer.reason.TRANSPORT_CLOSE == "transport close"


def test_the_tested_versions_are_the_declared_ones() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    declared = tomllib.loads(pyproject.read_text())["project"]["dependencies"]
    for name, (first, end) in _engineio.TESTED.items():
        assert f"{name}>={_engineio._dotted(first)},<{_engineio._dotted(end)}" in declared


@pytest.mark.parametrize("installed", ["5.17.9", "6.0.0", "6.0.0rc1"])
def test_another_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, installed: str) -> None:
    monkeypatch.setitem(_engineio._installed, "python-socketio", installed)
    with pytest.raises(StreamingConfigError, match=rf"python-socketio {installed} .*python-socketio>=5.18,<6"):
        Gateway(StreamHub())


def test_socketio() -> None:
    server = socketio_server.AsyncServer
    assert parameters(server._handle_connect) == ["self", "eio_sid", "namespace", "data"]
    assert parameters(server._handle_eio_connect) == ["self", "eio_sid", "environ"]
    assert parameters(server._handle_eio_disconnect) == ["self", "eio_sid", "reason"]
    assert parameters(server._send_packet) == ["self", "eio_sid", "pkt"]
    assert parameters(server._engineio_server_class) == ["self"]
    assert parameters(async_manager.AsyncManager.sid_from_eio_sid) == ["self", "eio_sid", "namespace"]
    assert parameters(async_manager.AsyncManager.eio_sid_from_sid) == ["self", "sid", "namespace"]


async def test_no_packet_reaches_the_dispatcher_of_python_socketio(
    open_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it called, a client could run the handlers of `connect` and `disconnect`."""
    called: list[str] = []
    for name in ("_handle_event", "_handle_event_internal", "_handle_ack", "_handle_eio_message"):

        async def note(*_: object, name: str = name) -> None:
            called.append(name)

        monkeypatch.setattr(_engineio.SocketIOServer, name, note)
    async with raw_client(open_site) as client:
        assert (await client.ask("ping"))["ok"]
        await client.send("437[]")
        await client.event("error")
        await client.send('42["disconnect"]')
        await client.closed()
    assert called == []


async def test_a_connection_keeps_nothing_of_its_request_and_has_no_room_of_its_own(open_site: Site) -> None:
    server = open_site.gateway._socketio._server
    async with raw_client(open_site) as client:
        assert (await client.ask("ping"))["ok"]
        (environ,) = server.environ.values()
        assert set(environ) <= {"asgi.receive", "asgi.send", "asgi.scope", "HTTP_CONNECTION", "HTTP_UPGRADE"}
        assert list(server.manager.rooms["/"]) == [None]
        (transport,) = server.eio.sockets.values()
        assert transport.queue is None


async def test_nothing_of_a_connection_is_kept(open_site: Site) -> None:
    server = open_site.gateway._socketio._server
    async with raw_client(open_site):
        assert len(server.eio.sockets) == len(server.environ) == 1
    async with asyncio.timeout(5):
        while server.eio.sockets or server.environ:
            await asyncio.sleep(0.01)
    assert server.manager.rooms == {}
    assert server.manager.callbacks == {}


def user_timeout(line: ServerTransport) -> int:
    return line._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_the_line_under_a_connection_is_found(http: str, loop: str) -> None:
    found: list[ServerTransport | None] = []

    async def page(_: object) -> PlainTextResponse:
        line = current_transport()
        found.append(line)
        assert line is not None
        line.set_user_timeout(7.5)
        assert user_timeout(line) == 7_500
        return PlainTextResponse(f"{line.buffered} {line.unsent}")

    async def endpoint(websocket: WebSocket) -> None:
        line = current_transport()
        found.append(line)
        assert isinstance(line, WebSocketTransport)
        assert not line.open
        await websocket.accept()
        line.limit_inbound(1_000)
        assert line._protocol.request.headers
        assert line._protocol.response.headers
        line.forget_handshake()
        assert not line._protocol.request.headers
        assert not line._protocol.response.headers
        assert line.open
        assert line.writable.is_set()
        await line.wait_writable()
        line.write(b"\x81\x02hi")
        with suppress(WebSocketDisconnect):
            await websocket.receive_text()
        line.abort()

    app = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", endpoint)])
    with serve(app, http=http, loop=loop) as server:
        async with httpx2.AsyncClient() as client:
            assert (await client.get(server.url)).status_code == 200
        async with connect(f"{server.ws_url}/ws", compression=None) as websocket:
            assert await websocket.recv() == "hi"
            await websocket.send("x")
            with pytest.raises(ConnectionClosed, match="no close frame"):
                await websocket.recv()
        async with connect(f"{server.ws_url}/ws", compression=None) as websocket:
            assert await websocket.recv() == "hi"
            await websocket.send("x" * 5_000)
            with pytest.raises(ConnectionClosed, match="1009"):
                await websocket.recv()
    assert [type(line) for line in found] == [ServerTransport, WebSocketTransport, WebSocketTransport]


async def test_outside_a_server_there_is_no_line() -> None:
    assert current_transport() is None


def test_uvicorn_reads_frames_through_the_instance_of_its_parser() -> None:
    """Were it not so, frames would no longer be counted, and nothing else would show it."""
    assert "self.conn.receive_data(data)" in inspect.getsource(WebSocketsSansIOProtocol.data_received)
    assert "self.conn.events_received()" in inspect.getsource(WebSocketsSansIOProtocol.handle_events)
    assert "self.recv_frame(frame)" in inspect.getsource(Protocol.parse)
    assert parameters(Protocol.recv_frame) == ["self", "frame"]
    protocol = ServerProtocol()
    assert protocol.reader.buffer == b""
    assert protocol.current_size is None
    protocol.reader.discard()


def test_uvicorn_awaits_its_own_shutdown_through_the_instance() -> None:
    assert "self.shutdown(" in inspect.getsource(uvicorn.Server._serve)
    assert inspect.iscoroutinefunction(uvicorn.Server.shutdown)
