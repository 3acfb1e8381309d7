"""Programs in a terminal of their own, whose keys a test presses."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress

import pytest

from tests.support import warm


class Terminal:
    """A program in a separate terminal."""

    def __init__(self, program: warm.Program | subprocess.Popen[str], descriptor: int) -> None:
        self.seen = ""
        self._typed_at = 0
        self._program = program
        self._descriptor = descriptor

    def read_until(self, text: str) -> str:
        """Everything written so far, once `text` came after the last key; control codes are left out."""
        while text not in self.seen[self._typed_at :]:
            if not self._read():
                pytest.fail(f"{text!r} never came:\n{self.seen}")
        return self.seen

    def read_to_end(self) -> str:
        """Everything written, once the program has ended."""
        while self._read():
            pass
        return self.seen

    def press(self, keys: str) -> None:
        self._typed_at = len(self.seen)
        os.write(self._descriptor, keys.encode())

    def press_ctrl_c(self) -> None:
        self.press("\x03")

    def exit_code(self) -> int:
        return self._program.wait()

    def close(self) -> None:
        self._program.kill()
        self._program.wait()
        os.close(self._descriptor)

    def _read(self) -> bool:
        with suppress(OSError):  # Linux reports the end of a terminal as an error
            if piece := os.read(self._descriptor, 65_536):
                self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", piece.decode(errors="replace"))
                return True
        return False


@contextmanager
def open_terminal(*arguments: str, env: Mapping[str, str] | None = None, fresh: bool = False) -> Generator[Terminal]:
    """Start a program of Python in a terminal, and kill it at the end.

    Args:
        arguments: The arguments of `python`.
        env: Further variables of its environment.
        fresh: Whether it has a new interpreter.
    """
    descriptor, theirs = os.openpty()
    environment = {**os.environ, "COLUMNS": "100", "LINES": "30", "TERM": "xterm-256color", **(env or {})}
    program = warm.start(*arguments, env=environment, terminal=theirs, fresh=fresh)
    os.close(theirs)
    running = Terminal(program, descriptor)
    try:
        yield running
    finally:
        running.close()
