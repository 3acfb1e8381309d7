"""Ends of streams before their run, for every wire: shutdown, the longest duration, expired tokens, slow readers.

No client may take such an end for the end of its answer, and nothing is logged as an error.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator, Generator
from dataclasses import replace
from typing import Any, cast

import httpx2
import pytest
from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lg_streaming.types import WireName
from tests.wires.all_wires import CASES, WIRES, all_wires, bearer
from tests.wires.test_observed import reading, stream_of, until

HOW = {"ai-sdk": "breaks", "langgraph": "breaks", "ag-ui": "RUN_ERROR", "durable-streams": "ends"}
"""The way in which each wire's clients notice that a stream was cut."""


@pytest.fixture(autouse=True)
def nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Generator[None]:
    yield
    found = [record for record in caplog.records if record.levelno >= logging.ERROR or record.exc_info]
    assert not found, [record.getMessage() for record in found]


async def end_of(parts: AsyncIterator[str]) -> tuple[str, str]:
    """Read a stream to its end: return how it ended, and its text."""
    text = ""
    try:
        async with asyncio.timeout(20):
            async for part in parts:
                text += part
    except httpx2.RemoteProtocolError:
        return "breaks", text
    return "RUN_ERROR" if "RUN_ERROR" in text else "ends", text


async def pass_through(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


@pytest.mark.parametrize("middleware", [False, True])
@pytest.mark.parametrize("wire", WIRES)
async def test_at_shutdown(wire: WireName, middleware: bool) -> None:
    app = FastAPI()
    if middleware:
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_through)
    with all_wires(app) as place:
        place.open_run("cut")
        async with reading(place, stream_of(wire), "cut") as answer:
            await until(lambda: place.gateway.connections)
            stopping = asyncio.create_task(asyncio.to_thread(place.server.stop))
            how, text = await end_of(answer.aiter_text())
            seconds = await stopping
    assert how == HOW[wire], text
    assert seconds < 4
    if wire == "durable-streams":
        assert "streamClosed" not in text


class _Holding:
    """Middleware whose `send` returns a moment after it has passed a message of one type on, as those with a queue do.

    Attributes:
        holds: Set once `send` has passed such a message on, and has not returned.
        sent: Types of the messages that were passed on.
    """

    def __init__(self, app: ASGIApp, held: str) -> None:
        self._app = app
        self._held = held
        self.holds = threading.Event()
        self.sent: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def hold(message: Message) -> None:
            await send(message)
            self.sent.append(message["type"])
            if message["type"] == self._held:
                self.holds.set()
                await asyncio.sleep(0.2)

        await self._app(scope, receive, hold if scope["type"] == "http" else send)


@pytest.mark.parametrize("held", ["http.response.start", "http.response.body"])
@pytest.mark.parametrize("wire", WIRES)
async def test_nothing_comes_twice_at_shutdown(wire: WireName, held: str) -> None:
    app = FastAPI()
    found: list[_Holding] = []

    def holding(inner: ASGIApp) -> _Holding:
        found.append(_Holding(inner, held))
        return found[0]

    app.add_middleware(cast("Any", holding))
    with all_wires(app) as place:
        place.open_run("twice")
        async with reading(place, stream_of(wire), "twice") as answer:
            await until(found[0].holds.is_set)
            stopping = asyncio.create_task(asyncio.to_thread(place.server.stop))
            how, text = await end_of(answer.aiter_text())
            await stopping
    assert how == HOW[wire], text
    assert found[0].sent.count("http.response.start") == 1


@pytest.mark.parametrize("wire", WIRES)
async def test_after_the_longest_duration(wire: WireName) -> None:
    with all_wires(gateway={"max_stream_duration": 0.3}) as place:
        place.open_run("long")
        async with reading(place, stream_of(wire), "long") as answer:
            how, text = await end_of(answer.aiter_text())
        await until(lambda: not place.gateway.connections)
    assert how == HOW[wire], text


@pytest.mark.parametrize("wire", WIRES)
async def test_when_the_token_expires(wire: WireName) -> None:
    with all_wires(auth={"secret": "a secret of at least thirty-two bytes", "leeway": 0}) as place:
        place.open_run("expires")
        loop = asyncio.get_running_loop()
        expiry = place.module.hub.registry.clock() + 1
        began = loop.time()
        async with reading(place, stream_of(wire), "expires", bearer(exp=expiry)) as answer:
            how, text = await end_of(answer.aiter_text())
        assert loop.time() - began < 5
        await until(lambda: not place.gateway.connections)
    assert how == HOW[wire] or '"error"' in text or "event: error" in text, (how, text)


@pytest.mark.parametrize("wire", WIRES)
async def test_a_reader_that_does_not_read_is_cut_off(wire: WireName) -> None:
    with all_wires(limits={"send_timeout": 0.3}, gateway={"compression": {"http": False}}) as place:
        place.open_run("slow")
        case = stream_of(wire)
        if wire == "langgraph":  # whose other readers see no token without a message
            case = next(each for each in CASES if each.path.endswith("/stream/events"))
            case = replace(case, body={"channels": ["custom"]})
        content = case.content("slow") or b""
        head = f"{case.method} {case.at('slow')} HTTP/1.1\r\nHost: {place.url.partition('//')[2]}\r\n"
        head += f"Authorization: {bearer()['Authorization']}\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {len(content)}\r\n\r\n"
        with socket.socket() as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_connect(line, (place.server.host, place.server.port))
            await loop.sock_sendall(line, head.encode() + content)
            await until(lambda: place.gateway.connections)
            async with asyncio.timeout(20):
                while place.gateway.connections:
                    place.module.hub.publish("slow", "token", {"content": "x" * 200_000})
                    place.module.hub.publish("slow", "custom", {"name": "x", "data": "x" * 200_000})
                    await asyncio.sleep(0.02)
        assert place.module.hub.registry.is_running("slow")
