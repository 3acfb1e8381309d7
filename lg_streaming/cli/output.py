"""Lines on the standard output and the standard error, without control codes of others."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

from lg_streaming.escaping import escape_json, escape_line

__all__ = ["prepare_output", "print_error_line", "print_json", "print_line"]


def prepare_output() -> None:
    """Make the standard output and the standard error take any text: they may be closed, or lack characters."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115 (as long as the process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_line(line: str) -> None:
    r"""Print one line of text, and flush it. Control codes and characters that the output lacks are escaped.

    Raises:
        BrokenPipeError: If the reader of the output has closed it.
    """
    _write(escape_line(line), errors="backslashreplace")


def print_json(line: str) -> None:
    """Print one line of JSON, and flush it. Control codes in its texts are escaped; the values stay the same.

    Raises:
        BrokenPipeError: If the reader of the output has closed it.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    _write(escape_json(line, encoding=encoding), errors="strict")


def print_error_line(line: str) -> None:
    """Print one line of text on the standard error."""
    print(escape_line(line), file=sys.stderr, flush=True)


def _write(line: str, *, errors: str) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors != errors:
        sys.stdout.reconfigure(errors=errors)
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
