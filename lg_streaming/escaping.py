"""Escape control codes in text from elsewhere, before it is printed on a terminal or written into a log."""

from __future__ import annotations

import logging
import pkgutil
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Final

__all__ = ["LineFormatter", "OneLineFilter", "escape_controls", "escape_json", "escape_line", "guard_loggers"]

_ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]

_OTHERS: Final = ("updates", "gateway.hooks.engineio.packets", "client.socketio_connection.packets")
"""Loggers of this library that are not named after a module."""
_CONTROLS: Final = (
    r"\x00-\x08\x0b-\x1f"  # C0, but the tab and the line break: escape sequences begin with \x1b
    r"\x7f-\x9f"  # DEL and C1: \x9b begins an escape sequence too
    r"\u2028\u2029"  # line and paragraph separators
    r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks, embeddings, overrides and isolates of bidirectional text
    r"\ufff9-\ufffb"  # hidden annotations
    r"\ud800-\udfff"  # lone surrogates, which cannot be written to a terminal
)
_HIDDEN: Final = re.compile(f"[{_CONTROLS}]")
_BEYOND_ASCII: Final = re.compile(r"[^\x20-\x7e]")
_HIDDEN_OR_BREAK: Final = re.compile(f"[\t\n{_CONTROLS}]")


def escape_controls(text: str) -> str:
    r"""Return ``text`` with every control code as its escape, such as ``\x1b`` or ``\u202e``.

    Tabs and line breaks stay; a Windows line break (CR LF) becomes a line break. The result has no other C0 code, no
    C1 code, no DEL, no line or paragraph separator, no bidirectional control and no lone surrogate. A terminal shows
    the result and obeys nothing in it.
    """
    if "\r\n" in text:
        text = text.replace("\r\n", "\n")
    return _HIDDEN.sub(_escape, text)


def escape_line(text: str) -> str:
    r"""Return ``text`` as `escape_controls` does, and also write ``\t`` and ``\n`` for tabs and line breaks."""
    return _HIDDEN_OR_BREAK.sub(_escape, text)


def escape_json(text: str, *, encoding: str = "utf-8") -> str:
    r"""Return JSON with every control code as an escape of JSON, such as ``\u009b``. The values stay the same.

    Args:
        text: The JSON, on one line.
        encoding: Encoding of the output; characters that it lacks are escaped too.
    """
    if encoding.lower().replace("-", "") not in {"utf8", "utf16", "utf32"}:
        return _BEYOND_ASCII.sub(_escape_in_json, text)
    return _HIDDEN.sub(_escape_in_json, text)


def _escape_in_json(found: re.Match[str]) -> str:
    units = found.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))


def _escape(found: re.Match[str]) -> str:
    return found.group().encode("unicode_escape").decode()


class OneLineFilter(logging.Filter):
    r"""Filter that escapes control codes and line breaks in a record's message, and control codes in its traceback.

    A record without them stays unchanged. The lines of a traceback are indented, so that no exception's text looks
    like a separate record.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Escape the record in place, and let it pass."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 (handlers report arguments that cannot be formatted)
            return True
        shown = escape_line(message)
        if shown != message:
            record.msg, record.args = shown, None
        if record.exc_info and record.exc_text is None:
            record.exc_text = _format_traceback(record.exc_info)
        return True


class LineFormatter(logging.Formatter):
    """Formatter that writes any logger's record as one line, followed only by the indented lines of a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (a method of logging.Formatter)
        """Return the line."""
        return escape_line(super().formatMessage(record))

    def formatException(self, ei: _ExcInfo) -> str:  # noqa: N802 (a method of logging.Formatter)
        """Return the traceback."""
        return _format_traceback(ei)


def _format_traceback(exc_info: _ExcInfo) -> str:
    text = "".join(traceback.format_exception(*exc_info))
    return "\n".join(f"  {line}" for line in escape_controls(text).rstrip("\n").split("\n"))


_FILTER: Final = OneLineFilter()


def guard_loggers() -> None:
    """Add the one-line filter to the logger of each module of this package, imported or not.

    A record passes the filters of the logger that makes it, and no others; handlers belong to the application.
    """
    here = Path(__file__).parent
    names = _list_modules(here.name, here)
    for name in (here.name, *names, *(f"{here.name}.{other}" for other in _OTHERS)):
        logging.getLogger(name).addFilter(_FILTER)


def _list_modules(package: str, path: Path) -> Iterator[str]:
    for found in pkgutil.iter_modules([str(path)]):
        name = f"{package}.{found.name}"
        yield name
        if found.ispkg:
            yield from _list_modules(name, path / found.name)
