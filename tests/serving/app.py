"""An app as a user writes it, for `python -m lg_streaming serve`: it publishes on request."""

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from lg_streaming import StreamingModule, StreamingSettings
from lg_streaming.settings import AuthSettings, LimitSettings

NOT_AN_APP = "just text"


def settings(**changes: object) -> StreamingSettings:
    """Open to everybody; one machine may open as many connections as a test wants."""
    unlimited = {"connections_per_address": None} if "connections_per_address" in LimitSettings.model_fields else {}
    return StreamingSettings.model_validate(
        {
            "auth": AuthSettings(enabled=False),
            # httpx2 2.16 now and then notices what came for one stream only when the next bytes of any stream come.
            "gateway": {"heartbeat_interval": 0.2},
            "limits": {**unlimited, "send_timeout": 1.0},
            **changes,
        }
    )


def publishing() -> tuple[FastAPI, StreamingModule]:
    """Return an app with a route that publishes tokens."""
    app = FastAPI()
    streaming = StreamingModule(settings())
    streaming.install(app)

    @app.post("/publish/{execution_id}")
    async def publish(  # pyright: ignore[reportUnusedFunction]
        request: Request, execution_id: str, count: int, start: int = 0, size: int = 1
    ) -> None:
        await request.body()  # httpcore fails over HTTP/2 when it is answered before it has sent its request's end
        for index in range(start, start + count):
            streaming.hub.publish(execution_id, "token", {"content": "x" * size, "index": index})

    return app, streaming


def make() -> FastAPI:
    app, streaming = publishing()
    streaming.hub.open("exec-1")

    @app.get("/peer")
    async def peer(request: Request) -> dict[str, object]:  # pyright: ignore[reportUnusedFunction]
        assert request.client is not None
        return {"address": request.client.host, "port": int(request.client.port), "scheme": request.url.scheme}

    @app.get("/figures")
    async def figures() -> dict[str, int]:  # pyright: ignore[reportUnusedFunction]
        return {"subscriptions": streaming.hub.statistics().subscriptions}

    @app.get("/slow")
    async def slow(seconds: float) -> str:  # pyright: ignore[reportUnusedFunction]
        await asyncio.sleep(seconds)
        return "slept"

    return app


def make_local() -> FastAPI:
    """Return an app in local mode, without authentication."""
    app = FastAPI()
    streaming = StreamingModule()
    streaming.install(app)
    streaming.hub.open("exec-1")
    return app


@asynccontextmanager
async def _broken(_: FastAPI) -> AsyncGenerator[None]:
    raise RuntimeError("no database")
    yield


fails_to_start = FastAPI(lifespan=_broken)


def make_shared() -> FastAPI:
    """Return an app that several processes may serve; each names its process."""
    app, _ = publishing()

    @app.get("/process")
    async def process() -> int:  # pyright: ignore[reportUnusedFunction]
        return os.getpid()

    return app
