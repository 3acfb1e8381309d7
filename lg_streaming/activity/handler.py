"""Log records as updates about an agent."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import describe_error

if TYPE_CHECKING:
    from lg_streaming.activity.agent import AgentStream, LogLevel

__all__ = ["AgentLogHandler"]

_OWN: Final = "lg_streaming"


class AgentLogHandler(logging.Handler):
    """Says what is logged as ``agent:log:<level>`` of an agent; get one with `AgentStream.log_handler`.

    Levels: below INFO ``debug``, below WARNING ``info``, below ERROR ``warn``, below CRITICAL ``error``, else
    ``fatal``. Data: ``level``, ``message``, ``logger``; the exception of a record only with ``settings.debug``. A
    formatter is not used.

    It never raises, holds no lock of its own, and passes over the records of this library, and those that are
    logged while it says another. When the agent has stopped, records are passed over.
    """

    def __init__(self, agent: AgentStream, level: int | str = logging.NOTSET) -> None:
        super().__init__(level)
        self._agent = agent
        self._here = threading.local()

    def createLock(self) -> None:  # noqa: N802 (logging's name)
        """None: the agent is thread-safe, and who holds its lock while it writes may log something."""
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Says one record, unless a filter is against it."""
        passed = cast("bool | logging.LogRecord", self.filter(record))  # from Python 3.12 on it may be another record
        if passed:
            self.emit(record if isinstance(passed, bool) else passed)
        return bool(passed)

    def emit(self, record: logging.LogRecord) -> None:
        """Says one record."""
        if record.name == _OWN or record.name.startswith(_OWN + ".") or getattr(self._here, "busy", False):
            return
        self._here.busy = True
        try:
            self._agent.log_record(_level_of(record.levelno), self._record_data(record))
        except Exception:  # noqa: BLE001 (whoever logs must not be disturbed)
            self._agent.note_failure()
        finally:
            self._here.busy = False

    def _record_data(self, record: logging.LogRecord) -> dict[str, Any]:
        told: dict[str, Any] = {"message": _message_of(record), "logger": record.name}
        if record.exc_info and record.exc_info[1] is not None and self._agent.debug:
            told["exception"] = describe_error(record.exc_info[1], debug=True)
        return told


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 (the arguments do not fit, or cannot be shown)
        return str(record.msg)


def _level_of(number: int) -> LogLevel:
    if number < logging.INFO:
        return "debug"
    if number < logging.WARNING:
        return "info"
    if number < logging.ERROR:
        return "warn"
    return "error" if number < logging.CRITICAL else "fatal"
