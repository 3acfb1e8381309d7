"""Servers that send invalid messages: the client reports them and continues, or fails with the reason."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import socketio
from fastapi import FastAPI, Response
from fastapi.responses import StreamingResponse

from lg_streaming.client import SocketIOClient, SSEClient
from lg_streaming.errors import ConnectionLostError, GapError, StreamingError
from tests.client.conftest import PATIENCE, Heard, read_all, seqs
from tests.support.server import serve


def update(seq: int) -> dict[str, Any]:
    metadata = {"timestamp": "2026-11-20T20:00:00.123Z", "sequence_number": seq, "execution_id": "e", "epoch": "a"}
    return {"type": "token", "data": {"content": str(seq)}, "metadata": metadata}


GREETING = {"status": "connected", "connection_id": "c", "heartbeat_interval_s": 15, "position": None}


def stream_of(*answers: str | Response) -> tuple[FastAPI, list[str]]:
    """An application that gives one of the answers for each connection, and the positions it was asked for."""
    app, asked = FastAPI(), list[str]()

    @app.get("/executions/{_}/stream")
    async def stream(_: str, after: str = "") -> Response:
        answer = answers[min(len(asked), len(answers) - 1)]
        asked.append(after)
        if isinstance(answer, Response):
            return answer

        async def pieces() -> AsyncIterator[str]:
            yield f"event: connection_status\ndata: {json.dumps(GREETING)}\n\n"
            yield answer

        return StreamingResponse(pieces(), media_type="text/event-stream")

    return app, asked


def frame(content: object, event: str = "") -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    return (f"event: {event}\n" if event else "") + f"data: {text}\n\n"


END = frame({"execution_id": "e"}, "end")
NONSENSE: list[object] = [
    "no JSON",
    "{",
    [1],
    {"type": "token"},
    {"metadata": {}},
    "null",
    {**update(1), "metadata": 7},
]


@pytest.mark.row("CFLOW-38")
@pytest.mark.row("CFLOW-D8")
async def test_what_is_no_update_is_told_and_passed_over() -> None:
    wire = frame(update(1)) + "".join(frame(each) for each in NONSENSE) + frame([update(2), {"no": 1}, update(3)])
    gaps: list[object] = ["{", {}, []]
    controls = "".join(frame(each, "gap") for each in gaps) + frame({"of": "a later version"}, "news")
    app, _ = stream_of(wire + controls + END)
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            heard = Heard(client)
            assert seqs(await read_all(client)) == [1, 2, 3]
            told = heard.of("parse_error")
            assert len(told) == len(NONSENSE) + 1 + 3
            assert client.statistics().parse_errors == len(told)
            assert told[0].content == "no JSON"
            assert client.statistics().connections == 1


async def test_a_hole_in_what_comes_is_told() -> None:
    app, _ = stream_of(frame([update(1), update(2), update(5)]) + END)
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            heard = Heard(client)
            updates = await read_all(client)
            assert [each.type for each in updates] == ["token", "token", "gap", "token"]
            assert updates[2].data == {"from": 3, "to": 4, "reason": "missing"}
            assert [(gap.first, gap.last) for gap in heard.of("gap")] == [(3, 4)]
            filtered = await read_all(client, events=["token"])
            assert seqs(filtered) == [1, 2, 5]


async def test_what_comes_twice_is_given_once() -> None:
    app, asked = stream_of(frame([update(1), update(2)]), frame([update(1), update(2), update(3)]) + END)
    with serve(app) as server:
        async with SSEClient(server.url, reconnect_delay=0.01) as client:
            assert seqs(await read_all(client)) == [1, 2, 3]
            assert client.statistics().duplicates == 2
    assert asked == ["", "a:2"]


@pytest.mark.row("CFLOW-D8")
async def test_a_stream_says_how_long_to_wait_when_it_breaks() -> None:
    app, _ = stream_of("retry: 123\n" + frame(update(1)), frame(update(2)) + END)
    with serve(app) as server:
        async with SSEClient(server.url, reconnect_delay=9.0) as client:
            heard = Heard(client)
            assert seqs(await read_all(client)) == [1, 2]
            assert [each.delay for each in heard.of("reconnecting")] == [0.123]


BUSY = [Response(status_code=503), Response(status_code=429, headers={"Retry-After": "0"}), Response(status_code=502)]


async def test_what_is_busy_is_asked_again() -> None:
    app, asked = stream_of(*BUSY, frame(update(1)) + END)
    with serve(app) as server:
        async with SSEClient(server.url, reconnect_delay=0.01) as client:
            assert seqs(await read_all(client)) == [1]
    assert len(asked) == 4


@pytest.mark.parametrize(
    "answer",
    [
        Response("<p>Log in, please</p>", media_type="text/html"),
        Response(status_code=404),
        Response(status_code=302, headers={"Location": "/elsewhere"}),
        Response("x" * 200_000, status_code=403),
    ],
    ids=["html", "404", "redirect", "403"],
)
async def test_what_is_no_stream_is_not_asked_again(answer: Response) -> None:
    app, asked = stream_of(answer)
    with serve(app) as server:
        async with SSEClient(server.url, reconnect_delay=0.01) as client:
            with pytest.raises(ConnectionLostError, match="url"):
                await read_all(client)
    assert len(asked) == 1


async def test_a_message_that_is_too_large_is_not_kept() -> None:
    app, _ = stream_of(frame("x" * 100_000))
    with serve(app) as server:
        async with SSEClient(
            server.url, reconnect_delay=0.01, max_event_bytes=10_000, max_reconnect_attempts=1
        ) as client:
            with pytest.raises(ConnectionLostError, match="10000 bytes"):
                await read_all(client)


async def test_an_error_in_the_middle_of_a_stream_follows_what_came_before() -> None:
    gap = {"code": 4091, "name": "gap", "message": "gone", "retryable": True, "execution_id": "e"}
    app, _ = stream_of(frame(update(1)) + frame(gap, "error"))
    got: list[int] = []
    with serve(app) as server:
        async with SSEClient(server.url) as client:
            client.on_update(lambda each: got.append(each.metadata.sequence_number))
            with pytest.raises(GapError, match="gone"):
                await read_all(client)
    assert got == [1]


@pytest.mark.row("CFLOW-40")
async def test_initial_data_and_cookies() -> None:
    seen: list[str | None] = []
    app = FastAPI()

    @app.middleware("http")
    async def cookies(request: Any, call_next: Callable[..., Any]) -> Response:
        seen.append(request.headers.get("cookie"))
        response = await call_next(request)
        response.set_cookie("node", "7")
        return response

    inner, _ = stream_of(frame({"question": "What is rain?"}, "initial") + frame(update(1)) + END)
    app.mount("/", inner)
    with serve(app) as server:
        for wanted in (False, True):
            async with SSEClient(server.url, with_credentials=wanted) as client:
                heard = Heard(client)
                for _ in range(2):
                    await read_all(client)
                assert [each.data for each in heard.of("initial")] == [{"question": "What is rain?"}] * 2
    assert seen == [None, None, None, "node=7"]


# ---------------------------------------------------------------- Socket.IO
def answering(*messages: tuple[str, Any], answer: object | None = None) -> tuple[Any, list[Any]]:
    """A Socket.IO server that sends these packets after a subscription."""
    sio = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins="*")
    asked: list[Any] = []

    @sio.event
    async def connect(sid: str, _environ: object, _auth: object = None) -> None:
        await sio.emit("connection_status", GREETING, to=sid)

    @sio.event
    async def subscribe_execution(sid: str, payload: object) -> object:
        asked.append(payload)

        async def say() -> None:
            for name, content in messages:
                await sio.emit(name, content, to=sid)

        asyncio.get_running_loop().call_later(0.02, lambda: asyncio.ensure_future(say()))
        return {"ok": True, "execution_id": "e", "position": None} if answer is None else answer

    del connect, subscribe_execution
    return socketio.ASGIApp(sio), asked


ENDED = ("subscription_closed", {"execution_id": "e", "reason": "ended"})


@pytest.mark.row("CFLOW-38")
@pytest.mark.row("CFLOW-D8")
async def test_nonsense_over_socket_io(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = answering(
        ("token", update(1)),
        ("token", "no update"),
        ("token", None),
        ("updates", {"execution_id": "e", "updates": [update(2), 7, update(3)]}),
        ("updates", {"updates": "none"}),
        ("gap", {"execution_id": "e"}),
        ("heartbeat", "beat"),
        ("server_restart", {}),
        ("news", {"of": "a later version"}),
        ("message", {"type": "hello", "data": 1, "timestamp": "now"}),
        ("token", {**update(9), "metadata": {**update(9)["metadata"], "execution_id": "of nobody"}}),
        ENDED,
    )
    with serve(app) as server:
        async with SocketIOClient(server.url) as client:
            heard = Heard(client)
            with caplog.at_level(logging.WARNING):
                assert seqs(await read_all(client)) == [1, 2, 3]
            assert len(heard.of("parse_error")) == 6
            assert [(each.type, each.data) for each in heard.of("message")] == [("hello", 1)]
    assert caplog.text == ""


@pytest.mark.parametrize(
    "answer", ["no", {"ok": False}, {"ok": False, "error": {"code": 4030, "message": "not yours"}}]
)
async def test_a_subscription_that_is_refused(answer: object) -> None:
    app, asked = answering(answer=answer)
    with serve(app) as server:
        async with SocketIOClient(server.url, reconnect_delay=0.01) as client:
            with pytest.raises(StreamingError):
                await read_all(client)
    assert len(asked) == 1


async def test_a_subscription_that_the_server_closes_is_taken_up_again() -> None:
    closing = ("subscription_closed", {"execution_id": "e", "reason": "closed"})
    app, asked = answering(("token", update(1)), closing)
    with serve(app) as server:
        async with SocketIOClient(server.url, reconnect_delay=0.01, max_reconnect_attempts=2) as client:
            subscription = client.subscribe("e")
            async with asyncio.timeout(PATIENCE):
                with pytest.raises(ConnectionLostError, match="closed the subscription"):
                    _ = [each async for each in subscription]
    assert [each.get("after") for each in asked] == [None, "a:1", "a:1"]


async def test_two_readers_of_one_execution_need_two_clients() -> None:
    app, _ = answering()
    with serve(app) as server:
        async with SocketIOClient(server.url) as client:
            first = client.subscribe("e")
            await first.connect()
            with pytest.raises(StreamingError, match="watches the execution already"):
                await client.subscribe("e").connect()
            await first.aclose()
            await client.subscribe("e").connect()
