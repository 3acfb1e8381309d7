"""The demo from start to end: a server, a client of it, the run, and the picture of it."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from fastapi import FastAPI
from rich.console import Console

from lg_streaming import StreamingModule
from lg_streaming.cli import formatting
from lg_streaming.cli.render import Renderer, make_renderer
from lg_streaming.cli.run_view import RunView
from lg_streaming.cli.signals import handling
from lg_streaming.cli.watcher import Watcher, WatchError
from lg_streaming.demo.graph import Graph, build_graph
from lg_streaming.demo.models import ModelNotAvailableError, make_model
from lg_streaming.demo.server import AddressInUseError, serving
from lg_streaming.demo.tools import demo_tools
from lg_streaming.demo.watch import watch_router
from lg_streaming.escaping import escape_controls
from lg_streaming.settings import AuthSettings, StreamingSettings

_SECONDS_PER_FRAME = 0.08
_SECONDS_PER_TOOL_CALL = 0.9
_SECONDS_OF_GRACE = 5.0
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class DemoError(Exception):
    """The demo cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asked for; `speed` is a factor on the offline model's pace."""

    question: str
    model: str | None
    host: str
    port: int | None
    speed: float
    watch: bool
    keep_open: bool


async def run_demo(options: Options, console: Console) -> None:
    """Run the assistant once and show it on `console`; with `keep_open`, stay until Ctrl-C.

    Raises:
        DemoError: the model or the port cannot be had, a package is missing, or the run failed.
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
        graph = build_graph(model, demo_tools(pause=_SECONDS_PER_TOOL_CALL / options.speed))
        streaming = StreamingModule(StreamingSettings(auth=AuthSettings(enabled=None)))
        async with serving(make_app(streaming, watch=options.watch), host=options.host, port=options.port) as url:
            await _Demo(options=options, console=console, graph=graph, streaming=streaming, url=url).play()
    except (ModelNotAvailableError, AddressInUseError, WatchError) as error:
        raise DemoError(str(error)) from error
    finally:
        gateway_log.setLevel(level)


def make_app(streaming: StreamingModule, *, watch: bool) -> FastAPI:
    """The demo's app: the streaming routes and, with `watch`, the page for browsers."""
    app = FastAPI(title="lg_streaming demo")
    streaming.install(app)
    if watch:
        app.include_router(watch_router(prefix=streaming.settings.gateway.prefix))
    return app


@dataclass(frozen=True, slots=True, kw_only=True)
class _Demo:
    """One run behind a server that is up at `url`."""

    options: Options
    console: Console
    graph: Graph
    streaming: StreamingModule
    url: str

    async def play(self) -> None:
        """Run, show, sum up; with `keep_open`, stay until Ctrl-C."""
        execution_id = f"demo-{uuid4().hex[:6]}"
        page = f"{self.url}/watch/{quote(execution_id)}" if self.options.watch else None
        self.console.print(escape_controls(self.options.question), style="bold", markup=False)
        if page is not None:
            self.console.print(f"Watch in a browser: {page}", soft_wrap=True)
        self.console.print()
        run = RunView()
        failure = await self._show(execution_id, run, make_renderer(self.console, run, address=page))
        self.console.print()
        self.console.print(formatting.summary(run), style="bold")
        if failure is not None:
            raise DemoError(f"the run failed: {failure}")
        if self.options.keep_open:
            self.console.print(f"Still served at {page or self.url} until Ctrl-C.", soft_wrap=True)
            await _interrupted()

    async def _show(self, execution_id: str, run: RunView, renderer: Renderer) -> BaseException | None:
        """Run the graph and show it until its last update has arrived; returns what the run failed with."""

        def on_update(update: Mapping[str, Any]) -> None:
            renderer.applied(run.apply(update))

        config = self.streaming.config(execution_id=execution_id)
        async with Watcher(self.url, execution_id, on_update=on_update, on_gap=run.miss) as watcher:
            working = asyncio.create_task(self.graph.ainvoke({"question": self.options.question}, config))
            ended = asyncio.create_task(watcher.ended())
            try:
                with renderer:
                    while not ended.done() and not await _is_overdue(ended, after=working):
                        renderer.tick()
                        await asyncio.wait({ended}, timeout=_SECONDS_PER_FRAME)
                await asyncio.wait({working}, timeout=_SECONDS_OF_GRACE)
            finally:
                ended.cancel()
                working.cancel()
                await asyncio.wait({ended, working})
        failure = None if working.cancelled() else working.exception()
        if failure is None and ended.cancelled():
            raise WatchError("the run is over, but its last update did not arrive")
        if not ended.cancelled():
            ended.result()
        return failure


async def _interrupted() -> None:
    """Return on Ctrl-C."""
    pressed = asyncio.Event()
    with handling([signal.SIGINT], lambda _: pressed.set()):
        await pressed.wait()


async def _is_overdue(ended: asyncio.Task[None], *, after: asyncio.Task[Any]) -> bool:
    """Whether the run is over, and yet its last update does not arrive."""
    if not after.done():
        return False
    await asyncio.wait({ended}, timeout=_SECONDS_OF_GRACE)
    return not ended.done()
