"""Tiny apps for the tests of the support code itself."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import socketio
from fastapi import FastAPI
from socketio.exceptions import ConnectionRefusedError as Refused


def plain() -> FastAPI:
    """Answers 'hello' at /."""
    app = FastAPI()

    @app.get("/")
    async def hello() -> str:
        return "hello"

    return app


def broken() -> FastAPI:
    """Fails to start."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        msg = "cannot start"
        raise RuntimeError(msg)
        yield

    return FastAPI(lifespan=lifespan)


def echo() -> FastAPI:
    """A Socket.IO server at /socket.io: answers `say` with what it got and a `heard` event; some `auth` is needed."""
    server = socketio.AsyncServer(async_mode="asgi", transports=["websocket"])

    async def connect(_sid: str, _environ: Any, auth: Any) -> None:
        if not auth:
            raise Refused("unauthorized", {"code": 4010})

    async def say(sid: str, data: Any = None) -> Any:
        await server.emit("heard", data, to=sid)
        return {"ok": True, "data": data}

    server.on("connect", connect)
    server.on("say", say)
    app = FastAPI()
    app.mount("/socket.io", socketio.ASGIApp(server, socketio_path=""))
    return app
