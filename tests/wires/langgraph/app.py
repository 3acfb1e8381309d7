"""The server of the tests, with both graphs, for another process. Environment variables configure it.

- `LOG`: URL of the log; in memory by default.
- `CHECKPOINTS`: file of SQLite with the checkpoints; in memory by default.
- `SECRET`: key of the tokens; by default everyone may do everything.
- `SETTINGS`: more settings, as JSON.
"""

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiosqlite
from fastapi import FastAPI
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from lg_streaming import StreamingModule
from tests.wires.langgraph.graphs import builder, writer

OPEN = {
    "messages_per_second": None,
    "connects_per_address": None,
    "failed_logins_per_address": None,
    "starts_per_subject": None,
}


async def allow(*_: object) -> bool:
    return True


def make() -> FastAPI:
    """Return the app; call it in the event loop that serves it."""
    given = json.loads(os.environ.get("SETTINGS", "{}"))
    settings: dict[str, Any] = {"runs": {"shutdown_grace": 0.1}, **given, "limits": OPEN}
    settings["wires"] = {"graph": "agent", **given.get("wires", {})}
    if log := os.environ.get("LOG"):
        settings["log"] = log
    if secret := os.environ.get("SECRET"):
        settings["auth"] = {**settings.get("auth", {}), "secret": secret}
    else:
        settings["auth"] = {"enabled": False}
    streaming = StreamingModule(settings, authorize=None if secret else allow)
    checkpointer: BaseCheckpointSaver[str] = InMemorySaver()
    close = None
    if path := os.environ.get("CHECKPOINTS"):
        connection = aiosqlite.connect(path)
        checkpointer, close = AsyncSqliteSaver(connection), connection.close

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        yield
        if close is not None:
            await close()

    app = FastAPI(lifespan=lifespan)
    streaming.graphs["agent"] = builder.compile(checkpointer=checkpointer, name="agent")
    streaming.graphs["other"] = writer.compile(checkpointer=checkpointer, name="other")
    streaming.install(app, wires=["langgraph"])
    return app
