"""The command `demo`: a server, a client of it, a run, and a picture of that run."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

from fastapi import FastAPI
from rich.console import Console

from lg_streaming import StreamingModule
from lg_streaming.cli import formatting
from lg_streaming.cli.render import Renderer, make_renderer
from lg_streaming.cli.run_view import RunView
from lg_streaming.cli.signals import signal_handlers
from lg_streaming.client import ClientSubscription, SocketIOClient
from lg_streaming.demo.graph import Graph, build_graph
from lg_streaming.demo.models import ModelNotAvailableError, make_model
from lg_streaming.demo.prompts import DEFAULT_QUESTION
from lg_streaming.demo.server import run_server
from lg_streaming.demo.tools import demo_tools
from lg_streaming.demo.watch import watch_router
from lg_streaming.errors import StreamingError
from lg_streaming.escaping import escape_controls
from lg_streaming.serving.listener import AddressInUseError
from lg_streaming.settings import AuthSettings, StreamingSettings

__all__ = ["DemoError", "DemoOptions", "make_app", "run_demo", "subscribe"]

_FRAME_INTERVAL: Final = 0.08
_TOOL_CALL_DURATION: Final = 0.9
_FINISH_TIMEOUT: Final = 5.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class DemoError(Exception):
    """Failure of the demo; the message has the reason and the remedy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """Options of the command."""

    question: str | None
    """None: the question that the offline model knows best."""
    model: str | None
    host: str
    port: int | None
    speed: float
    """Factor on the pace of the offline model."""
    watch: bool
    keep_open: bool


async def run_demo(options: DemoOptions, console: Console) -> None:
    """Run the assistant once and show it on `console`; with `keep_open`, stay until Ctrl-C.

    Raises:
        DemoError: If the model or the port is not available, a package is missing, or the run failed.
    """
    if find_spec("aiohttp") is None:
        raise DemoError("the demo's client needs the package aiohttp: pip install 'lg-streaming[demo]'")
    gateway_log = logging.getLogger("lg_streaming.gateway")
    level = gateway_log.level
    if options.host not in _LOOPBACK:
        raise DemoError("the demo has no authentication: --host is 127.0.0.1, ::1 or localhost")
    # The warning about local mode does not concern the user of a local demo.
    gateway_log.setLevel(logging.ERROR)
    try:
        model = make_model(options.model, speed=options.speed)
        graph = build_graph(model, demo_tools(pause=_TOOL_CALL_DURATION / options.speed))
        streaming = StreamingModule(StreamingSettings(auth=AuthSettings(enabled=None)))
        async with run_server(make_app(streaming, watch=options.watch), host=options.host, port=options.port) as url:
            await _Demo(options=options, console=console, graph=graph, streaming=streaming, url=url).play()
    except (ModelNotAvailableError, AddressInUseError) as error:
        raise DemoError(str(error)) from error
    finally:
        gateway_log.setLevel(level)


def make_app(streaming: StreamingModule, *, watch: bool) -> FastAPI:
    """Return an application with the streaming routes and, with `watch`, the page for browsers."""
    app = FastAPI(title="lg_streaming demo")
    streaming.install(app)
    if watch:
        app.include_router(watch_router(prefix=streaming.settings.gateway.prefix))
    return app


@asynccontextmanager
async def subscribe(url: str, execution_id: str) -> AsyncGenerator[ClientSubscription]:
    """Subscribe to an execution, and yield the subscription once the server has accepted it.

    The first connection is tried once; a connection that is lost later is made again.

    Raises:
        DemoError: If the server cannot be reached, or refuses the connection or the subscription.
    """
    async with SocketIOClient(url, auto_reconnect=False) as client:
        try:
            await client.connect()
        except StreamingError as error:
            raise DemoError(f"no connection to {url}: {error.message}") from error
        try:
            subscription = client.subscribe(execution_id)
            await subscription.connect()
        except StreamingError as error:
            raise DemoError(f"{url} refused the subscription: {error.message}") from error
        client.configure(auto_reconnect=True)
        yield subscription


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demo:
    """One run behind the server at `url`."""

    options: DemoOptions
    console: Console
    graph: Graph
    streaming: StreamingModule
    url: str

    async def play(self) -> None:
        """Run, show, sum up; with `keep_open`, stay until Ctrl-C."""
        question = self.options.question or DEFAULT_QUESTION
        execution_id = f"demo-{uuid4().hex[:6]}"
        page = f"{self.url}/watch/{quote(execution_id)}" if self.options.watch else None
        self.console.print(escape_controls(question), style="bold", markup=False)
        if page is not None:
            self.console.print(f"Watch in a browser: {page}", soft_wrap=True)
        self.console.print()
        run = RunView()
        failure = await self._show(question, execution_id, run, make_renderer(self.console, run, address=page))
        self.console.print()
        self.console.print(formatting.summary(run), style="bold")
        if failure is not None:
            raise DemoError(f"the run failed: {failure}")
        if self.options.keep_open:
            self.console.print(f"Still served at {page or self.url} until Ctrl-C.", soft_wrap=True)
            await _wait_for_interrupt()

    async def _show(self, question: str, execution_id: str, run: RunView, renderer: Renderer) -> BaseException | None:
        """Run the graph and show it until its last update has arrived; return the error of the run."""
        config = self.streaming.config(execution_id=execution_id)
        async with subscribe(self.url, execution_id) as subscription:
            working = asyncio.create_task(self.graph.ainvoke({"question": question}, config))
            reading = asyncio.create_task(_read(subscription, run, renderer))
            try:
                with renderer:
                    while not reading.done() and not await _is_overdue(reading, after=working):
                        renderer.tick()
                        await asyncio.wait({reading}, timeout=_FRAME_INTERVAL)
                await asyncio.wait({working}, timeout=_FINISH_TIMEOUT)
            finally:
                reading.cancel()
                working.cancel()
                await asyncio.wait({reading, working})
        failure = None if working.cancelled() else working.exception()
        if failure is None and reading.cancelled():
            raise DemoError("the run has ended, but its last update did not arrive")
        if not reading.cancelled():
            reading.result()
        return failure


async def _read(subscription: ClientSubscription, run: RunView, renderer: Renderer) -> None:
    """Pass updates to the picture until the run has ended."""
    try:
        async for update in subscription:
            if update.type == "gap":
                run.mark_gap(update.data)
            else:
                renderer.on_update(run.apply(update.to_dict()))
    except StreamingError as error:
        raise DemoError(f"the subscription was closed: {error.message}") from error


async def _wait_for_interrupt() -> None:
    pressed = asyncio.Event()
    with signal_handlers([signal.SIGINT], lambda _: pressed.set()):
        await pressed.wait()


async def _is_overdue(reading: asyncio.Task[None], *, after: asyncio.Task[Any]) -> bool:
    """Return whether the run has ended, but its last update does not arrive."""
    if not after.done():
        return False
    await asyncio.wait({reading}, timeout=_FINISH_TIMEOUT)
    return not reading.done()
