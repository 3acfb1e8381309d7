"""Log lines about a repeated problem, at most one a minute."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RareLog"]

_INTERVAL: Final = 60.0
_MAX_TEXT: Final = 300


class RareLog:
    """Log that writes a problem of one place at most once a minute: another application may cause many a second.

    Args:
        logger: Logger of the lines.
        clock: Seconds on any scale.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._places: dict[str, tuple[float, int]] = {}

    def note(self, place: str, problem: BaseException | str, *, traceback: bool = False) -> None:
        """Log that a problem occurred at a place, with the number of earlier ones that were not logged.

        Args:
            place: Subject of the line. There are few of them, so it names no execution.
            problem: The error, or its description.
            traceback: Whether the line has a traceback, because the error may be one of this library.
        """
        now = self._clock()
        last, skipped = self._places.get(place, (-_INTERVAL, 0))
        if last > now - _INTERVAL:
            self._places[place] = last, skipped + 1
            return
        self._places[place] = now, 0
        more = f" ({skipped:,} more since the last such line)" if skipped else ""
        level = logging.ERROR if traceback else logging.WARNING
        text = problem if isinstance(problem, str) else f"{type(problem).__name__}: {problem}"
        exc_info = problem if traceback and isinstance(problem, BaseException) else None
        self._logger.log(level, "%s: %s%s", place, text[:_MAX_TEXT], more, exc_info=exc_info)

    def guard(self, handler: Callable[[Any], object], argument: object, failure: str) -> None:
        """Call ``handler(argument)``; log its exception as a ``failure``, with a traceback."""
        try:
            handler(argument)
        except Exception as error:  # noqa: BLE001 (logged)
            self.note(failure, error, traceback=True)
