"""Updates as records of `logging`."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from lg_streaming.checks import Number
from lg_streaming.errors import StreamingConfigError
from lg_streaming.escaping import escape_line
from lg_streaming.sinks.worker import BlockingCallRunner
from lg_streaming.values import to_json

if TYPE_CHECKING:
    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub.sink import CloseReason

__all__ = ["LoggingSink"]

_MAX_DATA: Final = 1_000
_LEVEL: Final = Number(whole=True, above=True)


class LoggingSink:
    """A sink that writes one log record for each update: execution, number, type and data.

    The record also has the attributes ``event`` (``stream_update``), ``execution_id`` and ``update_type``. Handlers run
    in a thread of the sink, since they may block. `logging` itself reports the exceptions of handlers.

    Args:
        logger: The logger or its name; ``lg_streaming.updates`` when not given.
        level: A level of `logging`, or its name.
        data: True writes the data, up to 1,000 characters of its JSON. It may hold text that people wrote.
        id: The name of the sink; a new one when not given.
    """

    def __init__(
        self,
        logger: logging.Logger | str = "lg_streaming.updates",
        level: int | str = logging.INFO,
        *,
        data: bool = True,
        id: str | None = None,
    ) -> None:
        self.id: str = id or f"logging-{secrets.token_hex(4)}"
        self.claim_by_default: bool = id is not None
        """True if one process of several serves the sink: see the option ``claim`` of `StreamHub.attach`."""
        self._logger = logging.getLogger(logger) if isinstance(logger, str) else logger
        self._level = _parse_level(level)
        self._data = data
        self._worker = BlockingCallRunner(f"lg-streaming-{self.id}")
        self._closed = False

    async def send(self, updates: Sequence[StreamUpdate]) -> None:
        """Write ``updates``, where the logger is enabled for the level."""
        if self._logger.isEnabledFor(self._level):
            await self._worker.run(lambda: self._write(updates))

    def _write(self, updates: Sequence[StreamUpdate]) -> None:
        for update in updates:
            metadata = update.metadata
            data = _shortened(update.data) if self._data else ""
            self._logger.log(
                self._level,
                "%s #%d %r %s",  # a type is any text, and must not forge a line
                metadata.execution_id,
                metadata.sequence_number,
                update.type,
                data,
                extra={"event": "stream_update", "execution_id": metadata.execution_id, "update_type": update.type},
            )

    async def closed(self, reason: CloseReason) -> None:
        """Write nothing: the final update is the last record."""

    def is_active(self) -> bool:
        """Return whether it is open."""
        return not self._closed

    async def aclose(self) -> None:
        """End the thread; the logger stays as it is."""
        self._closed = True
        self._worker.close()


def _shortened(data: object) -> str:
    text = to_json(data).decode()
    return escape_line(text if len(text) <= _MAX_DATA else f"{text[:_MAX_DATA]}…")  # JSON leaves C1 codes as they are


def _parse_level(level: int | str) -> int:
    number = logging.getLevelNamesMapping().get(level) if isinstance(level, str) else level
    if number is None or not _LEVEL.accepts(number):
        raise StreamingConfigError(f"level {_LEVEL.refusal(level)}: use logging.INFO, or 'INFO'")
    return number
