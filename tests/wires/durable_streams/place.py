"""A real server whose executions a client in another language drives over HTTP."""

import asyncio
import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request

from lg_streaming import StreamingModule
from lg_streaming.gateway.dialects.durable_streams import DurableStreams
from tests.support.server import Server, serve

KEPT = 40
"""Updates that are kept of each execution."""
FREE: dict[str, Any] = {"messages_per_second": None, "connects_per_address": None}
"""Limits under which one machine may ask as often as many."""
PATH = "/v1/stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A running server with the wire."""

    module: StreamingModule
    server: Server

    @property
    def url(self) -> str:
        return f"{self.server.url}{PATH}"

    def tokens(self, execution_id: str, count: int, *, start: int = 0) -> None:
        for index in range(start, start + count):
            self.module.hub.publish(execution_id, "token", {"content": f"t{index} "})


def driven_app(module: StreamingModule) -> FastAPI:
    """Return an app with the wire, and a route that publishes, ends runs, and ends or breaks event streams."""
    app = FastAPI()
    module.install(app, wires=["durable-streams"])

    @app.post("/drive")
    async def drive(request: Request) -> dict[str, Any]:  # pyright: ignore[reportUnusedFunction] (a route)
        asked = await request.json()
        hub, id_ = module.hub, asked["id"]
        match asked["do"]:
            case "open":
                hub.open(id_, owner=asked.get("owner"))
            case "tokens":
                for index in range(asked["from"], asked["to"]):
                    hub.publish(id_, "token", {"content": f"t{index} "})
                    await asyncio.sleep(0)
            case "close":
                await hub.close(id_)
            case "drop":
                await hub.log.drop(id_)
            case "streams":
                gateway: Any = module.gateway
                http = gateway._http
                for stream in [each for each in http.streams if each._subscription.execution_id == id_]:
                    stream.cut() if asked["how"] == "break" else stream.close_for_restart()
            case other:
                raise ValueError(other)
        return {}

    return app


@contextlib.contextmanager
def place(*, wait: float = 1.5, connection_time: float | None = None, **settings: Any) -> Generator[Place]:
    """Serve the wire. A long poll waits for `wait` seconds, and an event stream lasts `connection_time`."""
    before = DurableStreams.wait, DurableStreams.connection_time
    DurableStreams.wait, DurableStreams.connection_time = wait, connection_time or before[1]
    module = StreamingModule(
        {"auth": {"enabled": False}, "retention": {"max_updates": KEPT}, "limits": FREE, **settings}
    )
    try:
        with serve(driven_app(module), log_config=None) as server:
            yield Place(module=module, server=server)
    finally:
        DurableStreams.wait, DurableStreams.connection_time = before
