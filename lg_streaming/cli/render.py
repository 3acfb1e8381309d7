"""Show a run: live panels on a terminal, plain lines in other outputs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Protocol, Self

from rich.console import Console, Group
from rich.live import Live

from lg_streaming.cli.panels import footer, row_panels
from lg_streaming.escaping import escape_controls, escape_line
from lg_streaming.folding import formatting
from lg_streaming.folding.run_view import NodeView, RunView, TextPart, ToolPart

if TYPE_CHECKING:
    from lg_streaming.cli.answer_line import AnswerLine
    from lg_streaming.folding.prompt_view import PromptView

_FOOTER_HEIGHT = 4
"""Lines of the terminal that the panels leave free."""


class Renderer(Protocol):
    """A live view of a run; a context manager that restores the terminal."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def on_update(self, node: NodeView | None) -> None:
        """Show an update that was applied to the run, and to `node` if it concerns one."""
        ...

    def tick(self) -> None:
        """Refresh the view; called a few times a second."""
        ...


def make_renderer(
    console: Console,
    run: RunView,
    *,
    address: str | None,
    answers: AnswerLine | None = None,
    clock: Callable[[], float] = time.time,
) -> Renderer:
    """Return panels if `console` is a terminal, else lines.

    Args:
        console: The output.
        run: The run.
        address: Address of the page for a browser; None without one.
        answers: The line on which prompts are answered; None if the keyboard is not read.
        clock: Returns the time, in seconds since 1970.
    """
    if console.is_terminal:
        return PanelRenderer(console, run, address=address, answers=answers, clock=clock)
    return LineRenderer(console.file, run)


class PanelRenderer:
    """Running nodes as panels at the bottom of the terminal. A finished row moves up into the terminal's history."""

    def __init__(
        self,
        console: Console,
        run: RunView,
        *,
        address: str | None,
        clock: Callable[[], float],
        answers: AnswerLine | None = None,
    ) -> None:
        self._console = console
        self._run = run
        self._address = address
        self._answers = answers
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

    def on_update(self, node: NodeView | None) -> None:
        """Do nothing: the next tick shows the update."""

    def tick(self) -> None:
        """Draw the panels."""
        while self._is_next_done():
            self._print_next()
        now = self._clock()
        rows = [row for row in self._run.rows[self._printed :] if row]
        height = (self._console.height - _FOOTER_HEIGHT) // max(1, len(rows))
        shown = [row_panels(row, console=self._console, now=now, height=height) for row in rows]
        width = self._console.width
        shown.append(footer(self._run, now=now, address=self._address, width=width, answers=self._answers))
        self._live.update(Group(*shown), refresh=True)

    def _is_next_done(self) -> bool:
        """Return whether the topmost open row is final; a failed node may be retried."""
        rows = self._run.rows[self._printed :]
        if not rows or any(each.state == "running" for node in rows[0] for each in node.subtree):
            return False
        return len(rows) > 1 or all(node.state in ("complete", "cached") for node in rows[0])

    def _print_next(self) -> None:
        row = self._run.rows[self._printed]
        self._printed += 1
        if not row:
            return
        self._console.print(row_panels(row, console=self._console, now=self._clock(), height=None))


class LineRenderer:
    """One line for each event, and each complete line of text; no control codes."""

    def __init__(self, file: IO[str], run: RunView) -> None:
        self._file = file
        self._run = run
        self._printed_states: dict[NodeView | ToolPart, str] = {}
        self._prompt_states: dict[PromptView, str] = {}
        self._quarters: dict[NodeView, int] = {}
        self._texts: dict[TextPart, int] = {}
        self._shown: dict[NodeView, list[TextPart]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        for node in self._run.nodes:
            self._print_texts(node, whole=True)

    def on_update(self, node: NodeView | None) -> None:
        """Print the changes of `node`, and of prompts."""
        if node is not None:
            self._print_node(node)
        self._print_prompts()

    def _print_node(self, node: NodeView) -> None:
        if node.state == "cached":
            self._print_state(node, "cached", "answered from the cache")
            return
        self._print_state(node, "running", "started")
        self._print_tools(node)
        self._print_retraction(node)
        self._print_texts(node, whole=node.state != "running")
        self._print_progress(node)
        if node.state != "running":
            ended = f"{node.state} after {formatting.format_seconds(node.duration)}"
            self._print_state(node, node.state, f"{ended}: {node.error}" if node.error else ended)

    def tick(self) -> None:
        """Do nothing: lines are printed with the updates."""

    def _print_prompts(self) -> None:
        for prompt in self._run.prompts:
            if self._prompt_states.get(prompt) != prompt.state:
                self._prompt_states[prompt] = prompt.state
                line = (
                    f"asks: {formatting.question(prompt)}"
                    if prompt.state == "open"
                    else f"answer: {formatting.outcome(prompt)}"
                )
                self._print(prompt.node_id or "run", line)

    def _print_state(self, node: NodeView, state: str, line: str) -> None:
        current = f"{node.attempt} {state}"
        printed = self._printed_states.get(node)
        if printed != current and not (state == "running" and printed and printed.startswith(f"{node.attempt} ")):
            self._printed_states[node] = current
            self._print_line(node, line)

    def _print_tools(self, node: NodeView) -> None:
        for part in node.parts:
            if isinstance(part, ToolPart) and part.state not in ("asked", self._printed_states.get(part)):
                self._printed_states[part] = part.state
                result = f" {part.state} after {formatting.format_seconds(part.duration)}" if part.is_done else ""
                detail = part.error or (formatting.shorten(part.question) if part.question is not None else "")
                suffix = f": {detail}" if detail else ""
                self._print_line(node, f"{part.name}({formatting.shorten(part.arguments)}){result}{suffix}")

    def _print_retraction(self, node: NodeView) -> None:
        """Print a notice if printed text was retracted: lines cannot be erased."""
        shown = self._shown.get(node, [])
        if any(part not in node.parts and self._texts.get(part) for part in shown):
            self._print_line(node, "the last text is retracted: the node writes it again")
        self._shown[node] = [part for part in node.parts if isinstance(part, TextPart)]

    def _print_texts(self, node: NodeView, *, whole: bool) -> None:
        for part in node.parts:
            if isinstance(part, ToolPart):
                continue
            done = self._texts.get(part, 0)
            end = len(part.text) if whole or part is not node.parts[-1] else part.text.rfind("\n") + 1
            for line in escape_controls(part.text[done:end]).split("\n"):
                if line.strip():
                    self._print_line(node, f"({line})" if part.kind == "thinking" else f"| {line}")
            self._texts[part] = max(done, end)

    def _print_progress(self, node: NodeView) -> None:
        if node.progress is None:
            return
        quarter = int(node.progress.percent // 25)
        if quarter > self._quarters.get(node, 0):
            self._quarters[node] = quarter
            self._print_line(node, formatting.progress_text(node.progress, now=node.progress.at))

    def _print_line(self, node: NodeView, text: str) -> None:
        self._print(formatting.full_label(node), text)

    def _print(self, label: str, text: str) -> None:
        elapsed = formatting.elapsed(self._run, now=self._run.newest_at)
        line = escape_controls(text).replace("\n", "\\n")
        print(f"{elapsed:6.1f} s  {escape_line(label):<12}  {line}", file=self._file, flush=True)
