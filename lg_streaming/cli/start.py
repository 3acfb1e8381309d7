"""The command `start`: start a run on a server, and show it."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.cli import formatting
from lg_streaming.cli.render import Renderer, make_renderer
from lg_streaming.cli.run_view import RunView
from lg_streaming.client import SSEClient
from lg_streaming.errors import StreamingError
from lg_streaming.escaping import escape_controls

if TYPE_CHECKING:
    from rich.console import Console

    from lg_streaming.client import ClientRun, StartOptions

__all__ = ["StartError", "StartRequest", "parse_json", "start_run"]

_FRAME_INTERVAL: Final = 0.08
_EXIT_FAILED: Final = 1
_EXIT_WAITS: Final = 3
"""Exit code of a run that waits for a human."""


class StartError(Exception):
    """The run cannot be started or read; the message has the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """Arguments of the command."""

    url: str
    token: str | None
    graph: str
    input: Any
    options: StartOptions


def parse_json(name: str, text: str) -> Any:
    """Return the JSON value of an option; ``-`` reads the standard input.

    Raises:
        StartError: If the text is not JSON.
    """
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise StartError(f"{name} is not JSON: {error}") from None


async def start_run(request: StartRequest, console: Console) -> int:
    """Start the run, show it until it ends or waits for a human, and return the exit code of the command.

    Raises:
        StartError: If the server cannot be reached, refuses the start, or ends the subscription.
    """
    view = RunView()
    try:
        async with SSEClient(request.url, token=request.token) as client:
            run = await client.start(request.graph, request.input, **request.options)
            console.print(f"Execution {escape_controls(run.execution_id)}", markup=False, soft_wrap=True)
            await _show(run, view, make_renderer(console, view, address=None))
    except (StreamingError, ValueError) as error:
        raise StartError(getattr(error, "message", str(error))) from error
    console.print()
    console.print(formatting.summary(view), style="bold")
    return _report(view, console)


async def _show(run: ClientRun, view: RunView, renderer: Renderer) -> None:
    reading = asyncio.create_task(_read(run, view, renderer))
    try:
        with renderer:
            while not reading.done():
                renderer.tick()
                await asyncio.wait({reading}, timeout=_FRAME_INTERVAL)
        reading.result()
    finally:
        reading.cancel()
        await asyncio.wait({reading})


async def _read(run: ClientRun, view: RunView, renderer: Renderer) -> None:
    async for update in run.updates(until="interrupted"):
        if update.type == "gap":
            view.mark_gap(update.data)
        else:
            renderer.on_update(view.apply(update.to_dict()))


def _report(view: RunView, console: Console) -> int:
    """Print the outcome, and return its exit code."""
    if view.state == "complete":
        return 0
    if view.state in ("interrupted", "paused"):
        for prompt in view.prompts:
            if prompt.state == "open":
                console.print(escape_controls(f"Waits for an answer: {prompt.text}"), markup=False, soft_wrap=True)
        return _EXIT_WAITS
    if view.error is not None:
        console.print(escape_controls(view.error), style="red", markup=False, soft_wrap=True)
    return _EXIT_FAILED
