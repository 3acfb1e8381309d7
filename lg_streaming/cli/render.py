"""Shows a run: live panels on a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, Protocol, Self

from rich.console import Console, Group
from rich.live import Live

from lg_streaming.cli import formatting
from lg_streaming.cli.panels import footer, row_panels
from lg_streaming.cli.run_view import NodeView, RunView, TextPart, ToolPart
from lg_streaming.escaping import escape_controls

_FOOTER_HEIGHT = 4
"""Lines of the terminal that the panels leave free."""


class Renderer(Protocol):
    """Shows a run as it goes; a context manager, so that the terminal is left as it was."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def applied(self, node: NodeView | None) -> None:
        """Called after each update that went into the run, with the node it was about."""
        ...

    def tick(self) -> None:
        """Called a few times a second."""
        ...


def make_renderer(
    console: Console, run: RunView, *, address: str | None, clock: Callable[[], float] = time.time
) -> Renderer:
    """Panels when `console` is a terminal, else lines."""
    if console.is_terminal:
        return PanelRenderer(console, run, address=address, clock=clock)
    return LineRenderer(console.file, run)


class PanelRenderer:
    """Nodes at work as panels at the bottom of the terminal; a row that is done goes up into its history, whole."""

    def __init__(self, console: Console, run: RunView, *, address: str | None, clock: Callable[[], float]) -> None:
        self._console = console
        self._run = run
        self._address = address
        self._clock = clock
        self._printed = 0
        self._live = Live(console=console, auto_refresh=False, transient=True, vertical_overflow="crop")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.update(Group(), refresh=True)
        while self._printed < len(self._run.rows):
            self._print_next()
        self._live.stop()

    def applied(self, node: NodeView | None) -> None:
        """Nothing at once: the next tick shows it."""

    def tick(self) -> None:
        """Draw."""
        while self._next_is_settled():
            self._print_next()
        now = self._clock()
        rows = [row for row in self._run.rows[self._printed :] if row]
        height = (self._console.height - _FOOTER_HEIGHT) // max(1, len(rows))
        shown = [row_panels(row, console=self._console, now=now, height=height) for row in rows]
        shown.append(footer(self._run, now=now, address=self._address, width=self._console.width))
        self._live.update(Group(*shown), refresh=True)

    def _next_is_settled(self) -> bool:
        """Whether nothing can change the topmost open row any more; a failed node may yet be tried again."""
        rows = self._run.rows[self._printed :]
        if not rows or any(each.state == "running" for node in rows[0] for each in node.tree):
            return False
        return len(rows) > 1 or all(node.state in ("complete", "cached") for node in rows[0])

    def _print_next(self) -> None:
        row = self._run.rows[self._printed]
        self._printed += 1
        if not row:
            return
        self._console.print(row_panels(row, console=self._console, now=self._clock(), height=None))


class LineRenderer:
    """One line for each thing that happened, and each line of text once it is whole; no control codes."""

    def __init__(self, file: IO[str], run: RunView) -> None:
        self._file = file
        self._run = run
        self._told: dict[NodeView | ToolPart, str] = {}
        self._quarters: dict[NodeView, int] = {}
        self._texts: dict[TextPart, int] = {}
        self._shown: dict[NodeView, list[TextPart]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for node in self._run.nodes:
            self._tell_texts(node, whole=True)

    def applied(self, node: NodeView | None) -> None:
        """Print what is new about `node`."""
        if node is None:
            return
        if node.state == "cached":
            self._tell_state(node, "cached", "answered from the cache")
            return
        self._tell_state(node, "running", "started")
        self._tell_tools(node)
        self._tell_loss(node)
        self._tell_texts(node, whole=node.state != "running")
        self._tell_progress(node)
        if node.state != "running":
            ended = f"{node.state} after {formatting.seconds(node.duration)}"
            self._tell_state(node, node.state, f"{ended}: {node.error}" if node.error else ended)

    def tick(self) -> None:
        """Nothing: lines come with the updates."""

    def _tell_state(self, node: NodeView, state: str, line: str) -> None:
        told = f"{node.attempt} {state}"
        known = self._told.get(node)
        if known != told and not (state == "running" and known and known.startswith(f"{node.attempt} ")):
            self._told[node] = told
            self._line(node, line)

    def _tell_tools(self, node: NodeView) -> None:
        for part in node.parts:
            if isinstance(part, ToolPart) and part.state not in ("asked", self._told.get(part)):
                self._told[part] = part.state
                took = f" {part.state} after {formatting.seconds(part.duration)}" if part.over else ""
                told = part.error or (formatting.gist(part.question) if part.question is not None else "")
                error = f": {told}" if told else ""
                self._line(node, f"{part.name}({formatting.gist(part.asked)}){took}{error}")

    def _tell_loss(self, node: NodeView) -> None:
        """Lines cannot be taken back, so there is one about those that no longer count."""
        shown = self._shown.get(node, [])
        if any(part not in node.parts and self._texts.get(part) for part in shown):
            self._line(node, "what it said last does not count: it says it again")
        self._shown[node] = [part for part in node.parts if isinstance(part, TextPart)]

    def _tell_texts(self, node: NodeView, *, whole: bool) -> None:
        for part in node.parts:
            if isinstance(part, ToolPart):
                continue
            done = self._texts.get(part, 0)
            end = len(part.text) if whole or part is not node.parts[-1] else part.text.rfind("\n") + 1
            for line in escape_controls(part.text[done:end]).split("\n"):
                if line.strip():
                    self._line(node, f"({line})" if part.kind == "thinking" else f"| {line}")
            self._texts[part] = max(done, end)

    def _tell_progress(self, node: NodeView) -> None:
        if node.progress is None:
            return
        quarter = int(node.progress.percent // 25)
        if quarter > self._quarters.get(node, 0):
            self._quarters[node] = quarter
            self._line(node, formatting.how_far(node.progress, now=node.progress.at))

    def _line(self, node: NodeView, text: str) -> None:
        passed = formatting.elapsed(self._run, now=self._run.newest_at)
        line = escape_controls(text).replace("\n", "\\n")
        print(f"{passed:6.1f} s  {formatting.whole_label(node):<12}  {line}", file=self._file, flush=True)
