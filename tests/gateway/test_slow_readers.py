"""A reader that stops reading costs bounded memory, is disconnected, and disturbs no other."""

import asyncio
import json
import socket
import tracemalloc
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager

import pytest

from tests.gateway.site import Site, raw_client, site

FILL = "x" * 10_000
LIMITS = {"send_timeout": 0.5, "messages_per_second": None}


@pytest.fixture(params=["direct", "queued"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Generator[Site]:
    """Once with the server's transport in reach, once through ASGI alone."""
    if request.param == "queued":
        monkeypatch.setattr("lg_streaming.gateway.transports.websocket_connection.current_transport", lambda: None)
    with site(limits=LIMITS, retention={"max_updates": 100_000, "max_bytes": 2**30}) as running:
        yield running


@asynccontextmanager
async def stalled(place: Site, execution_id: str, count: int = 1) -> AsyncGenerator[list[socket.socket]]:
    """Clients that subscribe and then never read again."""
    sockets: list[socket.socket] = []
    loop = asyncio.get_running_loop()
    try:
        for _ in range(count):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8_192)
            sock.setblocking(False)
            await loop.sock_connect(sock, (place.server.host, place.server.port))
            sockets.append(sock)
            await loop.sock_sendall(
                sock,
                b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost:%d\r\n"
                b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n" % place.server.port,
            )
            await loop.sock_recv(sock, 4_096)
            for text in (b"40", b'42["subscribe_execution",{"execution_id":"%b"}]' % execution_id.encode()):
                await loop.sock_sendall(sock, bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text)
        async with asyncio.timeout(5):
            while place.hub.statistics().subscriptions < count:
                await asyncio.sleep(0.01)
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def publish(place: Site, execution_id: str, megabytes: int) -> None:
    for _ in range(megabytes * 100):
        place.hub.publish(execution_id, "note", {"fill": FILL})


async def left(place: Site, count: int) -> None:
    """Returns when no more than `count` subscriptions are left."""
    async with asyncio.timeout(5):
        while place.hub.statistics().subscriptions > count:
            await asyncio.sleep(0.01)


async def test_a_reader_that_stops_is_cut_off_and_the_others_are_not_disturbed(place: Site) -> None:
    async with stalled(place, "big", 3), raw_client(place) as client:
        await client.ask("subscribe_execution", {"execution_id": "small", "follow": True})
        publish(place, "big", 20)
        for index in range(30):
            place.tokens("small", 1, start=index)
            token = await asyncio.wait_for(client.event("token"), 0.5)
            assert token["data"]["index"] == index
            await asyncio.sleep(0.05)
        await left(place, 1)
        assert place.gateway.connections == 1
        assert (await client.ask("ping"))["ok"]


@pytest.mark.row("FLOW-46", "CFLOW-D5")
async def test_what_waits_for_stalled_readers_is_bounded_and_given_back(place: Site) -> None:
    publish(place, "big", 40)
    tracemalloc.start()
    try:
        base, _ = tracemalloc.get_traced_memory()
        async with stalled(place, "big", 10):
            _, peak = tracemalloc.get_traced_memory()
            # The updates are in the log once; each reader may hold a few pieces of 64 KiB of them.
            assert peak - base < 10 * 1024 * 1024
            await left(place, 0)
        async with asyncio.timeout(5):  # connections that were cut off end by themselves
            while tracemalloc.get_traced_memory()[0] - base >= 2 * 1024 * 1024:
                await asyncio.sleep(0.01)
    finally:
        tracemalloc.stop()


@pytest.mark.row("FLOW-D3")
async def test_a_slow_reader_that_moves_is_kept(place: Site) -> None:
    async with raw_client(place) as client:
        await client.send('42["subscribe_execution",{"execution_id":"big"}]')
        publish(place, "big", 8)
        place.tokens("big", 1)
        seen = 1
        while (text := await client.receive())[:10] != '42["token"':
            if text.startswith('42["event"'):
                seen += 1
                if not seen % 40:
                    await asyncio.sleep(0.1)
        assert json.loads(text[2:])[1]["metadata"]["sequence_number"] == seen + 1 == 802


async def test_many_subscriptions_of_one_connection_share_its_room(place: Site) -> None:
    for number in range(60):
        publish(place, f"run-{number}", 1)
    async with raw_client(place, max_queue=None) as client:
        client.connection.transport.pause_reading()
        for number in range(60):
            await client.send(f'42["subscribe_execution",{{"execution_id":"run-{number}"}}]')
        async with asyncio.timeout(5):
            while place.hub.statistics().subscriptions < 60:
                await asyncio.sleep(0.01)
        client.connection.transport.resume_reading()
        counts: Counter[str] = Counter()
        while sum(counts.values()) < 60 * 101:
            text = await client.receive()
            if text.startswith(('42["event"', '42["status"')):
                counts[json.loads(text[2:])[1]["metadata"]["execution_id"]] += 1
        assert set(counts.values()) == {101}
        assert (await client.ask("ping"))["ok"]


async def flood(sock: socket.socket, data: bytes) -> None:
    while True:
        await asyncio.get_running_loop().sock_sendall(sock, data)


async def test_answers_that_nobody_reads_are_bounded() -> None:
    with site(limits={**LIMITS, "backlog_bytes": 100_000, "send_timeout": 60}) as place:
        async with stalled(place, "none") as (sock,):
            text = b'421["get_status"]'
            frame = bytes((0x81, 0x80 | len(text), 0, 0, 0, 0)) + text
            with pytest.raises(ConnectionError):
                await asyncio.wait_for(flood(sock, frame * 100), 30)
            await left(place, 0)


async def test_a_reader_that_comes_back_in_time_hears_4400(caplog: pytest.LogCaptureFixture) -> None:
    with site(limits={**LIMITS, "send_timeout": 0.3}) as place:
        async with raw_client(place, max_queue=None) as client:
            client.connection.transport.pause_reading()
            await client.send('42["subscribe_execution",{"execution_id":"big"}]')
            publish(place, "big", 20)
            async with asyncio.timeout(5):
                while "nothing was read for 0.3 s" not in caplog.text:
                    await asyncio.sleep(0.01)
            client.connection.transport.resume_reading()
            assert (await client.closed())[0] == 4400


async def test_a_patience_of_years_is_as_good_as_any() -> None:
    with site(limits={"send_timeout": 1e9}) as place:
        async with raw_client(place) as client:
            assert (await client.ask("ping"))["ok"]
