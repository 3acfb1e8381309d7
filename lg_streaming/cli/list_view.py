"""The command `list`: a table of executions, once or live."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from rich.live import Live
from rich.table import Table
from rich.text import Text

from lg_streaming.cli.access import open_rest
from lg_streaming.cli.executions import list_newest, timestamp_of
from lg_streaming.cli.output import print_error_line, print_json, print_line
from lg_streaming.cli.panels import COLORS
from lg_streaming.errors import StreamingError
from lg_streaming.escaping import escape_line
from lg_streaming.folding.formatting import format_seconds

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from lg_streaming.cli.access import Access
    from lg_streaming.client.rest import RestClient

__all__ = ["ListRequest", "list_executions"]

_INTERVAL: Final = 1.0
_COLUMNS: Final = ("state", "id", "title", "started", "duration", "progress", "tokens", "cost")
_RIGHT: Final = frozenset({"duration", "progress", "tokens", "cost"})
_OPEN: Final = frozenset({"running", "interrupted"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ListRequest:
    """Arguments of the command."""

    access: Access
    states: str | None
    owner: str | None
    text: str | None
    limit: int
    as_json: bool
    watch: bool

    async def read(self, rest: RestClient) -> list[dict[str, Any]]:
        """Return the executions. Raises like `list_newest`."""
        return await list_newest(rest, limit=self.limit, states=self.states, owner=self.owner, text=self.text)


async def list_executions(request: ListRequest, console: Console) -> int:
    """Print the executions, with `watch` until Ctrl-C, and return the exit code.

    Raises:
        CommandError: If an argument cannot be used.
        StreamingError: If the server refuses the request, or cannot be reached at first.
    """
    async with open_rest(request.access) as rest:
        executions = await request.read(rest)
        if not request.watch:
            _print(executions, request, console)
        elif console.is_terminal and not request.as_json:
            await _watch_table(request, rest, executions, console)
        else:
            await _watch_lines(request, rest, executions)
    return 0


def _print(executions: Sequence[Mapping[str, Any]], request: ListRequest, console: Console) -> None:
    if request.as_json:
        for each in executions:
            print_json(json.dumps(each, ensure_ascii=False))
    elif not executions:
        print_error_line("No execution that you may read fits.")
    elif console.is_terminal:
        console.print(_table(executions, now=time.time()))
    else:
        _print_columns(executions)


def _print_columns(executions: Sequence[Mapping[str, Any]]) -> None:
    """Print a line for each execution, with two spaces or more between columns, however wide."""
    rows = [_COLUMNS, *(_cells(each, now=time.time()) for each in executions)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(_COLUMNS, row, widths, strict=True)
        )
        print_line("  ".join(cells).rstrip())


async def _watch_table(
    request: ListRequest, rest: RestClient, executions: Sequence[Mapping[str, Any]], console: Console
) -> None:
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        problem: str | None = None
        while True:
            table = _table(executions, now=time.time())
            table.caption = None if problem is None else Text(problem, style="red")
            live.update(table, refresh=True)
            await asyncio.sleep(_INTERVAL)
            try:
                executions, problem = await request.read(rest), None
            except StreamingError as error:
                if not error.retryable:
                    raise
                problem = escape_line(f"Not connected: {error.message}. Trying again.")


async def _watch_lines(request: ListRequest, rest: RestClient, executions: Sequence[Mapping[str, Any]]) -> None:
    """Print each execution when it changes."""
    printed: dict[str, Mapping[str, Any]] = {}
    is_lost = False
    while True:
        for each in reversed(executions):
            if printed.get(each["execution_id"]) != each:
                printed[each["execution_id"]] = each
                _print_change(each, as_json=request.as_json)
        listed = {each["execution_id"] for each in executions}
        printed = {name: each for name, each in printed.items() if name in listed}
        await asyncio.sleep(_INTERVAL)
        try:
            executions = await request.read(rest)
        except StreamingError as error:
            if not error.retryable:
                raise
            if not is_lost:
                print_error_line(f"Not connected: {error.message}. Trying again.")
            is_lost = True
        else:
            if is_lost:
                print_error_line("Connected again.")
            is_lost = False


def _print_change(execution: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(json.dumps(execution, ensure_ascii=False))
    else:
        print_line("  ".join(cell for cell in _cells(execution, now=time.time()) if cell))


def _table(executions: Sequence[Mapping[str, Any]], *, now: float) -> Table:
    rows = [_cells(each, now=now) for each in executions]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", expand=False)
    # An older server has no titles, tokens and costs.
    shown = [index for index, _ in enumerate(_COLUMNS) if index < 2 or not rows or any(row[index] for row in rows)]  # noqa: PLR2004
    for index in shown:
        name = _COLUMNS[index]
        overflow = "ellipsis" if name == "title" else "fold"
        justify = "right" if name in _RIGHT else "left"
        table.add_column(name, no_wrap=name != "id", overflow=overflow, justify=justify, ratio=None)
    for row in rows:
        color = COLORS.get("complete" if row[0] == "completed" else row[0], "")
        table.add_row(*(Text(row[index], style=color if index == 0 else "") for index in shown))
    return table


def _cells(execution: Mapping[str, Any], *, now: float) -> tuple[str, ...]:
    usage: Mapping[str, Any] = execution.get("usage") or {}
    progress, tokens, cost = execution.get("progress"), usage.get("total_tokens"), usage.get("cost")
    return (
        escape_line(str(execution.get("state") or "")),
        escape_line(str(execution.get("execution_id") or "")),
        escape_line(str(execution.get("title") or "")),
        _started(execution, now=now),
        _duration(execution, now=now),
        f"{progress:.0f} %" if isinstance(progress, (int, float)) else "",
        f"{tokens:,}" if isinstance(tokens, int) else "",
        f"{cost:.4f}" if isinstance(cost, (int, float)) else "",
    )


def _started(execution: Mapping[str, Any], *, now: float) -> str:
    """Return the start in local time; the date is shown if it is not today's."""
    at = timestamp_of(execution.get("started_at"))
    if at is None:
        return ""
    started, today = datetime.fromtimestamp(at).astimezone(), datetime.fromtimestamp(now).astimezone()
    return started.strftime("%H:%M:%S" if started.date() == today.date() else "%Y-%m-%d %H:%M:%S")


def _duration(execution: Mapping[str, Any], *, now: float) -> str:
    started = timestamp_of(execution.get("started_at"))
    is_open = execution.get("state") in _OPEN
    ended = now if is_open else timestamp_of(execution.get("ended_at") or execution.get("updated_at"))
    return "" if started is None or ended is None else format_seconds(max(0.0, ended - started))
