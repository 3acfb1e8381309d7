"""A server that stops notifies every client, and has ended within three seconds."""
# pyright: reportPrivateUsage=false

import asyncio
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from fastapi import FastAPI
from websockets.asyncio.client import connect

from lg_streaming import StreamingModule
from lg_streaming.gateway import Gateway
from lg_streaming.gateway.auth.peer import Peer
from lg_streaming.gateway.http.context import HttpContext
from lg_streaming.gateway.http.event_stream import EventStream, StreamOptions, open_stream
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from lg_streaming.gateway.session.session import Session
from lg_streaming.hub import StreamHub
from tests.gateway.site import make_app, raw_client, site
from tests.gateway.sse import EventSource
from tests.support.node import node_client
from tests.support.server import ROOT, serve, serve_process


async def test_sigterm_with_open_clients_of_all_kinds() -> None:
    with serve_process("tests.gateway.live_app:make()") as server:
        async with node_client(server.url) as client, httpx2.AsyncClient(timeout=10) as http:
            await client.emit("subscribe_execution", {"execution_id": "exec-1"})
            await client.event("token")
            source = EventSource(http, f"{server.url}/executions/exec-1/stream")
            async with source.open() as events:
                assert [(await anext(events)).type for _ in range(2)] == ["workflow_start", "token"]
                # A client that never reads must not keep the server.
                stalled = socket.create_connection((server.host, server.port))
                stalled.sendall(b"GET /executions/exec-1/stream HTTP/1.1\r\nHost: localhost:%d\r\n\r\n" % server.port)
                took = asyncio.create_task(asyncio.to_thread(server.stop))
                restart = await client.event("server_restart")
                assert 500 <= restart["retry_ms"] <= 3_000
                assert (await client.of_type("disconnect"))["reason"] == "transport close"
                last = [event async for event in events]
                assert [event.type for event in last] == ["server_restart"]
                assert source.retry == last[0].json["retry_ms"]
                assert source.last_event_id.endswith(":2")
            assert await took < 3
            stalled.close()
    assert server.process.returncode in {0, -signal.SIGTERM}
    assert "Traceback" not in server.log


async def test_a_client_comes_back_to_the_next_server_and_goes_on() -> None:
    with serve_process("tests.gateway.live_app:make()") as server:
        async with node_client(
            server.url, opts={"reconnection": True, "reconnectionDelay": 50, "reconnectionDelayMax": 100}
        ) as client:
            await asyncio.to_thread(server.stop)
            await client.event("server_restart")
            with serve_process("tests.gateway.live_app:make()", port=server.port):
                await client.of_type("connect")
                assert (await client.emit("subscribe_execution", {"execution_id": "exec-1"}))["ok"]


async def test_a_server_that_runs_in_a_thread_is_heard_too() -> None:
    with site() as place:
        async with raw_client(place) as client:
            stopping = asyncio.create_task(asyncio.to_thread(place.server.stop))
            assert (await client.event("server_restart"))["retry_ms"]
            code, before = await client.closed()
            assert code == 4500
            assert "41" not in before
            assert await stopping < 3


async def test_a_client_that_does_not_read_cannot_hold_the_server_up() -> None:
    with site(retention={"max_updates": 100_000, "max_bytes": 2**30}) as place:
        for _ in range(1_000):
            place.hub.publish("big", "note", {"fill": "x" * 10_000})
        async with raw_client(place, max_queue=1) as client:
            client.connection.transport.pause_reading()
            await client.send('42["subscribe_execution",{"execution_id":"big"}]')
            async with asyncio.timeout(5):
                while not place.hub.statistics().subscriptions:
                    await asyncio.sleep(0.01)
            assert await asyncio.to_thread(place.server.stop) < 3
            client.connection.transport.abort()


async def test_nobody_is_let_in_while_the_server_goes_away() -> None:
    with site() as place:
        # The first step of the server's shutdown, while it still accepts connections.
        place.gateway._lifecycle.draining = True
        async with raw_client(place, login=False) as client:
            await client.send("40")
            assert await client.closed() == (4500, [])  # no refusal: the official client reconnects then
        async with httpx2.AsyncClient() as http:
            refused = await http.get(f"{place.url}/executions/exec-1/stream")
            assert (refused.status_code, refused.json()["error"]["name"]) == (503, "server_restart")
            assert int(refused.headers["retry-after"]) >= 1
            assert (await http.get(f"{place.url}/health")).status_code == 503


