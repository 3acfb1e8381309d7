"""Read the keyboard of a terminal on an event loop, without echo."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
import sys
from collections.abc import Callable, Generator
from typing import Final

__all__ = ["has_keyboard", "read_keys", "read_line"]

_MOST_BYTES: Final = 1024


def has_keyboard() -> bool:
    """Return whether the standard input is the keyboard of a terminal that this process may read; never on Windows."""
    if sys.platform == "win32" or sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
        return False
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()  # a background job that reads would be stopped
    except OSError:
        return False


@contextlib.contextmanager
def read_keys(on_keys: Callable[[str], object]) -> Generator[None]:
    """Call ``on_keys(text)`` with typed characters, for the time of the block. Ctrl-C stays a signal.

    Needs `has_keyboard`. The terminal's settings are restored at the end.
    """
    import termios
    import tty

    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()
    decode = codecs.getincrementaldecoder("utf-8")("replace").decode

    def read() -> None:
        data = os.read(descriptor, _MOST_BYTES)
        if not data:  # the terminal is gone
            loop.remove_reader(descriptor)
        on_keys(decode(data))

    settings = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    loop.add_reader(descriptor, read)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)
        with contextlib.suppress(termios.error):
            termios.tcsetattr(descriptor, termios.TCSADRAIN, settings)


def read_line(question: str) -> str | None:
    """Print a question, and return the line that follows on the standard input; None at its end.

    Blocks the event loop, and Ctrl-C raises KeyboardInterrupt at once: asyncio would wait for the end of the line.
    Needs the main thread.
    """
    print(question, end="", flush=True)
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        line = sys.stdin.readline()
    finally:
        signal.signal(signal.SIGINT, previous)
    return line.strip() if line else None
