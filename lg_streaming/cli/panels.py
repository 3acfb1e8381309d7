"""Nodes as rich panels: text, tools, progress."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lg_streaming.escaping import escape_controls, escape_line
from lg_streaming.folding import formatting
from lg_streaming.folding.run_view import NodeView, Progress, RunView, TextPart, ToolPart

if TYPE_CHECKING:
    from lg_streaming.cli.answer_line import AnswerLine

COLORS = {
    "waiting": "bright_black",
    "queued": "yellow",
    "paused": "yellow",
    "asked": "bright_black",
    "running": "cyan",
    "complete": "green",
    "cached": "green",
    "failed": "red",
    "interrupted": "yellow",
    "cancelled": "yellow",
    "abandoned": "yellow",
}
_MARKS = {"complete": "✓", "cached": "✓", "failed": "✗", "interrupted": "‖", "cancelled": "✗", "abandoned": "✗"}
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_MIN_WIDTH = 30
_INDENT = 2
_PANEL_MARGIN = 4
"""Columns of a panel's border and padding, on both sides."""


def row_panels(row: Sequence[NodeView], *, console: Console, now: float, height: int | None) -> RenderableType:
    """Return the panels of one row: side by side if the terminal is wide enough, else one above the other.

    With a `height` in lines, each panel is cut to its share, and shows its newest text.
    """
    width = console.width // len(row)
    if width < _MIN_WIDTH:
        share = None if height is None else height // len(row)
        return Group(*(_panel(node, console=console, now=now, width=console.width, height=share) for node in row))
    grid = Table.grid(expand=True)
    for _ in row:
        grid.add_column(ratio=1)
    grid.add_row(*(_panel(node, console=console, now=now, width=width, height=height) for node in row))
    return grid


def footer(run: RunView, *, now: float, address: str | None, width: int, answers: AnswerLine | None) -> RenderableType:
    """Return the open prompts, the state of the run, and the address for a browser: in one line if it fits."""
    elapsed = formatting.format_seconds(formatting.elapsed(run, now=now))
    figures = Text.assemble(
        (f" {_spinner(now)} " if run.ended_at is None else " ", COLORS[run.state]),
        (formatting.run_state(run), f"bold {COLORS[run.state]}"),
        f"  {run.tokens:,} tokens · {run.updates:,} updates · {elapsed}",
    )
    if run.progress is not None and run.state == "running":
        figures.append(f" · {formatting.progress_text(run.progress, now=now)}")
    link = Text(f" {escape_line(address)} " if address else "", style="bright_black", no_wrap=True, overflow="ellipsis")
    questions = list(_question_lines(run, now=now, answers=answers))
    if figures.cell_len + link.cell_len > width:
        return Group(*questions, "", figures, link)
    figures.pad_right(width - figures.cell_len - link.cell_len)
    return Group(*questions, "", Text.assemble(figures, link))


def _question_lines(run: RunView, *, now: float, answers: AnswerLine | None) -> Iterator[Text]:
    """Yield the open prompts, and below the oldest the line on which it is answered."""
    for prompt in run.prompts:
        if prompt.state != "open":
            continue
        left = "" if prompt.expires_at is None else formatting.format_seconds(max(0.0, prompt.expires_at - now))
        fallback = f"  {formatting.shorten(prompt.default)} in {left}" if left and prompt.default is not None else ""
        question = (f" ‖ {formatting.question(prompt)}", f"bold {COLORS['interrupted']}")
        yield Text.assemble(question, (fallback, "bright_black"))
        if answers is not None and prompt is answers.prompt:
            hint = (f"  {escape_line(answers.error)}", "red") if answers.error else ("  Enter answers", "bright_black")
            yield Text.assemble(("   > ", "bold"), f"{escape_line(answers.text)}▏", hint)


def _panel(node: NodeView, *, console: Console, now: float, width: int, height: int | None) -> RenderableType:
    lines = list(_node_lines(node, console=console, width=max(1, width - _PANEL_MARGIN), now=now))
    available = None if height is None else max(1, height - 2 - (1 if node.progress else 0))
    if available is not None and len(lines) > available:
        lines = lines[-available:]
    body: list[RenderableType] = [*lines]
    if node.progress is not None and node.state == "running":
        body.append(_progress_bar(node.progress, now=now))
    color = COLORS[node.state]
    return Panel(
        Group(*body),
        title=Text(f" {formatting.label(node)} ", style="bold"),
        title_align="left",
        subtitle=_subtitle(node, now=now),
        subtitle_align="right",
        border_style=color if node.state not in ("complete", "cached") else "bright_black",
        box=box.ROUNDED,
        padding=(0, 1),
    )