async def test_who_was_about_to_be_served_is_sent_away_too() -> None:
    asked, answer = threading.Event(), threading.Event()

    def slowly(_: str) -> dict[str, int]:
        asked.set()
        answer.wait(10)
        return {}

    hub = StreamHub()
    gateway = Gateway(hub, initial_data=slowly)
    with serve(make_app(hub, gateway), log_config=None) as server:
        async with httpx2.AsyncClient(timeout=10) as http:
            reading = asyncio.create_task(http.get(f"{server.url}/executions/exec-1/stream"))
            assert await asyncio.to_thread(asked.wait, 10)
            stopping = asyncio.create_task(asyncio.to_thread(server.stop))
            while not gateway._lifecycle.draining:
                await asyncio.sleep(0.01)
            answer.set()
            assert (await reading).json()["error"]["name"] == "server_restart"
            assert await stopping < 3


async def test_a_stream_that_had_no_turn_yet_ends_well() -> None:
    context = HttpContext.for_hub(StreamHub())
    session = Session(
        peer=Peer(address="127.0.0.1", headers={}), context=context.gateway, transport="sse", trusted=True
    )
    stream = await open_stream(context, session, SubscribeExecution(execution_id="e"), StreamOptions())
    assert isinstance(stream, EventStream)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        await asyncio.Event().wait()

    serving = asyncio.create_task(stream({"type": "http", "headers": []}, receive, send))
    await asyncio.sleep(0)
    assert sent == []
    stream.close_for_restart()
    await asyncio.wait_for(serving, 5)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert b"server_restart" in sent[-1]["body"]
    assert not context.gateway.sessions
    await context.gateway.hub.aclose()


async def test_streams_that_do_not_end_are_cut() -> None:
    class Stuck:
        def __init__(self) -> None:
            self.ended = asyncio.Event()

        def close_for_restart(self) -> None: ...

        def cut(self) -> None:
            self.ended.set()

    context = HttpContext.for_hub(StreamHub())
    stuck: Any = Stuck()
    context.streams.add(stuck)
    await asyncio.wait_for(context.gateway.lifecycle.drain(), 10)
    assert stuck.ended.is_set()
    await context.gateway.hub.aclose()


CHAINED = """
import asyncio, os, signal
from lg_streaming.gateway.hooks.server import on_shutdown

async def main():
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    if {loop_handler}:
        loop.add_signal_handler(signal.SIGTERM, lambda: print("theirs"))
    else:
        signal.signal(signal.SIGTERM, lambda *_: print("theirs"))
    async def before():
        print("ours")
        stopped.set()
    unhook = on_shutdown(before)
    os.kill(os.getpid(), signal.SIGTERM)
    await asyncio.wait_for(stopped.wait(), 5)
    await asyncio.sleep(0.05)
    unhook()

asyncio.run(main())
"""


@pytest.mark.parametrize("loop_handler", [True, False])
def test_with_another_server_the_signal_itself_is_heard_beside_the_servers_own_handler(loop_handler: bool) -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHAINED.format(loop_handler=loop_handler)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.split()) == ["ours", "theirs"]


async def test_a_client_that_closes_at_the_same_moment_does_not_end_the_shutdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under TLS a connection stays for a moment after the close of its peer."""
    monkeypatch.setattr("tests.support.server.mark_closing", print)  # the gateway does it
    authority = trustme.CA()
    trusted = ssl.create_default_context()
    authority.configure_trust(trusted)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "cert.pem")
    ended: list[bool] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        ended.append(True)

    app = FastAPI(lifespan=lifespan)
    StreamingModule().install(app)
    with serve(app, loop="asyncio", ssl_certfile=tmp_path / "cert.pem") as server:
        async with connect(f"wss://127.0.0.1:{server.port}/ws", ssl=trusted) as client:
            await client.recv()
            client.transport.pause_reading()  # it does not confirm the end of TLS
            closing = asyncio.create_task(client.close())
            connections: set[Any] = server._server.server_state.connections
            async with asyncio.timeout(10):
                while not any(each.conn.close_rcvd for each in connections):
                    await asyncio.sleep(0.001)
                stopping = asyncio.create_task(asyncio.to_thread(server.stop))
                while not stopping.done() and not any(each.close_sent for each in connections):
                    await asyncio.sleep(0.001)
                client.transport.resume_reading()
                await closing
                await stopping
    assert ended == [True]
