"""HTTP/2 over TLS: the whole gateway, several streams over one connection."""

import asyncio
import signal
import socket
import ssl
from collections.abc import AsyncGenerator, Generator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress

import httpx2
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from websockets.asyncio.client import connect

from tests.gateway.sse import Event, EventSource
from tests.serving.conftest import Pki
from tests.serving.process import Served, served
from tests.support.node import node_client

MARGIN = 4.0  # a loaded machine
STREAM = "/executions/exec-1/stream"


@pytest.fixture(scope="module")
def server(pki: Pki) -> Generator[Served]:
    with served("--http2", *pki.options) as running:
        yield running


@asynccontextmanager
async def http_client(server: Served, pki: Pki) -> AsyncGenerator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(
        base_url=server.url, http1=False, http2=True, verify=pki.context, timeout=20
    ) as client:
        yield client


async def token_indexes(events: AsyncGenerator[Event], *, until: int) -> list[int]:
    """The indexes of the tokens that come, up to and with `until`."""
    found: list[int] = []
    async with aclosing(events):
        async for event in events:
            if event.type == "token":
                found.append(event.json["data"]["index"])
                if found[-1] == until:
                    return found
    pytest.fail(f"the stream ended after {found}")


@asynccontextmanager
async def h2_connection(server: Served, pki: Pki) -> AsyncGenerator[tuple[H2Connection, asyncio.StreamWriter]]:
    """A connection that reads nothing and sends given bytes."""
    context = ssl.create_default_context(cadata=pki.authority)
    context.set_alpn_protocols(["h2"])
    _, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    connection = H2Connection(H2Configuration(client_side=True))
    connection.initiate_connection()
    try:
        yield connection, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


