"""The command `demo`: a server, a client of it, a run, and a picture of that run."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import uuid4

from fastapi import FastAPI
from rich.console import Console

from lg_streaming import StreamingModule
from lg_streaming.cli.answer_line import AnswerLine
from lg_streaming.cli.keyboard import has_keyboard, read_keys
from lg_streaming.cli.render import Renderer, make_renderer
from lg_streaming.cli.signals import signal_handlers
from lg_streaming.client import ClientSubscription, SocketIOClient
from lg_streaming.demo.graph import build_graph
from lg_streaming.demo.models import ModelNotAvailableError, make_model
from lg_streaming.demo.prompts import DEFAULT_QUESTION
from lg_streaming.demo.server import run_server
from lg_streaming.demo.tools import demo_tools
from lg_streaming.errors import RunCancelledError, StreamingError
from lg_streaming.escaping import escape_controls
from lg_streaming.folding import formatting
from lg_streaming.folding.run_view import RunView
from lg_streaming.serving.listener import AddressInUseError
from lg_streaming.settings import AuthSettings, RunSettings, StreamingSettings

if TYPE_CHECKING:
    from lg_streaming.runs import GraphRun

__all__ = ["DemoError", "DemoOptions", "DemoStoppedError", "make_app", "run_demo", "subscribe"]

_FRAME_INTERVAL: Final = 0.08
_TOOL_CALL_DURATION: Final = 0.9
_FINISH_TIMEOUT: Final = 5.0
_ATTENDED_TIMEOUT: Final = 600.0
_UNATTENDED_TIMEOUT: Final = 3.0
"""Seconds that the graph waits for an answer without a keyboard, at the speed 1: a page may answer."""
_GRAPH: Final = "research"
_RESPONDER: Final = "the terminal"
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class DemoError(Exception):
    """Failure of the demo; the message has the reason and the remedy."""


class DemoStoppedError(Exception):
    """Ctrl-C ended the run or the program."""


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

    The keyboard answers the graph's prompts if `console` and the standard input are a terminal. Without a keyboard,
    a prompt that no page answers takes its default after a few seconds. Ctrl-C cancels the run; again, it stops.

    Raises:
        DemoError: If the model or the port is not available, a package is missing, or the run failed or was cancelled
            by a page.
        DemoStoppedError: If Ctrl-C cancelled the run.
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
        settings = StreamingSettings(auth=AuthSettings(enabled=None), runs=RunSettings(shutdown_grace=0))
        streaming = StreamingModule(settings)
        attended = console.is_terminal and has_keyboard()
        streaming.graphs[_GRAPH] = build_graph(
            model,
            demo_tools(pause=_TOOL_CALL_DURATION / options.speed),
            answer_timeout=_ATTENDED_TIMEOUT if attended else _UNATTENDED_TIMEOUT / options.speed,
        )
        interrupts = _Interrupts()
        with signal_handlers([signal.SIGINT], interrupts.add):  # until the server has stopped
            async with run_server(
                make_app(streaming, watch=options.watch), host=options.host, port=options.port
            ) as url:
                demo = _Demo(
                    options=options,
                    console=console,
                    attended=attended,
                    streaming=streaming,
                    url=url,
                    interrupts=interrupts,
                )
                await demo.play()
    except (ModelNotAvailableError, AddressInUseError) as error:
        raise DemoError(str(error)) from error
    finally:
        gateway_log.setLevel(level)


def make_app(streaming: StreamingModule, *, watch: bool) -> FastAPI:
    """Return an application with the streaming routes and, with `watch`, the pages for browsers."""
    app = FastAPI(title="lg_streaming demo")
    streaming.install(app, ui=watch)
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


class _Interrupts:
    """Counter of Ctrl-C."""

    def __init__(self) -> None:
        self.count = 0
        self._next = asyncio.Event()

    def add(self, _: signal.Signals) -> None:
        """Count a Ctrl-C."""
        self.count += 1
        self._next.set()

    async def wait(self) -> None:
        """Wait for the next Ctrl-C, or return at once after one that was not waited for."""
        await self._next.wait()
        self._next.clear()


class _Demo:
    """One run behind the server at `url`."""

    def __init__(
        self,
        *,
        options: DemoOptions,
        console: Console,
        attended: bool,
        streaming: StreamingModule,
        url: str,
        interrupts: _Interrupts,
    ) -> None:
        self._options = options
        self._console = console
        self._attended = attended
        self._streaming = streaming
        self._url = url
        self._interrupts = interrupts

    async def play(self) -> None:
        """Run, show, sum up; with `keep_open`, stay until Ctrl-C."""
        console, options = self._console, self._options
        question = options.question or DEFAULT_QUESTION
        execution_id = f"demo-{uuid4().hex[:6]}"
        page = f"{self._url}/watch/{quote(execution_id)}" if options.watch else None
        console.print(escape_controls(question), style="bold", markup=False)
        if page is not None:
            console.print(f"Watch in a browser: {page}", soft_wrap=True)
        console.print()
        view = RunView()
        failure = await self._show(question, execution_id, view, page)
        was_interrupted = self._interrupts.count > 0
        console.print()
        console.print(formatting.summary(view), style="bold")
        if failure is not None and not isinstance(failure, RunCancelledError):
            raise DemoError(f"the run failed: {failure}")
        if options.keep_open:
            console.print(f"Still served at {page or self._url} until Ctrl-C.", soft_wrap=True)
            await self._interrupts.wait()
        if was_interrupted:
            raise DemoStoppedError
        if failure is not None:
            raise DemoError(f"the run was cancelled: {failure}")

    async def _show(self, question: str, execution_id: str, view: RunView, page: str | None) -> BaseException | None:
        """Run the graph and show it until its last update has arrived; return the error of the run."""
        async with subscribe(self._url, execution_id) as subscription:
            run = await self._streaming.runs.start(_GRAPH, {"question": question}, execution_id=execution_id)
            working = asyncio.create_task(_outcome(run))
            answers = AnswerLine(view, partial(self._streaming.hub.respond, execution_id, responder=_RESPONDER))
            renderer = make_renderer(self._console, view, address=page, answers=answers if self._attended else None)
            reading = asyncio.create_task(_read(subscription, view, renderer))
            cancelling = asyncio.create_task(self._cancel_on_interrupt(run))
            try:
                with (
                    read_keys(answers.on_keys) if self._attended else contextlib.nullcontext(),
                    renderer,
                ):
                    while not reading.done() and not await _is_overdue(reading, after=working):
                        renderer.tick()
                        await asyncio.wait({reading}, timeout=_FRAME_INTERVAL)
                        if self._interrupts.count > 1:
                            raise DemoStoppedError
                await asyncio.wait({working}, timeout=_FINISH_TIMEOUT)
            finally:
                await answers.aclose()
                tasks = {reading, working, cancelling}
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
        failure = None if working.cancelled() else working.result()
        if failure is None and reading.cancelled():
            raise DemoError("the run has ended, but its last update did not arrive")
        if not reading.cancelled():
            reading.result()
        return failure

    async def _cancel_on_interrupt(self, run: GraphRun) -> None:
        await self._interrupts.wait()
        with contextlib.suppress(StreamingError):  # it has ended
            await run.cancel("Ctrl-C in the terminal")


async def _outcome(run: GraphRun) -> Exception | None:
    """Wait for the end of a run, and return its error."""
    try:
        await run
    except Exception as error:  # noqa: BLE001 (the program's caller reports it)
        return error
    return None


async def _read(subscription: ClientSubscription, view: RunView, renderer: Renderer) -> None:
    """Pass updates to the picture until the run has ended."""
    try:
        async for update in subscription:
            if update.type == "gap":
                view.mark_gap(update.data)
            else:
                renderer.on_update(view.apply(update.to_dict()))
    except StreamingError as error:
        raise DemoError(f"the subscription was closed: {error.message}") from error


async def _is_overdue(reading: asyncio.Task[None], *, after: asyncio.Task[Any]) -> bool:
    """Return whether the run has ended, but its last update does not arrive."""
    if not after.done():
        return False
    await asyncio.wait({reading}, timeout=_FINISH_TIMEOUT)
    return not reading.done()
