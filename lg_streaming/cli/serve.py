"""Serve an application until Ctrl-C or SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from starlette.applications import Starlette
from starlette.routing import NoMatchFound
from starlette.types import ASGIApp

from lg_streaming.cli.server import Notices, OnListening, ServeOptions, Stop
from lg_streaming.cli.signals import signal_handlers
from lg_streaming.escaping import LineFormatter
from lg_streaming.gateway.hooks.listeners import WATCH_ROUTE
from lg_streaming.gateway.hooks.listeners import listening as hosts
from lg_streaming.gateway.hooks.siblings import served_by
from lg_streaming.serving.acceptor import raise_descriptor_limit
from lg_streaming.serving.listener import format_host, listen

__all__ = ["STOPPING", "configure_logging", "describe_server", "ignore_closed_output", "run_server", "serve_on"]

STOPPING: Final = "Stopping: clients are asked to reconnect."
"""Line for the person at the terminal at the first signal."""


def run_server(app: ASGIApp, options: ServeOptions, print_line: Callable[[str], None]) -> int:
    """Serve `app` until Ctrl-C or SIGTERM, and return the exit code for the shell.

    Args:
        app: The ASGI application.
        options: Options of the server.
        print_line: Prints a line on the terminal.

    Raises:
        AddressInUseError: If the address cannot be listened on.
        MissingExtraError: If HTTP/2 is requested and granian is not installed.
    """
    write = ignore_closed_output(print_line)
    with listen(options.host, options.port) as listener:
        description = describe_server(listener, options)  # granian closes the listener, and opens another one
        if (path := _watch_path(app)) is not None:
            address = _format_address(listener, secure=options.certificate is not None)
            description += f"\nWatch its runs: {address}{path}"
        notices = Notices(
            on_listening=lambda: write(description),
            on_stop=lambda: write(STOPPING),
            on_cut=lambda: write(f"Not everything ended within {options.grace:g} s: the rest is cancelled."),
        )
        return serve_on(listener, app, options, notices)


def serve_on(
    listener: socket.socket, app: ASGIApp, options: ServeOptions, notices: Notices, *, watched: int | None = None
) -> int:
    """Serve `app` on a listening socket until Ctrl-C or SIGTERM, and return the exit code for the shell.

    Args:
        listener: The socket.
        app: The ASGI application.
        options: Options of the server.
        notices: Callbacks.
        watched: A descriptor; once it can be read, the server stops as with SIGTERM.

    Raises:
        MissingExtraError: If HTTP/2 is requested and granian is not installed.
    """
    if options.http2:
        from lg_streaming.cli.granian_server import load_granian

        serve = load_granian()
    else:
        from lg_streaming.cli.uvicorn_server import serve_with_uvicorn as serve
    configure_logging(options)
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(partial(serve, app, options, listener), options, listener, notices, watched))


def configure_logging(options: ServeOptions) -> None:
    """Log to the standard error stream, with each record on one line."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=options.log_level.upper(), handlers=[handler])
    # At DEBUG the server logs each WebSocket handshake whole, tokens in headers and addresses included.
    logging.getLogger("uvicorn.error").setLevel(max(logging.INFO, logging.getLogger().getEffectiveLevel()))


def ignore_closed_output(write: Callable[[str], None]) -> Callable[[str], None]:
    """Return ``write`` without its errors: a closed output must not stop the server, nor keep it from stopping."""

    def write_if_open(text: str) -> None:
        with suppress(OSError, ValueError):
            write(text)

    return write_if_open


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's factory; None, for the standard event loop, where there is no uvloop, as on Windows."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _serve(
    serve: Callable[[Stop, OnListening], Awaitable[None]],
    options: ServeOptions,
    listener: socket.socket,
    notices: Notices,
    watched: int | None,
) -> int:
    stop = Stop(options.grace)
    hosts.set((str(listener.getsockname()[0]),))
    if served_by.get() is None:
        served_by.set(1)
    async with _handle_stop_signals(stop, notices.on_stop):
        if watched is not None:
            loop = asyncio.get_running_loop()
            loop.add_reader(watched, lambda: (loop.remove_reader(watched), stop.request(signal.SIGTERM)))
        serving = asyncio.create_task(_exit_code(serve(stop, notices.on_listening)), name="server")
        stopping = asyncio.create_task(stop.wait(), name="stop")
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        await asyncio.wait({serving}, timeout=options.grace)
        if not serving.done():
            notices.on_cut()
            serving.cancel()
            await asyncio.wait({serving}, timeout=1)
            return 1
        code = serving.result()
    return 128 + signal.SIGINT if stop.signal == signal.SIGINT else code


async def _exit_code(serving: Awaitable[None]) -> int:
    """Return the exit code of a server that refuses to start, which has logged why; else 0."""
    try:
        await serving
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else 1
    return 0


@asynccontextmanager
async def _handle_stop_signals(stop: Stop, on_stop: Callable[[], object]) -> AsyncGenerator[None]:
    """Let Ctrl-C and SIGTERM request the stop, for the time of the block."""

    def on_signal(number: signal.Signals) -> None:
        is_first = stop.signal is None
        stop.request(number)
        if is_first:
            on_stop()

    with signal_handlers((signal.SIGINT, signal.SIGTERM), on_signal):
        yield


def describe_server(listener: socket.socket, options: ServeOptions, *, workers: int = 1) -> str:
    """Return the line for the person at the terminal, once clients can connect."""
    address = _format_address(listener, secure=options.certificate is not None)
    processes = f", in {workers} processes" if workers > 1 else ""
    return f"Serving {address} over {_describe_protocols(options)}{processes}. Ctrl-C ends it."


def _format_address(listener: socket.socket, *, secure: bool) -> str:
    host, port = listener.getsockname()[:2]
    return f"{'https' if secure else 'http'}://{format_host(host)}:{port}"


def _watch_path(app: ASGIApp) -> str | None:
    """Return the path of the watch page; None if the application has none."""
    if not isinstance(app, Starlette):
        return None
    try:
        return str(app.url_path_for(WATCH_ROUTE))
    except NoMatchFound:
        return None


def _describe_protocols(options: ServeOptions) -> str:
    versions = "HTTP/2, HTTP/1.1" if options.http2 else "HTTP/1.1"
    return f"{versions} and WebSocket, {'with' if options.certificate is not None else 'without'} TLS"
