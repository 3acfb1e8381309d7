"""The command `start`: start a run on a server, and show it."""

from __future__ import annotations

import asyncio
import json
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from lg_streaming.cli.render import Renderer, make_renderer
from lg_streaming.client import SSEClient
from lg_streaming.errors import StreamingError, UnauthorizedError
from lg_streaming.escaping import escape_controls
from lg_streaming.folding import formatting
from lg_streaming.folding.run_view import RunView

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from lg_streaming.client import ClientRun, StartOptions
    from lg_streaming.folding.prompt_view import PromptView

__all__ = ["StartError", "StartRequest", "parse_json", "start_run"]

_FRAME_INTERVAL: Final = 0.08
_SHOWN_RESULT: Final = 2000
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
    except UnauthorizedError as error:
        raise StartError(f"{error.message}: pass --token, or set STREAMING_TOKEN") from error
    except (StreamingError, ValueError) as error:
        raise StartError(getattr(error, "message", str(error))) from error
    console.print()
    console.print(formatting.summary(view), style="bold")
    return _report(view, console, lambda prompt: _answer_command(request, run.execution_id, prompt))


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


def _report(view: RunView, console: Console, answer_command: Callable[[PromptView], str]) -> int:
    """Print the outcome, and return its exit code."""
    if view.state == "complete":
        if view.result is not None:
            console.print(_result_text(view.result), markup=False, soft_wrap=True)
        return 0
    if view.state in ("interrupted", "paused"):
        for prompt in view.prompts:
            if prompt.state == "open":
                console.print(escape_controls(f"Waits for an answer: {prompt.text}"), markup=False, soft_wrap=True)
                console.print(f"  {answer_command(prompt)}", markup=False, soft_wrap=True)
        return _EXIT_WAITS
    if view.error is not None:
        console.print(escape_controls(view.error), style="red", markup=False, soft_wrap=True)
    return _EXIT_FAILED


def _result_text(result: Any) -> str:
    text = escape_controls(json.dumps(result, ensure_ascii=False))
    return f"Result: {text if len(text) <= _SHOWN_RESULT else text[:_SHOWN_RESULT] + '…'}"


def _answer_command(request: StartRequest, execution_id: str, prompt: PromptView) -> str:
    """Return a command for a shell that answers a prompt: with its first choice, with yes, or with a text."""
    response = prompt.choices[0] if prompt.choices else True if prompt.is_verdict else "…"
    body = json.dumps({"prompt_id": prompt.prompt_id, "response": response}, ensure_ascii=False)
    login = '-H "Authorization: Bearer $STREAMING_TOKEN" ' if request.token else ""
    address = f"{request.url.rstrip('/')}/executions/{quote(execution_id, safe='')}/responses"
    command = f"curl -H 'Content-Type: application/json' {login}-d {shlex.quote(body)} {shlex.quote(address)}"
    return escape_controls(command)
