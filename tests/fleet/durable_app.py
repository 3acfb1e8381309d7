"""A process that runs graphs with a durable checkpointer, and does what a test sends it."""

from __future__ import annotations

import asyncio
import json
import logging
import operator
import os
import textwrap
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypedDict, cast

from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lg_streaming import StreamingModule, StreamingSettings, current_emitter

__all__ = ["make"]


class State(TypedDict, total=False):
    """State of the graphs."""

    answers: Annotated[list[Any], operator.add]
    done: list[str]


def _folder() -> Path:
    return Path(os.environ["FOLDER"])


def note(name: str) -> None:
    """Record that a node has begun in this process."""
    with (_folder() / "calls").open("a") as file:
        file.write(f"{name}\n")


async def first(state: State) -> State:
    note("first")
    current_emitter().token("first")
    return {}


async def work(state: State) -> State:
    """Wait until the test makes the file `gate`."""
    note("work")
    current_emitter().token("work")
    while not (_folder() / "gate").exists():
        await asyncio.sleep(0.01)
    return {"done": ["work"]}


def ask(question: str) -> Any:
    async def node(state: State) -> State:
        note(f"ask {question}")
        return {"answers": [interrupt(question)]}

    return node


async def last(state: State) -> State:
    note("last")
    return {"done": [*state.get("done", []), "last"]}


def working(saver: Any) -> Any:
    graph = StateGraph(State).add_node("first", first).add_node("work", work).add_node("last", last)
    graph.add_edge(START, "first").add_edge("first", "work").add_edge("work", "last").add_edge("last", END)
    return graph.compile(checkpointer=saver, name="working")


def asking(saver: Any, *questions: str) -> Any:
    graph = StateGraph(State).add_node("first", first).add_node("last", last).add_edge(START, "first")
    for question in questions:
        graph.add_node(question, ask(question))
        graph.add_edge("first", question)
        graph.add_edge(question, "last")
    return graph.add_edge("last", END).compile(checkpointer=saver, name="asking")


def open_saver(url: str) -> AbstractAsyncContextManager[Any]:
    if url.startswith("postgresql"):
        return AsyncPostgresSaver.from_conn_string(url)
    return AsyncSqliteSaver.from_conn_string(url)


def make() -> Starlette:
    """Make the app. `SETTINGS` are its settings, `CHECKPOINTS` names its database, `FOLDER` is shared with the test."""
    logging.basicConfig(level=logging.WARNING)
    streaming = StreamingModule(StreamingSettings.model_validate(json.loads(os.environ["SETTINGS"])))
    names: dict[str, Any] = {"streaming": streaming, "hub": streaming.hub, "asyncio": asyncio, "os": os}

    async def do(request: Request) -> JSONResponse:
        scope = dict(names)
        exec("async def _do():\n" + textwrap.indent((await request.body()).decode(), "    "), scope)
        try:
            result = await scope["_do"]()
        except Exception as error:  # noqa: BLE001 (for the test)
            return JSONResponse({"error": type(error).__name__, "message": str(error)}, status_code=400)
        return JSONResponse(json.loads(json.dumps(result, default=str)))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        async with open_saver(os.environ["CHECKPOINTS"]) as saver:
            await cast("AsyncPostgresSaver", saver).setup()
            streaming.graphs["working"] = working(saver)
            streaming.graphs["asking"] = asking(saver, "one")
            streaming.graphs["asking-two"] = asking(saver, "one", "two")
            await streaming.hub.describe("-")  # it takes its lease
            yield

    app = Starlette(routes=[Route("/do", do, methods=["POST"])], lifespan=lifespan)
    streaming.install(app)
    return app
