"""Ends of streams before their run, for every wire: shutdown, the longest duration, expired tokens, slow readers.

No client may take such an end for the end of its answer, and nothing is logged as an error.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Generator
from dataclasses import replace

import httpx2
import pytest
from fastapi import FastAPI
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

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
        plain = {"Accept-Encoding": "identity"}
        async with reading(place, stream_of(wire), "cut", plain) as answer:
            await until(lambda: place.gateway.connections)
            stopping = asyncio.create_task(asyncio.to_thread(place.server.stop))
            how, text = await end_of(answer.aiter_text())
            seconds = await stopping
    assert how == HOW[wire], text
    assert seconds < 4
    if wire == "durable-streams":
        assert "streamClosed" not in text


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
