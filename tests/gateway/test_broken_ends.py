"""Streams that break their connection when they end before their run, on uvicorn, also behind middlewares."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx2
import pytest
from fastapi import FastAPI, Request
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import Response

from lg_streaming import StreamingModule
from lg_streaming.errors import StreamingError
from lg_streaming.gateway.http.context import HttpContext
from lg_streaming.gateway.http.event_stream import StreamOptions
from lg_streaming.gateway.http.lazy_stream import LazyStream
from lg_streaming.gateway.http.native import Native
from lg_streaming.gateway.protocol.inbound import SubscribeExecution
from tests.support.server import serve


class Cutting(Native):
    """The library's own events, for a reader that takes every end for success."""

    cuts = True

    def on_error(self, error: StreamingError) -> bytes:
        return b""


async def pass_through(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    return await call_next(request)


def make_app(module: StreamingModule, middlewares: int) -> FastAPI:
    app = FastAPI()
    for _ in range(middlewares):
        app.add_middleware(BaseHTTPMiddleware, dispatch=pass_through)
    module.install(app)

    @app.get("/cutting")
    async def cutting(longest: float | None = None) -> Response:  # pyright: ignore[reportUnusedFunction]
        options = StreamOptions(encoder=lambda _, __: Cutting("run", event="type", ids=True, batch=False))
        if longest is not None:
            options = StreamOptions(encoder=options.encoder, max_duration=longest)
        return LazyStream(HttpContext.for_hub(module.hub), SubscribeExecution(execution_id="run"), options)

    return app


async def read_all(parts: AsyncIterator[str]) -> None:
    async for _ in parts:
        pass


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("middlewares", [0, 1, 3])
@pytest.mark.parametrize("end", ["longest", "restart"])
async def test_the_connection_breaks_and_nothing_is_logged(
    middlewares: int, end: str, caplog: pytest.LogCaptureFixture
) -> None:
    module = StreamingModule({"auth": {"enabled": False}})
    with serve(make_app(module, middlewares), log_config=None) as server:
        module.hub.publish("run", "token", {"content": "hello"})
        async with httpx2.AsyncClient(timeout=10) as http:
            url = f"{server.url}/cutting" + ("?longest=0.3" if end == "longest" else "")
            async with http.stream("GET", url) as answer:
                parts = answer.aiter_text()
                while "hello" not in await anext(parts):
                    pass
                stopping = asyncio.create_task(asyncio.to_thread(server.stop)) if end == "restart" else None
                with pytest.raises(httpx2.RemoteProtocolError, match="incomplete"):
                    await read_all(parts)
        if stopping is not None:
            await stopping
    assert complaints(caplog) == []


@pytest.mark.parametrize("middlewares", [0, 2])
async def test_a_run_that_ends_ends_the_stream_tidily(middlewares: int, caplog: pytest.LogCaptureFixture) -> None:
    module = StreamingModule({"auth": {"enabled": False}})
    with serve(make_app(module, middlewares), log_config=None) as server:
        module.hub.publish("run", "token", {"content": "hello"})
        await module.hub.close("run")
        async with httpx2.AsyncClient(timeout=10) as http:
            answer = await http.get(f"{server.url}/cutting")
    assert "workflow_complete" in answer.text
    assert complaints(caplog) == []
