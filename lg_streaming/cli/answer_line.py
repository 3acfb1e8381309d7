"""Answers that a person types while a run is shown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import StreamingError
from lg_streaming.folding.prompt_view import AnswerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lg_streaming.folding.prompt_view import PromptView
    from lg_streaming.folding.run_view import RunView

__all__ = ["AnswerLine"]

_ENTER: Final = frozenset("\r\n")
_BACKSPACE: Final = frozenset("\x7f\b")
_ERASE_LINE: Final = "\x15"
_ESCAPE: Final = "\x1b"


class AnswerLine:
    """Line on which a person types the answer to the oldest open prompt; Enter sends it.

    Args:
        run: The run.
        respond: Sends an answer: ``await respond(prompt_id, answer)``.
    """

    def __init__(self, run: RunView, respond: Callable[[str, Any], Awaitable[None]]) -> None:
        self.error: str | None = None
        """Reason why the last answer was refused."""
        self._run = run
        self._respond = respond
        self._typed = ""
        self._prompt: PromptView | None = None
        self._sending: asyncio.Task[None] | None = None

    @property
    def prompt(self) -> PromptView | None:
        """The prompt that is answered; None without one."""
        prompt = self._run.next_prompt
        if prompt is not self._prompt:  # answered somewhere else: the text does not answer the next one
            self._prompt, self._typed, self.error = prompt, "", None if prompt is None else prompt.error
        return prompt

    @property
    def text(self) -> str:
        """The text so far."""
        return self._typed if self.prompt is not None else ""

    def on_keys(self, keys: str) -> None:
        """Take typed characters. Keys that send an escape sequence, such as arrows, do nothing."""
        if keys.startswith(_ESCAPE) or self.prompt is None:
            return
        for key in keys:
            if key in _ENTER:
                self._send()
            elif key in _BACKSPACE:
                self._typed = self._typed[:-1]
            elif key == _ERASE_LINE:
                self._typed = ""
            elif key.isprintable():
                self._typed, self.error = self._typed + key, None

    async def aclose(self) -> None:
        """Cancel an answer that is not sent yet."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait({self._sending})

    def _send(self) -> None:
        prompt, typed = self._prompt, self._typed.strip()
        if prompt is None or not typed or (self._sending is not None and not self._sending.done()):
            return
        try:
            answer = prompt.parse(typed)
        except AnswerError as error:
            self.error = str(error)
        else:
            self._sending = asyncio.create_task(self._deliver(prompt, answer))

    async def _deliver(self, prompt: PromptView, answer: Any) -> None:
        try:
            await self._respond(prompt.prompt_id, answer)
        except StreamingError as error:
            if prompt is self._prompt:
                self.error = error.message
        else:
            if prompt is self._prompt:
                self._typed = ""
