"""A process of a fleet: it runs LangGraph graphs, serves executions, and does what a test sends it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import textwrap
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypedDict

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import ChannelVersions, Checkpoint, CheckpointMetadata
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from lg_streaming import StreamingModule, StreamingSettings, current_emitter, stream_token
from lg_streaming.log.redis.log import RedisLog
from tests.fleet import clock

__all__ = ["make", "make_sync_graph"]


class State(TypedDict, total=False):
    count: int
    pause: float
    ask: bool
    answer: Any


class FileSaver(InMemorySaver):
    """Checkpoints in a file, which another process reads when the first has ended."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        if path.exists():
            for saved, mine in zip(pickle.loads(path.read_bytes()), self._stores, strict=True):
                mine.update(saved)

    @property
    def _stores(self) -> list[dict[Any, Any]]:
        return [self.storage, self.writes, self.blobs]

    def put(
        self,
        config: RunnableConfig,
        checkpoint: Checkpoint,
        metadata: CheckpointMetadata,
        new_versions: ChannelVersions,
    ) -> RunnableConfig:
        saved = super().put(config, checkpoint, metadata, new_versions)
        self._save()
        return saved

    def put_writes(
        self, config: RunnableConfig, writes: Sequence[tuple[str, Any]], task_id: str, task_path: str = ""
    ) -> None:
        super().put_writes(config, writes, task_id, task_path)
        self._save()

    def _save(self) -> None:
        plain = [{key: _plain(value) for key, value in each.items()} for each in self._stores]
        new = self._path.with_suffix(f".{os.getpid()}")
        new.write_bytes(pickle.dumps(plain))
        new.replace(self._path)


def _plain(value: Any) -> Any:
    """Return a dictionary without the function that makes its missing values, which cannot be pickled."""
    return dict(value) if isinstance(value, dict) else value  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]


@stream_token(buffer_size=1)
async def write(state: State) -> State:
    """Write `count` tokens, one each `pause` seconds."""
    for number in range(state.get("count", 10)):
        current_emitter().token(f"{number} ")
        await asyncio.sleep(state.get("pause", 0.005))
    return {}


@stream_token(buffer_size=1)
async def ask(state: State) -> State:
    """Ask a human, if the input contains `ask`."""
    if not state.get("ask"):
        return {}
    answer = interrupt("go on?")
    current_emitter().token(f"answer {answer}")
    return {"answer": answer}


def make_graph(path: str | None) -> Any:
    saver = FileSaver(Path(path)) if path else InMemorySaver()
    graph = StateGraph(State).add_node("write", write).add_node("ask", ask)
    return graph.add_edge(START, "write").add_edge("write", "ask").add_edge("ask", END).compile(checkpointer=saver)


def make_sync_graph(count: int) -> Any:
    """Return a graph whose one node writes so many tokens at once."""

    @stream_token(buffer_size=1)
    def write(state: State) -> State:
        for number in range(count):
            current_emitter().token(f"{number} ")
        return {}

    return StateGraph(State).add_node("write", write).add_edge(START, "write").compile()


class FleetProcess:
    """Object that a test's code uses as `p`."""

    def __init__(self, streaming: StreamingModule) -> None:
        self.streaming = streaming
        self.hub = streaming.hub
        self.graph = make_graph(os.environ.get("CHECKPOINTS"))
        self.tasks: dict[str, asyncio.Task[Any]] = {}

    def load(self) -> None:
        """Read the checkpoints that another process has written."""
        self.graph = make_graph(os.environ["CHECKPOINTS"])

    def start(self, execution_id: str, **state: Any) -> None:
        """Run the graph as an execution, in the background."""
        self._start(execution_id, state)

    def resume(self, execution_id: str, answer: object) -> None:
        """Resume an interrupted graph."""
        self._start(execution_id, Command(resume=answer))

    def _start(self, execution_id: str, given: Any) -> None:
        self.tasks[execution_id] = asyncio.create_task(self._run(execution_id, given))

    async def _run(self, execution_id: str, given: Any) -> None:
        async with self.streaming.execution(execution_id):  # a cancelled run cancels this task
            await self.graph.ainvoke(given, self.streaming.config(execution_id))

    async def outcome(self, execution_id: str) -> str:
        """Return how the graph's task ended."""
        (done,) = await asyncio.gather(self.tasks[execution_id], return_exceptions=True)
        return type(done).__name__ if isinstance(done, BaseException) else "returned"

    @property
    def refused(self) -> int:
        return self.hub.statistics().dropped.get("refused", 0)


def make() -> Starlette:
    """Make the app. `LOG`, `PREFIX` and `LEASE` name its log; `GRACE` bounds a cancellation."""
    logging.basicConfig(level=logging.WARNING)
    settings = StreamingSettings.model_validate(
        {
            "log": os.environ["LOG"],
            "redis": {
                "prefix": os.environ["PREFIX"],
                "lease": float(os.environ.get("LEASE", "1")),
                "check_interval": 0.5,
            },
            "retention": json.loads(os.environ["RETENTION"]),
            "limits": {"cancel_grace": float(os.environ.get("GRACE", "1"))},
        }
    )
    log = RedisLog(settings.log, retention=settings.retention, redis=settings.redis, clock=clock.now)
    streaming = StreamingModule(settings, log=log)
    streaming.hub.registry.clock = clock.now
    streaming.hub.writer.encoder._clock = clock.now  # pyright: ignore[reportPrivateUsage]
    process = FleetProcess(streaming)

    async def do(request: Request) -> JSONResponse:
        names: dict[str, Any] = {"p": process, "hub": streaming.hub, "streaming": streaming}
        names |= {"asyncio": asyncio, "clock": clock, "threading": threading, "time": time, "os": os}
        exec("async def _do():\n" + textwrap.indent((await request.body()).decode(), "    "), names)
        try:
            result = await names["_do"]()
        except Exception as error:  # noqa: BLE001 (for the test)
            return JSONResponse({"error": type(error).__name__, "message": str(error)}, status_code=400)
        return JSONResponse(json.loads(json.dumps(result, default=str)))

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncGenerator[None]:
        await streaming.hub.describe("-")  # it takes its lease
        yield

    app = Starlette(routes=[Route("/do", do, methods=["POST"])], lifespan=lifespan)
    streaming.install(app)
    return app