def _subtitle(node: NodeView, *, now: float) -> Text:
    color = COLORS[node.state]
    if node.state == "running":
        return Text(f" {_spinner(now)} {formatting.format_seconds(max(0.0, now - node.started_at))} ", style=color)
    return Text(f" {_MARKS[node.state]} {_end_text(node)} ", style=color)


def _end_text(node: NodeView) -> str:
    return node.state if node.state == "cached" else f"{node.state} · {formatting.format_seconds(node.duration)}"


def _progress_bar(progress: Progress, *, now: float) -> RenderableType:
    grid = Table.grid(expand=True, padding=(0, 1))
    grid.add_column(ratio=1)
    grid.add_column(justify="right", no_wrap=True)
    bar = ProgressBar(total=100, completed=progress.percent, complete_style="cyan", finished_style="green")
    grid.add_row(bar, Text(formatting.progress_text(progress, now=now), style="bright_black"))
    return grid


def _node_lines(node: NodeView, *, console: Console, width: int, now: float) -> Iterator[Text]:
    for part in node.parts:
        if isinstance(part, ToolPart):
            yield _tool_line(part, width=width, now=now)
            yield from _inner_rows(part.rows, console=console, width=width, now=now)
        else:
            yield from _wrap_text(part, console=console, width=width)
    yield from _inner_rows(node.rows, console=console, width=width, now=now)
    for prompt in node.prompts:
        answer = "" if prompt.state == "open" else f"  → {formatting.outcome(prompt)}"
        yield from Text.assemble(formatting.shorten(prompt.text), (answer, "bold")).wrap(console, width)
    if node.error is not None:
        yield from Text(escape_controls(node.error), style="red").wrap(console, width)


def _inner_rows(rows: Sequence[Sequence[NodeView]], *, console: Console, width: int, now: float) -> Iterator[Text]:
    # Narrow levels have no margin, so that a deep tree leaves some width for text.
    margin = "│ " if width > _MIN_WIDTH else ""
    for row in rows:
        for node in row:
            for line in _inner_node_lines(node, console=console, width=width - len(margin), now=now):
                yield Text.assemble((margin, "bright_black"), line)


def _inner_node_lines(node: NodeView, *, console: Console, width: int, now: float) -> Iterator[Text]:
    """Yield the lines of an inner node: its name and state, then its text."""
    color = COLORS[node.state]
    running = node.state == "running"
    mark = _spinner(now) if running else _MARKS[node.state]
    duration = formatting.format_seconds(max(0.0, now - node.started_at) if running else node.duration)
    state = duration if node.state in ("running", "complete") else _end_text(node)
    progress = f"  {formatting.progress_text(node.progress, now=now)}" if node.progress is not None and running else ""
    line = Text.assemble((f"{mark} ", color), (formatting.label(node), "bold"))
    line.truncate(max(1, width - len(state) - 2), overflow="ellipsis")
    line.append(f"  {state}", style=color)
    line.append(progress, style="bright_black")
    line.truncate(width, overflow="ellipsis")
    yield line
    for inner in _node_lines(node, console=console, width=width - _INDENT, now=now):
        yield Text.assemble(" " * _INDENT, inner)


def _wrap_text(part: TextPart, *, console: Console, width: int) -> Iterator[Text]:
    style = "italic bright_black" if part.kind == "thinking" else ""
    for line in escape_controls(part.text).split("\n"):
        yield from Text(line, style=style).wrap(console, width) if line else [Text("")]


def _tool_line(part: ToolPart, *, width: int, now: float) -> Text:
    color = COLORS[part.state]
    mark = _MARKS[part.state] if part.is_done else _spinner(now) if part.state == "running" else "·"
    duration = f"  {formatting.format_seconds(part.duration)}" if part.is_done else ""
    detail = escape_line(part.error) if part.error else formatting.shorten(part.arguments)
    if part.question is not None:
        detail = f"asks: {formatting.shorten(part.question)}"
    line = Text.assemble((f"{mark} ", color), (escape_line(part.name), "bold"), (f"  {detail}", "bright_black"))
    line.truncate(width - len(duration), overflow="ellipsis")
    line.append(duration, style=color)
    return line


def _spinner(now: float) -> str:
    return _FRAMES[int(now * 10) % len(_FRAMES)]
