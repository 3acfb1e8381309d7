"""The example's graph in a process that another one may follow: a log on Redis, and checkpoints in a file."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from types import ModuleType

from fastapi import FastAPI
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver

from lg_streaming import StreamingModule
from tests.wires.pages.site import EXAMPLE

__all__ = ["load_server", "make"]


def load_server() -> ModuleType:
    """Import the example's `server.py`."""
    spec = importlib.util.spec_from_file_location("front_ends_server", EXAMPLE / "server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def make() -> FastAPI:
    """Build the application; the variables `LG_STREAMING_…` have its settings, and `CHECKPOINTS` names the file."""
    server, streaming = load_server(), StreamingModule()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        async with AsyncSqliteSaver.from_conn_string(os.environ["CHECKPOINTS"]) as saver:
            streaming.graphs[server.GRAPH] = server.build_graph(delay=0.03, pause=0.1, checkpointer=saver)
            yield

    app = FastAPI(lifespan=lifespan)
    streaming.install(app, wires=["ai-sdk", "langgraph", "ag-ui"])
    return app
