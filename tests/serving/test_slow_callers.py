"""Limits of a slow caller's time and connections."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from fastapi import FastAPI, Request, Response
from starlette.responses import StreamingResponse

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.gateway.hooks.front_door import FrontDoor
from lg_streaming.serving import HTTPProtocol, WebSocketProtocol
from lg_streaming.serving.guard import MARGIN, SPARES_PER_ADDRESS, ConnectionGuard, Timeouts
from lg_streaming.settings import LimitSettings
from tests.attacks.front import SLOW
from tests.serving.conftest import Pki
from tests.serving.guarded import SHORT, Guarded, guarded, read_all
from tests.support.server import serve

GET = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
BUSY = b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = Timeouts(header=60, body=60)


def make_app(**limits: Any) -> FastAPI:
    app = FastAPI()
    StreamingModule(StreamingSettings(limits=LimitSettings(**limits))).install(app)

    @app.get("/slow")
    async def slow() -> StreamingResponse:  # pyright: ignore[reportUnusedFunction]
        async def lines() -> AsyncGenerator[bytes]:
            for _ in range(20):
                yield b"x"
                await asyncio.sleep(0.1)

        return StreamingResponse(lines())

    @app.get("/large")
    async def large() -> Response:  # pyright: ignore[reportUnusedFunction]
        return Response(b"x" * 50_000_000)

    @app.post("/size")
    async def size(request: Request, after: float = 0) -> int:  # pyright: ignore[reportUnusedFunction]
        await asyncio.sleep(after)
        return len(await request.body())

    return app


@pytest.fixture(scope="module")
def server() -> Generator[Guarded]:
    with guarded(make_app()) as running:
        yield running


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ---------------------------------------------------------------- deadlines
@pytest.mark.parametrize("kind", [kind for kind in SLOW if kind != "busy"])
def test_a_slow_writer_is_ended_however_it_drips(server: Guarded, kind: str) -> None:
    start, drop = SLOW[kind]
    with server.connect(start) as sock:
        sock.settimeout(0.05)
        answer, ended, deadline = b"", False, time.monotonic() + 20
        while not ended:
            assert time.monotonic() < deadline
            try:
                if drop:
                    sock.send(drop)
                piece = sock.recv(65_536)
                answer, ended = answer + piece, not piece
            except TimeoutError:
                pass
            except ConnectionError:
                ended = True
        if kind in {"header", "WebSocket handshake"}:
            assert answer.startswith(b"HTTP/1.1 408 ")
    wait_until(lambda: server.guard.open == 0)


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x01\x01\x00\x01"])
def test_a_tls_handshake_has_to_come_in_time(pki: Pki, hello: bytes) -> None:
    with guarded(make_app(), ssl_certfile=pki.certfile, ssl_keyfile=pki.keyfile) as server:
        with server.connect(hello) as sock, suppress(ConnectionError):
            assert sock.recv(10) == b""
        with pki.context.wrap_socket(server.connect(), server_hostname="127.0.0.1") as tls:
            tls.sendall(GET)
            assert tls.recv(65_536).startswith(b"HTTP/1.1 200 ")
        silent = pki.context.wrap_socket(server.connect(), server_hostname="127.0.0.1")
        with silent, suppress(ConnectionError, ssl.SSLError):
            assert silent.recv(10) == b""
        wait_until(lambda: server.guard.open == 0)


def test_a_later_request_has_its_own_deadline(server: Guarded) -> None:
    with server.connect(GET.replace(b"Connection: close\r\n", b"")) as sock:
        assert sock.recv(65_536).startswith(b"HTTP/1.1 200 ")
        sock.sendall(b"GET /health/live HTTP/1.1\r\nHo")
        assert b"HTTP/1.1 408 " in read_all(sock)


def test_an_answer_may_take_longer(server: Guarded) -> None:
    assert server.ask(BUSY.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).count(b"x") == 20


def test_a_body_that_comes_steadily_is_read_to_its_end(server: Guarded) -> None:
    with server.connect(b"POST /size HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4000\r\n\r\n") as sock:
        for _ in range(20):
            sock.sendall(b"x" * 200)
            time.sleep(0.08)  # two of the intervals, at 2,500 bytes a second
        assert read_all(sock).endswith(b"\r\n\r\n4000")


def test_an_application_that_reads_late_is_not_held_against_the_caller(server: Guarded) -> None:
    head = b"POST /size?after=1.5 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n"
    assert server.ask(head + b"x" * 300_000).endswith(b"\r\n\r\n300000")


def test_a_peer_that_reads_nothing_is_cut_off(server: Guarded) -> None:
    with server.connect(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n"):
        wait_until(lambda: server.guard.open == 1)
        wait_until(lambda: server.guard.open == 0)


def test_a_peer_that_reads_slowly_gets_all(server: Guarded) -> None:
    with server.connect(b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as sock:
        got = 0
        while piece := sock.recv(2_000_000):
            got += len(piece)
            if got < 10_000_000:
                time.sleep(0.1)
    assert got > 50_000_000


# ---------------------------------------------------------------- counts
def statuses(server: Guarded, count: int, source: str = "127.0.0.1", path: bytes = b"/executions") -> list[bytes]:
    data = GET.replace(b"/health/live", path).replace(b"localhost", b"127.0.0.1:%d" % server.port)
    return [server.ask(data, source)[9:12] for _ in range(count)]


def test_a_silent_connection_makes_room_for_a_new_one() -> None:
    with guarded(make_app(connections_per_address=4), Timeouts(evict_after=0.1)) as server, ExitStack() as stack:
        silent = [stack.enter_context(server.connect()) for _ in range(4 + MARGIN)]
        wait_until(lambda: server.guard.open == 4 + MARGIN)
        time.sleep(0.15)
        assert statuses(server, 3) == [b"200"] * 3
        assert silent[0].recv(1) == b""
        assert statuses(server, 3, "127.0.0.9") == [b"200"] * 3


def test_an_address_with_busy_connections_gets_429_and_health() -> None:
    with guarded(make_app(connections_per_address=2), LONG) as server, ExitStack() as stack:
        for _ in range(2 + MARGIN):
            sock = stack.enter_context(server.connect(BUSY))
            assert sock.recv(15).startswith(b"HTTP/1.1 200 ")
        head, _, body = server.ask(GET.replace(b"/health/live", b"/executions")).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 1" in head
        assert json.loads(body)["error"]["code"] == 4291
        assert statuses(server, 1, path=b"/health") == [b"200"]
        assert statuses(server, 2, "127.0.0.9") == [b"200"] * 2
    assert server.guard.open == 0


def test_a_full_server_answers_for_its_health_and_recovers_at_once() -> None:
    with guarded(make_app(connections=3, connections_per_address=None), LONG) as server:
        with ExitStack() as stack:
            for number in range(3 + MARGIN):
                sock = stack.enter_context(server.connect(BUSY, f"127.0.0.{number + 1}"))
                assert sock.recv(15).startswith(b"HTTP/1.1 200 ")
            assert statuses(server, 2, "127.0.0.99") == [b"503"] * 2
            assert statuses(server, 2, "127.0.0.99", b"/health") == [b"200"] * 2
            handshake = GET.replace(b"Connection: close", b"Connection: Upgrade\r\nUpgrade: websocket")
            assert server.ask(handshake, "127.0.0.99")[9:12] == b"503"
        wait_until(lambda: server.guard.open == 0)
        assert statuses(server, 1, "127.0.0.99") == [b"200"]


def test_those_over_the_limits_are_few_and_the_rest_is_refused_at_once() -> None:
    with (
        guarded(make_app(connections_per_address=1), Timeouts(evict_after=60, spare_evict_after=60)) as server,
        ExitStack() as stack,
    ):
        for _ in range(1 + MARGIN + SPARES_PER_ADDRESS):
            stack.enter_context(server.connect())
        wait_until(lambda: server.guard.open == 1 + MARGIN)
        with server.connect() as sock:
            assert sock.recv(65_536).startswith(b"HTTP/1.1 503 ")
        assert statuses(server, 2, "127.0.0.9") == [b"200"] * 2
        stack.close()
        wait_until(lambda: not server.guard._addresses)  # pyright: ignore[reportPrivateUsage]


def test_a_trusted_proxy_is_not_counted_for_those_it_speaks_for() -> None:
    forwarded = BUSY.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n")
    limits = {"connections_per_address": 1}
    for trusted, expected in (("127.0.0.1", b"200"), ("192.0.2.1", b"429")):
        with guarded(make_app(**limits), LONG, forwarded_allow_ips=trusted) as server, ExitStack() as stack:
            answers: list[bytes] = []
            for _ in range(1 + MARGIN + 4):
                sock = stack.enter_context(server.connect(forwarded))
                answers.append(sock.recv(15)[9:12])
            assert answers[-1] == expected


def test_no_limit_is_no_limit() -> None:
    with guarded(make_app(connections=None, connections_per_address=None), LONG) as server, ExitStack() as stack:
        for _ in range(150):
            stack.enter_context(server.connect())
        wait_until(lambda: server.guard.open == 150)


def test_a_plain_uvicorn_with_these_protocols_counts_too() -> None:
    app = make_app(connections_per_address=2)
    with serve(app, http=HTTPProtocol, ws=WebSocketProtocol) as server, ExitStack() as stack:
        plain = Guarded(server.port, server._server)  # pyright: ignore[reportPrivateUsage, reportArgumentType]
        for _ in range(2 + MARGIN):
            sock = stack.enter_context(plain.connect(BUSY))
            assert sock.recv(15).startswith(b"HTTP/1.1 200 ")
        assert statuses(plain, 2) == [b"429"] * 2
        assert statuses(plain, 1, path=b"/health") == [b"200"]


async def test_deadlines_are_handled_in_slices() -> None:
    class Owner:
        def __init__(self) -> None:
            self.ended = 0

        def expire(self) -> None:
            self.ended += 1

        drop = check_body = check_writes = expire

    door, owner = FrontDoor(), Owner()
    door.connections = door.per_address = None
    guard = ConnectionGuard(door, lambda _: False, SHORT)
    entries = [guard.enter(owner, f"10.0.{n // 250}.{n % 250}") for n in range(1_000)]
    assert guard.open == 1_000
    seen: set[int] = set()
    async with asyncio.timeout(20):
        while owner.ended < 1_000:
            await asyncio.sleep(0)
            seen.add(owner.ended)
    assert len(seen) >= 5
    for entry in entries:
        assert entry is not None
        guard.leave(entry)
        guard.leave(entry)
    assert guard.open == 0
    assert not guard._addresses  # pyright: ignore[reportPrivateUsage]
