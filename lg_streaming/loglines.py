"""Log records that hold text from elsewhere: one record is one line, without control codes."""

from __future__ import annotations

import logging
import pkgutil
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

from lg_streaming.visible import escape_controls, escape_line

__all__ = ["LineFormatter", "OneLineFilter", "guard_loggers"]

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_OTHERS: Final = ("updates", "gateway._engineio.packets", "client.line.packets")
"""Loggers of this library that are not named after a module."""


class OneLineFilter(logging.Filter):
    r"""Escapes control codes and line breaks in a record's message, and control codes in its traceback.

    A record that has none stays as it is. The lines of a traceback are indented, so that no text of an exception looks
    like a record of its own.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Changes the record, and lets it pass."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 (handlers report arguments that cannot be formatted)
            return True
        shown = escape_line(message)
        if shown != message:
            record.msg, record.args = shown, None
        if record.exc_info and record.exc_text is None:
            record.exc_text = _traceback(record.exc_info)
        return True


class LineFormatter(logging.Formatter):
    """Writes any logger's record as one line without control codes; only a traceback has further, indented lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (a method of logging.Formatter)
        """The line."""
        return escape_line(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 (a method of logging.Formatter)
        """The traceback."""
        return _traceback(ei)


def _traceback(exc_info: _ExcInfo) -> str:
    text = "".join(traceback.format_exception(*exc_info))
    return "\n".join(f"  {line}" for line in escape_controls(text).rstrip("\n").split("\n"))


_FILTER: Final = OneLineFilter()


def guard_loggers() -> None:
    """Give the logger of each module of this package, imported or not, a filter that keeps its records to one line.

    Records pass the filters of their own logger only, and handlers are the application's: so each logger has it.
    """
    here = Path(__file__).parent
    names = _modules(here.name, here)
    for name in (here.name, *names, *(f"{here.name}.{other}" for other in _OTHERS)):
        logging.getLogger(name).addFilter(_FILTER)


def _modules(package: str, path: Path) -> Iterator[str]:
    for found in pkgutil.iter_modules([str(path)]):
        name = f"{package}.{found.name}"
        yield name
        if found.ispkg:
            yield from _modules(name, path / found.name)
