"""The command `start`: start a run on a server, and show it."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from lg_streaming.cli.access import announce_outages, open_client
from lg_streaming.cli.outcome import UsageError
from lg_streaming.cli.respond import respond_command
from lg_streaming.cli.run_screen import RunScreen, show_until
from lg_streaming.escaping import escape_controls

if TYPE_CHECKING:
    from rich.console import Console

    from lg_streaming.cli.access import Access
    from lg_streaming.client import ClientRun, StartOptions

__all__ = ["StartRequest", "parse_json", "start_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRequest:
    """Arguments of the command."""

    access: Access
    graph: str
    input: Any
    options: StartOptions


def parse_json(name: str, text: str) -> Any:
    """Return the JSON value of an option; ``-`` reads the standard input.

    Raises:
        UsageError: If the text is not JSON.
    """
    try:
        return json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise UsageError(f"{name} is not JSON: {error}") from None


async def start_run(request: StartRequest, console: Console) -> int:
    """Start the run, show it until it ends or waits for a human, and return the exit code of the command.

    Raises:
        CommandError: If an argument cannot be used.
        StreamingError: If the server cannot be reached, refuses the start, or ends the subscription.
    """
    async with open_client(request.access) as client:
        run = await client.start(request.graph, request.input, **request.options)
        command = partial(respond_command, request.access.url, run.execution_id)
        screen = RunScreen(console, respond=None, answer_command=command)
        announce_outages(client, screen.print_line)
        console.print(f"Execution {escape_controls(run.execution_id)}", markup=False, soft_wrap=True)
        return await show_until(_read(run, screen), screen)


async def _read(run: ClientRun, screen: RunScreen) -> None:
    async for update in run.updates(until="interrupted"):
        screen.show(update)
