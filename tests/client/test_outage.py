"""Unreachable servers and wrong addresses: a client's log, and its final failure."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
import trustme

from lg_streaming.client import SyncClient
from lg_streaming.client.config import ClientConfig, TokenSource
from lg_streaming.client.failures import InterruptedStreamError
from lg_streaming.client.outage import Outage
from lg_streaming.client.reconnect import Reconnect
from lg_streaming.errors import ConnectionLostError, ServerRestartError
from lg_streaming.events import StreamUpdate
from tests.client.conftest import CLIENTS, PATIENCE, Heard, Make, Place, place_with, read_all, seqs

LOST = InterruptedStreamError(ConnectionLostError("refused"))
URL = "http://user:secret@127.0.0.1:8000/base"


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage()
        for each in caplog.records
        if each.name == "lg_streaming.client" and each.levelname == "WARNING"
    ]


def infos_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [
        each.getMessage() for each in caplog.records if each.name == "lg_streaming.client" and each.levelname == "INFO"
    ]


# ---------------------------------------------------------------- without a server, a clock or a socket
class Machine:
    """A connection's state machine with a test's clock."""

    def __init__(self, outage: Outage | None = None, **options: Any) -> None:
        self.now = 100.0
        config = ClientConfig(url=URL, **options)
        self.it = Reconnect(
            lambda: config,
            TokenSource(None),
            notify=lambda _: None,
            random=lambda: 0.0,
            outage=outage,
            clock=self._clock,
        )

    def _clock(self) -> float:
        return self.now

    def fail(self, took: float = 0.0, failure: InterruptedStreamError = LOST) -> float:
        self.it.on_connecting()
        self.now += took
        pause = self.it.on_failure(failure)
        self.now += pause
        return pause


def test_one_line_for_an_outage_however_long_and_one_when_it_is_over(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    machine = Machine()
    for _ in range(50):
        machine.fail()
    [line] = warnings_of(caplog)
    assert "http://127.0.0.1:8000/base" in line
    assert "secret" not in line
    assert "refused" in line
    assert "without end" in line
    machine.it.on_connecting()
    machine.it.on_connected()
    assert infos_of(caplog) == []
    machine.it.on_healthy()
    machine.it.on_healthy()
    assert infos_of(caplog) == ["connected to http://127.0.0.1:8000/base again"]
    machine.it.on_failure(LOST)  # a good connection is lost, which is no outage yet
    assert len(warnings_of(caplog)) == 1
    machine.fail()
    assert len(warnings_of(caplog)) == 2


def test_many_subscriptions_of_one_client_are_one_outage(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    outage = Outage()
    machines = [Machine(outage) for _ in range(5)]
    for _ in range(3):
        for machine in machines:
            machine.fail()
    assert len(warnings_of(caplog)) == 1
    for machine in machines[1:]:
        machine.it.on_connecting()
        machine.it.on_connected()
        machine.it.on_healthy()
    assert infos_of(caplog) == []
    machines[0].it.on_closed()  # no task waits for this one any more
    machines[1].it.on_failure(LOST)
    machines[1].fail()
    assert len(warnings_of(caplog)) == 2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_reconnect_attempts": 3}, "at most 3 times"),
        ({"give_up_after": 60}, "for 60 s"),
        ({"max_reconnect_attempts": 3, "give_up_after": 0.5}, "at most 3 times and for 0.5 s"),
        ({"max_reconnect_attempts": None}, "without end"),
    ],
)
def test_the_line_says_how_often_it_is_tried(
    caplog: pytest.LogCaptureFixture, options: dict[str, Any], words: str
) -> None:
    Machine(**options).fail()
    assert words in warnings_of(caplog)[0]


def test_it_gives_up_in_time_and_says_where() -> None:
    machine = Machine(give_up_after=10, reconnect_delay=4, backoff_factor=1)
    assert [machine.fail(took=0.5) for _ in range(3)] == [4, 4, pytest.approx(0.5)]  # the last pause ends in time
    with pytest.raises(
        ConnectionLostError, match=r"no connection to http://127.0.0.1:8000/base after 4 attempts in 10.0 s: refused"
    ):
        machine.fail()
    assert machine.it.state == "failed"
    assert machine.fail() == 4  # asked again, it begins anew


def test_the_time_counts_from_the_last_good_connection() -> None:
    machine = Machine(give_up_after=10, reconnect_delay=4, backoff_factor=1)
    machine.fail()
    machine.it.on_connecting()
    machine.it.on_connected()
    machine.it.on_healthy()
    machine.now += 1_000
    assert machine.it.on_failure(LOST) == 4
    machine.now += 4
    assert machine.fail() == 4


def test_a_server_that_lets_in_and_drops_is_given_up_too() -> None:
    machine = Machine(give_up_after=10, reconnect_delay=4, backoff_factor=1)

    def once() -> None:
        machine.it.on_connecting()
        machine.it.on_connected()
        machine.now += machine.it.on_failure(LOST)

    for _ in range(3):
        once()
    with pytest.raises(ConnectionLostError, match=r"no connection to .* after \d+ attempt"):
        once()


def test_giving_up_keeps_the_kind_of_the_error() -> None:
    machine = Machine(max_reconnect_attempts=1)
    failure = InterruptedStreamError(ServerRestartError("going away", retry_after=0.0))
    machine.fail(failure=failure)
    with pytest.raises(ServerRestartError, match=r"no connection to .* after 2 attempts .* going away"):
        machine.fail(failure=failure)


@pytest.mark.parametrize(
    "options",
    [{name: value} for name in ("give_up_after", "connect_timeout", "silence_timeout") for value in (0, -1, "1", True)]
    + [{"max_reconnect_attempts": value} for value in (-1, 1.5, "3", True)]
    + [{"connect_timeout": None}],
    ids=str,
)
def test_what_is_no_limit_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        ClientConfig(url=URL, **options)


# ---------------------------------------------------------------- with sockets
async def test_a_closed_port_is_logged_once_and_given_up(
    make: Make, caplog: pytest.LogCaptureFixture, closed_port: int
) -> None:
    client = make(f"http://127.0.0.1:{closed_port}", max_reconnect_attempts=4)
    heard = Heard(client)
    with pytest.raises(ConnectionLostError, match=rf"no connection to http://127.0.0.1:{closed_port} after 5 attempts"):
        await read_all(client)
    assert len(heard.of("connecting")) == 5
    [line] = warnings_of(caplog)
    assert f"http://127.0.0.1:{closed_port}" in line
    assert "refused" in line or "Connect call failed" in line or "connection attempts failed" in line


async def test_a_closed_port_is_given_up_in_time(make: Make, closed_port: int) -> None:
    with pytest.raises(ConnectionLostError, match=r"no connection to .* after \d+ attempt"):
        await read_all(make(f"http://127.0.0.1:{closed_port}", give_up_after=0.05))


@pytest.mark.parametrize("transport", CLIENTS)
def test_a_script_at_a_closed_port(caplog: pytest.LogCaptureFixture, transport: Any, closed_port: int) -> None:
    url = f"http://127.0.0.1:{closed_port}"
    with (
        SyncClient(url, transport=transport, give_up_after=1) as client,  # the first attempt loads certificates
        pytest.raises(ConnectionLostError, match=f"no connection to {url}"),
    ):
        list(client.subscribe("e"))
    assert len(warnings_of(caplog)) == 1


async def test_a_name_that_nobody_has_is_logged_with_its_name(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ConnectionLostError, match=r"no connection to http://no-such-host.invalid"):
        await read_all(make("http://no-such-host.invalid:8000", max_reconnect_attempts=1))
    assert "no-such-host.invalid" in warnings_of(caplog)[0]


async def test_it_says_when_the_server_is_back(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with place_with() as place:
        with place.serving():
            pass  # now the port is known, and closed
        place.tokens("e", 2)
        await place.hub.close("e")
        client = make(place.url)
        heard = Heard(client)
        reading = asyncio.create_task(read_all(client))
        await heard.until("reconnecting", 3)
        with place.serving():
            assert len(await reading) == 4
    assert len(warnings_of(caplog)) == 1
    assert infos_of(caplog) == [f"connected to {place.url} again"]


@asynccontextmanager
async def answering(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], **options: Any
) -> AsyncGenerator[int]:
    """A server of bytes; gives its port."""
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await answer(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await server.wait_closed()


def says(
    head: str, *, at_once: bool = False
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not at_once:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {head}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    return answer


FINAL = [
    pytest.param("404 Not Found", r"was 404 and not from an lg_streaming gateway: is the url right\?", id="404"),
    pytest.param("403 Forbidden", "was 403", id="403"),
    pytest.param(
        "307 Temporary Redirect\r\nLocation: https://elsewhere.example/x",
        "redirects .* https://elsewhere.example/x",
        id="redirect",
    ),
    pytest.param("301 Moved Permanently", "was 301", id="redirect to nowhere"),
    pytest.param("200 OK\r\nContent-Type: text/html", "url|connection|refused", id="a page"),
]


@pytest.mark.parametrize(("head", "words"), FINAL)
async def test_what_is_no_gateway_is_not_tried_again(
    make: Make, caplog: pytest.LogCaptureFixture, head: str, words: str
) -> None:
    async with answering(says(head)) as port:
        client = make(f"http://127.0.0.1:{port}", max_reconnect_attempts=3)
        heard = Heard(client)
        with pytest.raises(ConnectionLostError, match=words) as raised:
            await read_all(client)
        assert f"http://127.0.0.1:{port}" in str(raised.value)
    if head.startswith("200") and make.kind == "socketio":
        return  # a handshake that fails may succeed later
    assert len(heard.of("connecting")) == 1
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("head", ["503 Service Unavailable", "502 Bad Gateway", "429 Too Many Requests"])
async def test_what_is_busy_is_tried_again(make: Make, caplog: pytest.LogCaptureFixture, head: str) -> None:
    async with answering(says(head)) as port:
        client = make(f"http://127.0.0.1:{port}", max_reconnect_attempts=2)
        heard = Heard(client)
        with pytest.raises(ConnectionLostError, match=f"no connection to .*{port} after 3 attempts .*{head[:3]}"):
            await read_all(client)
    assert len(heard.of("connecting")) == 3
    assert len(warnings_of(caplog)) == 1


async def test_a_server_that_says_nothing_is_given_up(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with answering(silent) as port:
        client = make(f"http://127.0.0.1:{port}", connect_timeout=0.05, max_reconnect_attempts=1)
        with pytest.raises(ConnectionLostError, match=f"no connection to http://127.0.0.1:{port}"):
            await read_all(client)
    assert len(warnings_of(caplog)) == 1


def _context(authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.parametrize("fault", ["unknown authority", "another name", "no TLS"])
async def test_a_certificate_that_is_refused_is_not_tried_again(
    make: Make, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    authority, trusting = trustme.CA(), ssl.create_default_context()
    if fault != "unknown authority":
        authority.configure_trust(trusting)
    name = "elsewhere.example" if fault == "another name" else "127.0.0.1"
    context = None if fault == "no TLS" else _context(authority, name)
    async with answering(says("404 Not Found", at_once=context is None), ssl=context) as port:
        client = make(f"https://127.0.0.1:{port}", ssl_context=trusting, max_reconnect_attempts=3)
        heard = Heard(client)
        with pytest.raises(ConnectionLostError, match=rf"TLS connection to https://127.0.0.1:{port} failed"):
            await read_all(client)
    assert len(heard.of("connecting")) == 1
    assert warnings_of(caplog) == []


async def test_a_request_beside_the_streams_names_the_address(make: Make, closed_port: int) -> None:
    async with asyncio.timeout(PATIENCE):
        with pytest.raises(ConnectionLostError, match=rf"http://127.0.0.1:{closed_port}"):
            await make(f"http://127.0.0.1:{closed_port}").executions()


async def test_closing_a_subscription_ends_a_loop_that_waits_to_reconnect(make: Make, closed_port: int) -> None:
    client = make(f"http://127.0.0.1:{closed_port}", reconnect_delay=60.0, max_reconnect_delay=60.0)
    subscription = client.subscribe("e")

    async def read() -> list[StreamUpdate]:
        return [update async for update in subscription]

    reading = asyncio.create_task(read())
    async with asyncio.timeout(PATIENCE):
        while client.state != "reconnecting":
            await asyncio.sleep(0.01)
        await subscription.aclose()
        assert await reading == []
    assert client.statistics().subscriptions == 0


async def test_a_stream_that_is_let_go_leaves_no_outage_behind(place: Place, closed_port: int) -> None:
    """Closing a client while it retries ends the tries at once, in any state."""
    for kind, make in CLIENTS.items():
        client = make(f"http://127.0.0.1:{closed_port}", reconnect_delay=30.0)
        heard = Heard(client)
        reading = asyncio.create_task(cast("Any", read_all(client)))
        await heard.until("reconnecting")
        await client.aclose()
        result = await asyncio.gather(reading, return_exceptions=True)
        assert result == [[]] or isinstance(result[0], ConnectionLostError), kind
        assert client.state == "disconnected"
    place.tokens("e", 1)
    await place.hub.close("e")
    async with CLIENTS["sse"](place.url) as client:
        assert seqs(await read_all(client)) == [1, 2, 3]
