"""Log records with fields, and a formatter that writes them as JSON.

A field is an attribute of the record, which any handler of the standard library can read. No field ever holds a token,
a message's payload or an update's data.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

from typing_extensions import Unpack

__all__ = ["FIELDS", "JsonFormatter", "LogFields", "log_event"]


class LogFields(TypedDict, total=False):
    """The fields of a record. A field that is `None` is left out."""

    connection_id: str | None
    transport: str | None
    """`socketio`, `websocket`, `sse`, `rest`, or the name of a wire."""
    subject: str | None
    """The subject of the caller's token."""
    execution_id: str | None
    room_id: str | None
    code: int | None
    """A code of `lg_streaming.errors.CODES`."""
    reason: str | None
    """The reason, in words or as on the wire."""
    recovered: bool | None
    """False where a subscription lost updates."""
    message_name: str | None
    """The name of a client's message."""
    updates: int | None
    update_type: str | None
    bytes: int | None
    duration_s: float | None
    """Seconds."""


_MAX_TEXT: Final = 500

FIELDS: Final = ("event", *LogFields.__annotations__)
"""The attributes that a record may have; `event` is on all of them."""


def log_event(
    logger: logging.Logger, level: int, event: str, message: str | None = None, **fields: Unpack[LogFields]
) -> None:
    """Log an event.

    Args:
        logger: The logger.
        level: A level of `logging`.
        event: The name of the event.
        message: The text for people; the event and its fields when not given.
        fields: The fields of the record.
    """
    if not logger.isEnabledFor(level):
        return
    values = {name: _cut(value) for name, value in fields.items() if value is not None}
    if message is None:
        message = " ".join((event, *(f"{name}={value!r}" for name, value in values.items())))
    logger.log(level, "%s", message, extra={"event": event, **values})


def _cut(value: object) -> object:
    """Shorten a long text, such as a name that a client chose."""
    return f"{value[:_MAX_TEXT]}…" if isinstance(value, str) and len(value) > _MAX_TEXT else value


class JsonFormatter(logging.Formatter):
    r"""A formatter that writes a record as one line of JSON.

    The line has `timestamp`, `level`, `logger`, `message`, the fields of the record, and `exception`. Records of other
    loggers have the first four. The line is ASCII without control codes: line breaks and other codes in any text are
    JSON escapes, so no text forges a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line: dict[str, Any] = {
            "timestamp": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=repr).replace("\x7f", "\\u007f")  # the one code that JSON leaves in ASCII


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
