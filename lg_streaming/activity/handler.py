"""Publish log records as updates of an agent."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from lg_streaming.errors import describe_error

if TYPE_CHECKING:
    from lg_streaming.activity.states import LogLevel

__all__ = ["AgentLogHandler", "LogRecordTarget"]

_LIBRARY: Final = "lg_streaming"


class LogRecordTarget(Protocol):
    """An agent, as its log handler uses it."""

    @property
    def debug(self) -> bool:
        """Return whether stack traces may be published."""
        ...

    def log_record(self, level: LogLevel, data: dict[str, Any]) -> None:
        """Publish a record. May raise."""
        ...

    def note_failure(self) -> None:
        """Count a record that could not be published."""
        ...


class AgentLogHandler(logging.Handler):
    """A logging handler that publishes records as ``agent:log:<level>``; see `AgentStream.log_handler`.

    Levels: below INFO ``debug``, below WARNING ``info``, below ERROR ``warn``, below CRITICAL ``error``, else
    ``fatal``. Data: ``level``, ``message``, ``logger``; the exception of a record only with ``settings.debug``. A
    formatter is not used.

    It never raises and holds no lock. It ignores the records of this library, those that are logged while it publishes
    another, and all records after the agent has stopped.
    """

    def __init__(self, agent: LogRecordTarget, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._agent = agent
        self._here = threading.local()

    def createLock(self) -> None:  # noqa: N802 (logging's name)
        """Create no lock: the agent is thread-safe, and code that runs under the lock of the agent may log."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Publish a record that the filters pass."""
        passed = cast("bool | logging.LogRecord", self.filter(record))  # from Python 3.12 on it may be another record
        if passed:
            self.emit(record if isinstance(passed, bool) else passed)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Publish a record."""
        if record.name == _LIBRARY or record.name.startswith(_LIBRARY + ".") or getattr(self._here, "busy", False):
            return
        self._here.busy = True
        try:
            self._agent.log_record(_parse_level(record.levelno), self._record_data(record))
        except Exception:  # noqa: BLE001 (an error must not reach the code that logs)
            self._agent.note_failure()
        finally:
            self._here.busy = False

    def _record_data(self, record: logging.LogRecord) -> dict[str, Any]:
        data: dict[str, Any] = {"message": _format_message(record), "logger": record.name}
        if record.exc_info and record.exc_info[1] is not None and self._agent.debug:
            data["exception"] = describe_error(record.exc_info[1], debug=True)
        return data


def _format_message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 (the arguments do not fit, or cannot be shown)
        return str(record.msg)


def _parse_level(number: int) -> LogLevel:
    if number < logging.INFO:
        return "debug"
    if number < logging.WARNING:
        return "info"
    if number < logging.ERROR:
        return "warn"
    return "error" if number < logging.CRITICAL else "fatal"