def headers_of(path: str, server: Served) -> list[tuple[str, str]]:
    authority = server.url.removeprefix("https://")
    return [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", path)]


async def settled_subscriptions(client: httpx2.AsyncClient, count: int) -> None:
    async with asyncio.timeout(10):
        while (await client.get("/figures")).json()["subscriptions"] != count:
            await asyncio.sleep(0.02)


@pytest.mark.row("CFLOW-03")
async def test_streams_and_requests_share_one_connection(server: Served, pki: Pki) -> None:
    ports: set[int] = set()
    versions: set[str] = set()

    async def note(response: httpx2.Response) -> None:
        versions.add(response.http_version)
        ports.add(response.extensions["network_stream"].get_extra_info("client_addr")[1])

    async with http_client(server, pki) as client, AsyncExitStack() as stack:
        client.event_hooks = {"response": [note]}
        sources = [EventSource(client, f"/executions/shared-{index % 2}/stream") for index in range(4)]
        streams = [await stack.enter_async_context(source.open()) for source in sources]
        reading = [asyncio.create_task(token_indexes(stream, until=199)) for stream in streams]
        for start in range(0, 200, 50):
            for number in range(2):
                answer = await client.post(f"/publish/shared-{number}", params={"count": 50, "start": start})
                assert answer.status_code == 200
        assert await asyncio.gather(*reading) == [list(range(200))] * 4
        assert (await client.get("/executions/shared-0")).json()["position"].endswith(":201")
        assert (await client.get("/health")).status_code == 200
        assert versions == {"HTTP/2"}
        assert ports == {(await client.get("/peer")).json()["port"]}


async def test_a_reader_resumes_where_it_was(server: Served, pki: Pki) -> None:
    async with http_client(server, pki) as client:
        await client.post("/publish/resumed", params={"count": 20})
        source = EventSource(client, "/executions/resumed/stream")
        async with source.open() as events:
            assert await token_indexes(events, until=9) == list(range(10))
        await client.post("/publish/resumed", params={"count": 10, "start": 20})
        async with source.open() as events:
            assert await token_indexes(events, until=29) == list(range(10, 30))


@pytest.mark.row("CFLOW-D12")
async def test_the_headers_are_those_of_http2(server: Served, pki: Pki) -> None:
    async with http_client(server, pki) as client, client.stream("GET", STREAM) as response:
        assert response.http_version == "HTTP/2"
        assert not {"connection", "keep-alive", "transfer-encoding", "upgrade"} & set(response.headers)
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.headers["cache-control"] == "no-cache, no-transform"
        assert response.headers["x-accel-buffering"] == "no"


async def test_a_reader_that_leaves_is_noticed_while_the_connection_lives_on(server: Served, pki: Pki) -> None:
    async with http_client(server, pki) as client, h2_connection(server, pki) as (connection, writer):
        await settled_subscriptions(client, 0)
        for stream in (1, 3):
            connection.send_headers(stream, headers_of(STREAM, server), end_stream=True)
        writer.write(connection.data_to_send())
        await settled_subscriptions(client, 2)
        connection.reset_stream(1)
        writer.write(connection.data_to_send())
        await settled_subscriptions(client, 1)
        connection.reset_stream(3)
        writer.write(connection.data_to_send())
        await settled_subscriptions(client, 0)


async def test_a_stream_that_is_not_read_ends_and_leaves_its_neighbours_alone(server: Served, pki: Pki) -> None:
    async with http_client(server, pki) as client, h2_connection(server, pki) as (connection, writer):
        await client.post("/publish/big", params={"count": 60, "size": 100_000})
        connection.send_headers(1, headers_of("/executions/big/stream", server), end_stream=True)
        writer.write(connection.data_to_send())  # and no window for more than the first 64 KiB
        await settled_subscriptions(client, 1)
        async with (
            http_client(server, pki) as neighbour,
            EventSource(neighbour, "/executions/big/stream").open() as events,
        ):
            assert len(await token_indexes(events, until=59)) == 60
        await settled_subscriptions(client, 0)


async def test_http_1_1_is_spoken_on_the_same_port(server: Served, pki: Pki) -> None:
    async with httpx2.AsyncClient(base_url=server.url, verify=pki.context) as client:
        answer = await client.get("/health")
        assert (answer.http_version, answer.status_code) == ("HTTP/1.1", 200)
    context = ssl.create_default_context(cadata=pki.authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with context.wrap_socket(socket.create_connection(("127.0.0.1", server.port)), server_hostname="127.0.0.1") as tls:
        assert tls.selected_alpn_protocol() == "h2"


async def test_the_official_client_over_an_encrypted_websocket(server: Served, pki: Pki) -> None:
    async with http_client(server, pki) as http, node_client(server.url, opts={"ca": pki.authority}) as client:
        answer = await client.emit("subscribe_execution", {"execution_id": "wss", "batch": True})
        assert answer["ok"]
        await http.post("/publish/wss", params={"count": 500})
        indexes: list[int] = []
        while len(indexes) < 500:
            updates = (await client.event("updates"))["updates"]
            indexes += [update["data"]["index"] for update in updates if update["type"] == "token"]
        assert indexes == list(range(500))


async def test_a_websocket_message_over_the_limit_ends_the_connection(server: Served, pki: Pki) -> None:
    address = f"{server.url.replace('https', 'wss')}/socket.io/?EIO=4&transport=websocket"
    async with connect(address, ssl=pki.context, compression=None) as client:
        await client.recv()
        await client.send("40")
        await client.recv()
        await client.send('42["ping","' + "x" * 70_000 + '"]')
        await asyncio.wait_for(client.wait_closed(), 10)
        assert client.close_code == 4130


async def test_headers_are_not_collected_by_the_megabyte(server: Served, pki: Pki) -> None:
    async with http_client(server, pki) as client:
        little = await client.get("/health", headers={"x-note": "x" * 10_000})
        assert little.status_code == 200
        much = {f"x-note-{number}": "x" * 10_000 for number in range(7)}
        assert (await client.get("/health", headers=much)).status_code == 431
        assert (await client.get("/health")).status_code == 200


async def test_sigterm_ends_streams_first_and_waits_for_requests(pki: Pki) -> None:
    with served("--http2", *pki.options, "--grace=20", fresh=True) as server:
        async with (
            node_client(server.url, opts={"ca": pki.authority}) as client,
            http_client(server, pki) as http,
            httpx2.AsyncClient(base_url=server.url, verify=pki.context, timeout=20) as other,
        ):
            await client.emit("subscribe_execution", {"execution_id": "exec-1"})
            slow = asyncio.create_task(other.get("/slow", params={"seconds": 1.5}))
            sources = [EventSource(http, STREAM) for _ in range(3)]
            async with AsyncExitStack() as stack:
                streams = [await stack.enter_async_context(source.open()) for source in sources]
                assert [(await anext(stream)).type for stream in streams] == ["workflow_start"] * 3
                ended = asyncio.create_task(asyncio.to_thread(server.stop))
                last = [[event.type async for event in stream] for stream in streams]
                assert last == [["server_restart"]] * 3
            assert (await client.event("server_restart"))["retry_ms"] > 0
            assert (await client.of_type("disconnect"))["reason"] == "transport close"
            assert (await slow).text == '"slept"'
            # The slow request, and some; far from the grace time, although this client keeps its connection.
            assert await ended < 7
        assert server.process.returncode == 0
        assert "Traceback" not in "".join(server.log)


async def test_clients_that_do_not_read_cannot_hold_the_server_up(pki: Pki) -> None:
    with served("--http2", *pki.options, "--grace=4") as server:
        async with http_client(server, pki) as stalled, http_client(server, pki) as http:
            await http.post("/publish/big", params={"count": 70, "size": 100_000})
            async with stalled.stream("GET", "/executions/big/stream"):
                await settled_subscriptions(http, 1)
                address = f"{server.url.replace('https', 'wss')}/socket.io/?EIO=4&transport=websocket"
                async with connect(address, ssl=pki.context, compression=None, max_queue=1) as client:
                    client.transport.pause_reading()
                    await client.send("40")
                    await client.send('42["subscribe_execution",{"execution_id":"big"}]')
                    await settled_subscriptions(http, 2)
                    assert await asyncio.to_thread(server.stop, signal.SIGINT) < 4 + MARGIN
                    client.transport.abort()
        assert server.process.returncode == 130
        assert "Traceback" not in "".join(server.log)
