"""Servers that lie, lead away or flood; programs that give nonsense; leaving from anywhere."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast

import pytest
from aiohttp import web
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse

from lg_streaming.client import SocketIOClient, SSEClient, SyncClient
from lg_streaming.errors import BadRequestError, ConnectionLostError, StreamingError, UnauthorizedError
from lg_streaming.events import StreamUpdate
from tests.client.conftest import CLIENTS, PATIENCE, Heard, Make, Place, read_all, seqs
from tests.client.test_nonsense import END, ENDED, answering, frame, stream_of, update
from tests.support.server import serve


def altered(seq: int, **metadata: Any) -> dict[str, Any]:
    plain = update(seq)
    return {**plain, "metadata": {**plain["metadata"], **metadata}}


STRANGE: list[dict[str, Any]] = [
    {**update(2), "type": 7},
    altered(2, sequence_number="2"),
    altered(2, sequence_number=True),
    altered(2, sequence_number=None),
    altered(2, epoch=["a"]),
    altered(2, execution_id="another"),
]


# ---------------------------------------------------------------- what is no update of ours
async def test_updates_with_strange_fields_do_not_harm_those_beside_them() -> None:
    app, _ = stream_of(frame([*STRANGE, update(1), *STRANGE, update(2)]) + END)
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            heard, seen = Heard(client), list[StreamUpdate]()
            client.on_update(seen.append, events=["token"])
            assert seqs(await read_all(client)) == [1, 2] == seqs(seen)
            assert len(heard.of("parse_error")) == 2 * len(STRANGE)


async def test_the_same_over_socket_io() -> None:
    app, _ = answering(("updates", {"execution_id": "e", "updates": [*STRANGE, update(1), *STRANGE, update(2)]}), ENDED)
    with serve(app) as server:
        async with SocketIOClient(server.url) as client:
            heard = Heard(client)
            assert seqs(await read_all(client)) == [1, 2]
            assert len(heard.of("parse_error")) == 2 * len(STRANGE)


# ---------------------------------------------------------------- servers that lead away, flood or say nothing
async def test_a_redirect_does_not_carry_the_token_to_another_place() -> None:
    visits: list[str] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        visits.append(str(request.headers))
        return web.Response()

    async def away(request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"http://localhost:{ports[1]}{request.path_qs}")

    async def started(handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.AppRunner:
        app = web.Application()
        app.router.add_route("*", "/{_:.*}", handler)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    runners = [await started(away), await started(elsewhere)]
    ports: list[int] = [runner.addresses[0][1] for runner in runners]
    try:
        for make in CLIENTS.values():
            headers = {"X-Api-Key": "secret"}
            async with make(f"http://127.0.0.1:{ports[0]}", token="secret", headers=headers) as client:
                for work in (read_all(client), client.cancel("e")):
                    with pytest.raises(ConnectionLostError, match="302"):
                        await work
        assert visits == []
    finally:
        for runner in runners:
            await runner.cleanup()


@pytest.mark.parametrize("status", [200, 500])
async def test_what_was_compressed_unasked_is_not_unpacked(status: int) -> None:
    bomb = gzip.compress(b"\n" * 50_000_000)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-encoding", b"gzip"), (b"content-type", b"text/event-stream")]
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": bomb})

    with serve(cast("Any", app), lifespan="off") as server:
        async with SSEClient(server.url, auto_reconnect=False) as client:
            with pytest.raises(ConnectionLostError):
                await read_all(client)
            with pytest.raises(ConnectionLostError):
                await client.execution("e")


async def test_an_answer_without_end_is_not_kept() -> None:
    app = FastAPI()
    sent = 0

    @app.get("/executions/{_}")
    async def execution(_: str) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            nonlocal sent
            while True:
                sent += 65_536
                yield b" " * 65_536
                await asyncio.sleep(0)

        return StreamingResponse(pieces(), media_type="application/json")

    del execution
    with serve(app) as server:
        async with SSEClient(server.url, max_event_bytes=1_000_000, connect_timeout=PATIENCE) as client:
            with pytest.raises(ConnectionLostError):
                await client.execution("e")
    assert sent < 50_000_000


@pytest.mark.parametrize("greeting", ["", frame("nonsense", "connection_status")])
async def test_updates_before_any_greeting_are_not_piled_up(greeting: str) -> None:
    app = FastAPI()

    @app.get("/executions/{_}/stream")
    async def stream(_: str) -> Response:
        async def pieces() -> AsyncIterator[str]:
            for seq in range(1, 1_000_000):
                yield greeting + frame(update(seq))
                await asyncio.sleep(0.001)

        return StreamingResponse(pieces(), media_type="text/event-stream")

    del stream
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            with pytest.raises(ConnectionLostError, match="greeting"):
                await read_all(client)


async def test_a_stream_of_nothing_but_comments_counts_as_no_answer() -> None:
    app = FastAPI()

    @app.get("/executions/{_}/stream")
    async def stream(_: str) -> Response:
        async def pieces() -> AsyncIterator[str]:
            while True:
                yield ": beat\n\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(pieces(), media_type="text/event-stream")

    del stream
    with serve(app) as server:
        async with SSEClient(server.url, connect_timeout=0.2, auto_reconnect=False) as client:
            with pytest.raises(ConnectionLostError, match="in time"):
                await read_all(client)


@pytest.mark.parametrize(
    "words",
    [
        ['0{"upgrades":[]}'],
        ["0[]"],
        ['0{"sid":"a","upgrades":[],"pingTimeout":"x","pingInterval":{}}'],
        ['0{"sid":"a","upgrades":[],"pingTimeout":20000,"pingInterval":25000}', "40[]"],
        ["0{"],
        ["9"],
    ],
    ids=["no-sid", "list", "intervals", "connected-by-a-list", "no-json", "no-packet"],
)
async def test_a_false_server_of_socket_io_ends_in_an_error(words: list[str]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            return
        await receive()
        await send({"type": "websocket.accept"})
        for word in words:
            await send({"type": "websocket.send", "text": word})
        while (await receive())["type"] != "websocket.disconnect":
            pass

    with serve(cast("Any", app), lifespan="off") as server:
        async with SocketIOClient(server.url, auto_reconnect=False, connect_timeout=1.0) as client:
            with pytest.raises(ConnectionLostError):
                await read_all(client)


@pytest.mark.parametrize("interval", ["soon", -1, [], True])
async def test_a_false_interval_of_heartbeats(monkeypatch: pytest.MonkeyPatch, interval: object) -> None:
    from tests.client import test_nonsense

    monkeypatch.setattr(test_nonsense, "GREETING", {**test_nonsense.GREETING, "heartbeat_interval_s": interval})
    streams, _ = stream_of(frame(update(1)) + END)
    sockets, _ = answering(("token", update(1)), ENDED)
    for app, make in ((streams, SSEClient), (sockets, SocketIOClient)):
        with serve(app) as server:
            async with make(server.url, auto_reconnect=False) as client:
                assert seqs(await read_all(client)) == [1]


async def test_a_subscription_that_is_refused_at_once_and_again_is_not_asked_for_in_a_storm() -> None:
    busy = {"code": 5030, "message": "later", "retryable": True, "retry_after_ms": 0}
    app, asked = answering(answer={"ok": False, "error": busy})
    with serve(app) as server:
        async with SocketIOClient(
            server.url, reconnect_delay=0.1, backoff_factor=10.0, max_reconnect_delay=100.0, jitter=0.0
        ) as client:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.9):
                    _ = [each async for each in client.subscribe("e")]
    assert len(asked) == 2  # at once for the wish; then 1 s


async def test_a_flood_of_warnings_asks_for_one_token_at_a_time() -> None:
    asked = 0
    release = asyncio.Event()

    async def token() -> str:
        nonlocal asked
        asked += 1
        if asked > 1:
            await release.wait()
        return "t"

    app, _ = answering(*[("auth_expiring", {"in_s": 1})] * 200, ("token", update(1)), ENDED)
    with serve(app) as server:
        async with SocketIOClient(server.url, token=token) as client:
            assert seqs(await read_all(client)) == [1]
    assert asked == 2


# ---------------------------------------------------------------- what the program gives
async def test_a_token_that_never_comes_counts_as_a_connection_that_cannot_be_made(make: Make, place: Place) -> None:
    async def never() -> str:
        await asyncio.Event().wait()
        raise AssertionError

    client = make(place.url, token=never, connect_timeout=0.1, auto_reconnect=False)
    for ask in ("text", "execution", "cancel"):
        with pytest.raises(ConnectionLostError, match=r"gave none in|in time"):
            async with asyncio.timeout(1.0):
                await getattr(client, ask)("e")


@pytest.mark.parametrize("token", ["read from a file\n", "é", "a\0"])
async def test_what_is_no_token_is_told(make: Make, place: Place, token: Any) -> None:
    client = make(place.url, token=token)
    with pytest.raises(UnauthorizedError, match="printable"):
        await read_all(client)


@pytest.mark.parametrize("response", [{1, 2}, object(), "\ud800", b"bytes"], ids=["set", "object", "half", "bytes"])
async def test_an_answer_that_json_cannot_hold_harms_nobody_else(make: Make, place: Place, response: object) -> None:
    place.tokens("e", 1)
    client = make(place.url)
    async with client.subscribe("e") as subscription:
        updates = aiter(subscription)
        await anext(updates)
        async with asyncio.timeout(1.0):
            with pytest.raises(BadRequestError, match="JSON"):
                await client.respond("e", "p", response)
            with pytest.raises(StreamingError, match="prompt"):
                await client.respond("e", "p", "yes")
        place.tokens("e", 1, start=1)
        assert (await anext(updates)).metadata.sequence_number == 2
    assert client.statistics().connections == 1


@pytest.mark.parametrize("execution_id", [".", "..", "", "a b"])
async def test_an_id_that_leads_elsewhere_is_refused(execution_id: str) -> None:
    async with SSEClient("http://127.0.0.1:9") as client:
        for ask in (client.cancel, client.execution, client.text):
            with pytest.raises(BadRequestError):
                await ask(execution_id)


@pytest.mark.parametrize("execution_id", ["a/b", "../e", "日本/?#%2F..", "a%2e", "...", "/"])
async def test_ids_of_all_kinds_are_read(make: Make, place: Place, execution_id: str) -> None:
    place.tokens(execution_id, 2)
    await place.hub.close(execution_id)
    client = make(place.url)
    assert len(await read_all(client, execution_id)) == 4
    assert (await client.execution(execution_id))["execution_id"] == execution_id


# ---------------------------------------------------------------- leaving, from anywhere
async def test_an_observer_may_leave_from_another_thread(place: Place) -> None:
    place.tokens("e", 1)
    first = asyncio.Event()
    async with SSEClient(place.url) as client:
        left = client.observe("e").subscribe(lambda _: first.set())
        async with asyncio.timeout(PATIENCE):
            await first.wait()
            asyncio.get_running_loop().set_debug(True)  # which has calls from another thread refused
            thread = threading.Thread(target=left.dispose)
            thread.start()
            while client.statistics().subscriptions:
                await asyncio.sleep(0.01)
            thread.join()
            asyncio.get_running_loop().set_debug(False)


async def test_closing_what_connects_leaves_nothing_behind() -> None:
    asked = threading.Event()
    app = FastAPI()

    @app.get("/executions/{_}/stream")
    async def stream(_: str, request: Request) -> Response:
        asked.set()
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        return Response()

    del stream
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            subscription = client.subscribe("e")
            connecting = asyncio.create_task(subscription.connect())
            await asyncio.to_thread(asked.wait)
            await subscription.aclose()
            async with asyncio.timeout(PATIENCE):
                await connecting
            assert (subscription.state, client.state, client.statistics().subscriptions) == (
                "disconnected",
                "disconnected",
                0,
            )


@pytest.mark.parametrize("transport", ["sse", "socketio"])
def test_a_client_closed_by_another_thread_ends_the_loop(transport: Any) -> None:
    streams, _ = stream_of(json.dumps(None))
    sockets, _ = answering(("token", update(1)))
    with serve(streams if transport == "sse" else sockets) as server:
        client = SyncClient(server.url, transport=transport)
        failures: list[BaseException] = []

        def read() -> None:
            try:
                for _ in client.subscribe("e"):
                    pass
            except BaseException as error:  # noqa: BLE001 (any error is shown)
                failures.append(error)

        with client:
            connected = threading.Event()
            client.on("connected", lambda _: connected.set())
            reader = threading.Thread(target=read)
            reader.start()
            assert connected.wait(PATIENCE)
        reader.join(PATIENCE)
        assert not reader.is_alive()
        assert failures == []


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_loop_may_outlive_the_client(goes_on: bool) -> None:
    streams, _ = stream_of(frame([update(1), update(2)]) + END)
    with serve(streams) as server:
        with SyncClient(server.url) as client:
            subscription = client.subscribe("e")
            updates = iter(subscription)
            assert next(updates).metadata.sequence_number == 1
        subscription.close()
        if goes_on:
            assert seqs(list(updates)) == [2]
        del updates
        with pytest.raises(RuntimeError, match="closed"):
            client.execution("e")
