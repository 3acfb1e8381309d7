"""Connections that come at the same moment begin in turns of their addresses."""

import asyncio
import socket
import threading
from contextlib import ExitStack

import pytest
from fastapi import FastAPI, Request

from lg_streaming.gateway.hooks.front_door import FrontDoor
from lg_streaming.serving.acceptor import Acceptor
from lg_streaming.serving.guard import ConnectionGuard, Timeouts
from tests.serving.guarded import Guarded, guarded, read_all
from tests.support.server import free_socket

CROWD = 96


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


class Door:
    """An application that notes who comes. One request keeps the event loop busy until the test lets it go on."""

    def __init__(self) -> None:
        self.came: list[str] = []
        self.busy, self.go_on = threading.Event(), threading.Event()
        self.app = FastAPI()

        @self.app.get("/wait")
        async def wait() -> None:  # pyright: ignore[reportUnusedFunction]
            self.busy.set()
            self.go_on.wait(20)  # on the loop, so that all that follows comes at the same moment

        @self.app.get("/")
        async def note(request: Request) -> None:  # pyright: ignore[reportUnusedFunction]
            assert request.client is not None
            self.came.append(request.client.host)

    def gather(self, server: Guarded, stack: ExitStack, sources: list[str]) -> list[socket.socket]:
        """Connections from these addresses, in this order, each with its request, all at once for the server."""
        stack.enter_context(server.connect(get("/wait")))
        assert self.busy.wait(20)
        found = [stack.enter_context(server.connect(get("/"), source)) for source in sources]
        self.go_on.set()
        return found


@pytest.mark.parametrize("crowds", [1, 6], ids="crowds of {}".format)
def test_a_caller_does_not_wait_behind_a_crowd(crowds: int) -> None:
    door = Door()
    sources = [f"127.0.7.{1 + number % crowds}" for number in range(CROWD)]
    with guarded(door.app, Timeouts()) as server, ExitStack() as stack:
        *_, alone = door.gather(server, stack, [*sources, "127.0.0.9"])
        assert read_all(alone).startswith(b"HTTP/1.1 200")
    assert door.came.index("127.0.0.9") < CROWD // 2


def test_each_of_a_crowd_is_answered_in_its_order() -> None:
    door = Door()
    with guarded(door.app, Timeouts()) as server, ExitStack() as stack:
        for sock in door.gather(server, stack, ["127.0.7.1"] * CROWD):
            assert read_all(sock).startswith(b"HTTP/1.1 200")
    assert door.came == ["127.0.7.1"] * CROWD


def test_a_server_that_stops_closes_those_that_have_not_begun() -> None:
    door = Door()
    with ExitStack() as stack:
        with guarded(door.app, Timeouts()) as server:
            crowd = door.gather(server, stack, ["127.0.7.1"] * CROWD)
        for sock in crowd:
            read_all(sock)  # an end, not 20 s of silence
        assert server.guard.open == 0


@pytest.mark.parametrize("turns", range(5))
async def test_a_server_that_stops_at_any_turn_of_an_accept_leaves_no_socket(turns: int) -> None:
    begun: list[asyncio.BaseTransport] = []

    class Kept(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            begun.append(transport)

    listener = free_socket()
    guard = ConnectionGuard(FrontDoor(), lambda _: False, Timeouts())
    acceptor = Acceptor(lambda _: Kept(), listener, guard, context=None, backlog=100)
    with ExitStack() as stack:
        with listener:
            crowd = [stack.enter_context(socket.create_connection(listener.getsockname(), 20)) for _ in range(6)]
            async with asyncio.timeout(20):
                while not guard.open:
                    await asyncio.sleep(0)
            for _ in range(turns):
                await asyncio.sleep(0)
            acceptor.close()
            await acceptor.wait_closed()
            assert guard.open == sum(not transport.is_closing() for transport in begun)
        for transport in begun:
            transport.close()
        await asyncio.sleep(0)
        assert b"".join(read_all(sock) for sock in crowd) == b""  # each has come to its end
