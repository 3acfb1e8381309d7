"""Runs of one execution on a console, one after the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final, Self

from lg_streaming.cli.answer_line import AnswerLine
from lg_streaming.cli.keyboard import has_keyboard, read_keys
from lg_streaming.cli.outcome import EXIT_CANCELLED, EXIT_FAILED, EXIT_WAITS
from lg_streaming.cli.output import print_error_line
from lg_streaming.cli.render import LineRenderer, Renderer, make_renderer
from lg_streaming.escaping import escape_controls
from lg_streaming.folding import formatting
from lg_streaming.folding.run_view import RunView

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from rich.console import Console

    from lg_streaming.events import StreamUpdate
    from lg_streaming.folding.prompt_view import PromptView

__all__ = ["RunScreen", "print_line", "show_until"]

_FRAME_INTERVAL: Final = 0.08
_SHOWN_RESULT: Final = 2000


class RunScreen:
    """The run that is shown now. Use it as a context manager.

    Args:
        console: The output.
        respond: Sends an answer: ``await respond(prompt_id, answer)``. None: the keyboard is not read.
        answer_command: Returns a command for a shell that answers a prompt.
        plain: Whether lines are printed on a terminal too.
    """

    def __init__(
        self,
        console: Console,
        *,
        respond: Callable[[str, Any], Awaitable[None]] | None,
        answer_command: Callable[[PromptView], str],
        plain: bool = False,
    ) -> None:
        self._console = console
        self._respond = respond if console.is_terminal and not plain and has_keyboard() else None
        self._answer_command = answer_command
        self._plain = plain
        self._open = contextlib.ExitStack()
        self._answer_lines: list[AnswerLine] = []
        self.view = RunView()
        """The run."""
        self._renderer, self._answers = self._make_renderer()

    def _make_renderer(self) -> tuple[Renderer, AnswerLine | None]:
        answers = None if self._respond is None else AnswerLine(self.view, self._respond)
        if answers is not None:
            self._answer_lines.append(answers)
        if self._plain:
            return LineRenderer(self._console.file, self.view), answers
        return make_renderer(self._console, self.view, address=None, answers=answers), answers

    def __enter__(self) -> Self:
        self._open.enter_context(self._renderer)
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()

    async def aclose(self) -> None:
        """Cancel answers that are not sent yet."""
        for each in self._answer_lines:
            await each.aclose()

    def read_keyboard(self) -> contextlib.AbstractContextManager[None]:
        """Return a context manager in which typed characters answer prompts, if the keyboard is read."""
        return contextlib.nullcontext() if self._respond is None else read_keys(self._on_keys)

    def _on_keys(self, keys: str) -> None:
        if self._answers is not None:
            self._answers.on_keys(keys)

    def show(self, update: StreamUpdate) -> None:
        """Show an update. The first one of the next run ends the present run's part of the screen."""
        if update.type == "gap":
            self.view.mark_gap(update.data)
            self.print_line(f"Gap: {self.view.gaps[-1]}.")
            return
        if update.type == "workflow_start" and self.view.ended_at is not None:
            self._open.close()
            self.report()
            self._console.print()
            self.view = RunView()
            self._renderer, self._answers = self._make_renderer()
            self._open.enter_context(self._renderer)
        self._renderer.on_update(self.view.apply(update.to_dict()))

    def tick(self) -> None:
        """Refresh the screen."""
        self._renderer.tick()

    def print_line(self, line: str) -> None:
        """Print a line about the connection or the log: above the panels, or on the standard error."""
        print_line(self._console, line)

    def report(self) -> int:
        """Print the outcome of the run, and return its exit code. The renderer must be closed."""
        view, console = self.view, self._console
        console.print()
        console.print(formatting.summary(view), style="bold")
        if view.state == "complete":
            if view.result is not None:
                console.print(_result_text(view.result), markup=False, soft_wrap=True)
            return 0
        if view.state == "cancelled":
            return EXIT_CANCELLED
        if view.state in ("interrupted", "paused"):
            for prompt in view.prompts:
                if prompt.state == "open":
                    console.print(escape_controls(f"Waits for an answer: {prompt.text}"), markup=False, soft_wrap=True)
                    console.print(f"  {self._answer_command(prompt)}", markup=False, soft_wrap=True)
            return EXIT_WAITS
        if view.error is not None:
            console.print(escape_controls(view.error), style="red", markup=False, soft_wrap=True)
        return EXIT_FAILED


def print_line(console: Console, line: str) -> None:
    """Print a line that is no part of a run: on a terminal, or on the standard error if the output is none."""
    if console.is_terminal:
        console.print(escape_controls(line), style="yellow", markup=False, soft_wrap=True)
    else:
        print_error_line(line)


async def show_until(reading: Coroutine[Any, Any, None], screen: RunScreen) -> int:
    """Show a run while a coroutine passes updates to the screen, and return the exit code of the run.

    Errors of the coroutine are passed on.
    """
    task = asyncio.create_task(reading)
    try:
        with screen.read_keyboard(), screen:
            while not task.done():
                screen.tick()
                await asyncio.wait({task}, timeout=_FRAME_INTERVAL)
        task.result()
    finally:
        task.cancel()
        await asyncio.wait({task})
        await screen.aclose()
    return screen.report()


def _result_text(result: Any) -> str:
    text = escape_controls(json.dumps(result, ensure_ascii=False))
    return f"Result: {text if len(text) <= _SHOWN_RESULT else text[:_SHOWN_RESULT] + '…'}"
