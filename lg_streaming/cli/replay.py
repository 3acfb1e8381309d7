"""The command `replay`: serve recorded runs over every wire."""

from __future__ import annotations

import logging
import math
import socket
import threading
import webbrowser
from collections.abc import AsyncGenerator, Callable, Generator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, get_args
from urllib.parse import quote

from fastapi import FastAPI

from lg_streaming import StreamingModule
from lg_streaming.cli.serve import STOPPING, ignore_closed_output, serve_on
from lg_streaming.cli.server import Notices, ServeOptions
from lg_streaming.errors import BadRequestError
from lg_streaming.serving.listener import format_host, listen
from lg_streaming.settings import StreamingSettings
from lg_streaming.testing.replaying import RecordedRun, Recording, replay
from lg_streaming.types import WireName

__all__ = ["ReplayError", "ReplayOptions", "make_app", "parse_speed", "run_replay"]

_GRAPH: Final = "replay"
_MAX: Final = "max"
_SHOWN: Final = 10
"""Most executions that are listed."""
_KEPT_BYTES: Final = 1 << 28
_KEPT_SECONDS: Final = 86_400.0
"""Retention of the recorded executions: a page that opens later still finds them."""
_GRACE: Final = 4.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})


class ReplayError(Exception):
    """The recording cannot be served; the message has the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOptions:
    """Options of the command."""

    path: str
    host: str
    port: int
    speed: float
    """Factor on the recorded pace; infinity makes no pauses."""
    executions: Sequence[str]
    """The executions to replay; empty for all."""
    loop: bool
    pause_at_prompts: bool
    origins: Sequence[str]
    """Origins of pages that other servers serve."""
    open_page: bool


def parse_speed(text: str) -> float:
    """Return the factor of ``--speed``; ``max`` is infinity.

    Raises:
        ReplayError: If it is neither a number above 0 nor ``max``.
    """
    try:
        speed = math.inf if text == _MAX else float(text)
    except ValueError:
        speed = math.nan
    if not speed > 0:
        raise ReplayError(f"--speed is a number above 0, or {_MAX}, not {text!r:.40}")
    return speed


@contextmanager
def _without_warnings(host: str) -> Generator[None]:
    """Log no warning about local mode: it does not concern the user of a recording."""
    log = logging.getLogger("lg_streaming.gateway")
    level = log.level
    if host in _LOOPBACK:
        log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


def run_replay(options: ReplayOptions, print_line: Callable[[str], None]) -> int:
    """Serve a recording until Ctrl-C or SIGTERM, and return the exit code for the shell.

    Raises:
        ReplayError: If the file cannot be read, or has a line that is no update.
        AddressInUseError: If the address cannot be listened on.
    """
    write = ignore_closed_output(print_line)
    with _without_warnings(options.host), _open(options) as recording, listen(options.host, options.port) as listener:
        app, settings = make_app(recording, options)
        url = _address(listener)
        page = f"{url}{settings.gateway.prefix}/watch/"

        def on_listening() -> None:
            for line in [
                *_summary(recording, options.speed),
                *_addresses(url, _page_of(page, recording), recording, settings),
            ]:
                write(line)
            if options.open_page:
                _open_browser(_page_of(page, recording))

        serving = ServeOptions(
            host=options.host,
            port=options.port,
            certificate=None,
            http2=False,
            ws_compression=False,
            trusted_proxies="",
            grace=_GRACE,
            log_level="warning",
        )
        return serve_on(listener, app, serving, Notices(on_listening=on_listening, on_stop=lambda: write(STOPPING)))


def _open(options: ReplayOptions) -> Recording:
    try:
        return Recording(options.path, executions=options.executions or None)
    except BadRequestError as error:
        raise ReplayError(error.message) from error
    except OSError as error:
        raise ReplayError(f"{options.path} cannot be read: {error.strerror or error}") from error


def make_app(recording: Recording, options: ReplayOptions) -> tuple[FastAPI, StreamingSettings]:
    """Return an application that serves a recording over every wire, and its settings."""
    settings = _settings(recording, options)
    streaming = StreamingModule(settings)

    @asynccontextmanager
    async def replaying(_: FastAPI) -> AsyncGenerator[None]:
        async with replay(
            streaming,
            recording,
            speed=options.speed,
            pause_at_prompts=options.pause_at_prompts,
            loop=options.loop,
            graph=_GRAPH,
        ):
            yield

    app = FastAPI(title="lg_streaming replay", lifespan=replaying)
    streaming.install(app, wires=get_args(WireName), ui=True)
    return app, settings


def _settings(recording: Recording, options: ReplayOptions) -> StreamingSettings:
    """Return the settings of the environment, with room for the recording."""
    found = StreamingSettings()
    updates = sum(run.updates for run in recording.runs)
    changes: Mapping[str, Mapping[str, Any]] = {
        "gateway": {"cors_origins": (*found.gateway.cors_origins, *options.origins)},
        "limits": {"update_bytes": max(found.limits.update_bytes, recording.longest)},
        "retention": {
            "max_updates": max(found.retention.max_updates, 2 * updates),
            "max_bytes": max(found.retention.max_bytes, _KEPT_BYTES),
            "ttl": max(found.retention.ttl, _KEPT_SECONDS),
        },
        "wires": {"graph": _GRAPH},
    }
    sections = {name: getattr(found, name).model_copy(update=dict(each)) for name, each in changes.items()}
    return found.model_copy(update=sections)


# --- what the command prints ------------------------------------------------------------------------------------


def _summary(recording: Recording, speed: float) -> list[str]:
    runs = recording.runs
    executions = recording.executions
    seconds = sum(run.seconds for run in runs)
    pace = "without pauses" if math.isinf(speed) else f"at {speed:g} times its pace"
    first = (
        f"{recording.name}: {_count(len(executions), 'execution')}, {_count(len(runs), 'run')}, "
        f"{_count(sum(run.updates for run in runs), 'update')}, {seconds:.1f} s of work, {pace}"
    )
    shown = [f"  {name}: {_outcomes(found)}" for name, found in list(executions.items())[:_SHOWN]]
    if len(executions) > _SHOWN:
        shown.append(f"  and {len(executions) - _SHOWN} more")
    skipped = [
        f"  {_count(amount, text)}"
        for amount, text in ((recording.gaps, "gap that the recording has"), (recording.repeated, "repeated line"))
        if amount
    ]
    return [first, *shown, *skipped]


def _count(amount: int, noun: str) -> str:
    word, _, rest = noun.partition(" ")
    return f"{amount:,} {word}{'' if amount == 1 else 's'}{' ' * bool(rest)}{rest}"


def _outcomes(runs: Sequence[RecordedRun]) -> str:
    return ", ".join((run.ended or "cut off").removeprefix("workflow_") for run in runs[:_SHOWN])


def _addresses(url: str, page: str, recording: Recording, settings: StreamingSettings) -> list[str]:
    prefix, wires = settings.gateway.prefix, settings.wires.below(settings.gateway.prefix)
    execution = quote(next(iter(recording.executions)), safe="")
    lines = (
        ("Page", page),
        ("Event stream", f"{url}{prefix}/stream/{execution}"),
        ("WebSocket", f"{url.replace('http', 'ws', 1)}{prefix}/ws"),
        ("Socket.IO", f"{url}{prefix}/socket.io"),
        ("REST", f"{url}{prefix}/executions/{execution}"),
        ("AI SDK", f"{url}{wires.ai_sdk_path}"),
        ("LangGraph SDK", f"{url}{wires.langgraph_path}  (assistant {_GRAPH})"),
        ("AG-UI", f"{url}{wires.ag_ui_path}"),
        ("Durable Streams", f"{url}{wires.durable_streams_path}/{execution}"),
    )
    return [f"  {name:<16} {address}" for name, address in lines] + [
        "A start of a run, on any wire, replays the recording in a new run. Ctrl-C ends the server."
    ]


def _page_of(page: str, recording: Recording) -> str:
    """Return the address of the page of the only execution, or of the list."""
    names = list(recording.executions)
    return f"{page}{quote(names[0], safe='')}" if len(names) == 1 else page


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{format_host(host)}:{port}"


def _open_browser(address: str) -> None:
    """Open a page; a browser that starts slowly must not stop the event loop."""
    threading.Thread(target=webbrowser.open, args=(address,), name="lg-streaming-browser", daemon=True).start()
