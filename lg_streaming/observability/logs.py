"""Log records with fields: which fields there are, how a record gets them, and a formatter that writes them as JSON.

A field is an attribute of the record, so any handler of the standard library, and what builds on it, can read it. No
field ever holds a token, a message's payload or an update's data.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

from typing_extensions import Unpack

__all__ = ["FIELDS", "JsonFormatter", "LogFields", "log_event"]


class LogFields(TypedDict, total=False):
    """What a record can say beside its message. A field that is `None` is left out of the record."""

    connection_id: str | None
    transport: str | None
    """`socketio`, `websocket`, `sse` or `rest`."""
    subject: str | None
    """Who the token says the caller is."""
    execution_id: str | None
    room_id: str | None
    code: int | None
    """Of `lg_streaming.errors.CODES`."""
    reason: str | None
    """Why, in words or as the wire says it."""
    recovered: bool | None
    """Whether a subscription lost nothing."""
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
    """Logs that something happened.

    Args:
        logger: Where to.
        level: A level of `logging`.
        event: What happened, by name; the same for all that happens alike.
        message: The text for people; when not given, the event and its fields.
        fields: What is known about it.
    """
    if not logger.isEnabledFor(level):
        return
    known = {name: _cut(value) for name, value in fields.items() if value is not None}
    if message is None:
        message = " ".join((event, *(f"{name}={value!r}" for name, value in known.items())))
    logger.log(level, "%s", message, extra={"event": event, **known})


def _cut(value: object) -> object:
    """A client may give a long name to what it sends; a record need not have all of it."""
    return f"{value[:_MAX_TEXT]}…" if isinstance(value, str) and len(value) > _MAX_TEXT else value


class JsonFormatter(logging.Formatter):
    r"""Writes a record as one line of JSON: `timestamp`, `level`, `logger`, `message`, its fields, and `exception`.

    Every record has the first four, also those of other loggers. The line is ASCII without control codes: line breaks
    and other codes in any text are JSON escapes, so no text forges a line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
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
