"""Count dropped updates by reason, and log each reason once for each execution."""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, get_args

from lg_streaming.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.hub.execution import Execution

__all__ = ["DropReason", "Drops"]

logger: logging.Logger = logging.getLogger(__name__)

DropReason = Literal[
    "late",
    "foreign_run",
    "no_run",
    "over_rate",
    "at_most_once",
    "lost",
    "refused",
    "too_large",
    "invalid",
    "limit",
    "closed",
]
"""The reason for which the log does not have an update; see `HubStatistics.dropped`."""

_REASONS: Final[tuple[DropReason, ...]] = get_args(DropReason)
_MEANING: Final[Mapping[str, str]] = {
    "late": "its run has ended",
    "foreign_run": "its run has ended, and another run of the execution is open",
    "no_run": "no run is open, and none is to be opened",
    "over_rate": "limits.updates_per_second was reached, and the update was sent at-most-once",
    "at_most_once": "the log is slow or unavailable, and the update was sent at-most-once",
    "lost": "the log was unavailable for too long",
    "refused": "its run ended in another process, or the execution has another owner",
    "too_large": "it exceeds limits.update_bytes, and limits.large_updates is 'refuse'",
    "invalid": "it was refused",
    "limit": "limits.max_executions executions are running",
    "closed": "the hub is closed",
}
_SHORTENED: Final = "shortened"
_MOST_NOTICES: Final = 64
"""The most notices of one execution. Each error of an invalid update is a notice."""
_REMEMBERED: Final = 1_024
"""The most notices of executions that the hub does not have."""


class _Notice(NamedTuple):
    execution_id: str
    reason: str
    type: str
    details: str


class Drops:
    """The counts of dropped and shortened updates of one hub. Thread-safe.

    `report` logs the notices. It must not be called under a lock: it calls log handlers of the application.
    The notices of an execution are remembered as long as the hub has the execution.
    """

    def __init__(self) -> None:
        self._lock = new_lock()
        self._counts: dict[DropReason, int] = dict.fromkeys(_REASONS, 0)
        self._shortened = 0
        self.notices: deque[_Notice] = deque()
        """The notices that `report` will log; usually empty."""
        self.unknown: OrderedDict[tuple[str, str], None] = OrderedDict()
        """The logged notices of executions that the hub does not have."""

    @property
    def counts(self) -> dict[str, int]:
        """The number of dropped updates, by every reason."""
        with self._lock:
            return {reason: self._counts[reason] for reason in _REASONS}

    @property
    def shortened(self) -> int:
        """The number of updates that were too large, and were published shortened or in several."""
        return self._shortened

    def count(self, reason: DropReason) -> int:
        """Return the number of updates dropped for ``reason``."""
        return self._counts[reason]

    def note(
        self,
        reason: DropReason,
        execution: Execution | None,
        execution_id: str,
        type: str,
        *,
        amount: int = 1,
        details: str = "",
    ) -> None:
        """Count ``amount`` dropped updates, the first of type ``type``; `report` logs a new reason."""
        if amount <= 0:
            return
        with self._lock:
            self._counts[reason] += amount
            self._notice(reason, execution, execution_id, type, details)

    def note_shortened(self, execution: Execution, type: str) -> None:
        """Count an update that was too large, and was published shortened or in several."""
        with self._lock:
            self._shortened += 1
            self._notice(_SHORTENED, execution, execution.execution_id, type, "")

    def _notice(self, reason: str, execution: Execution | None, execution_id: str, type: str, details: str) -> None:
        cause = details if reason == "invalid" else reason
        if execution is not None:
            if cause in execution.noticed or len(execution.noticed) >= _MOST_NOTICES:
                return
            execution.noticed.add(cause)
        else:
            key = (execution_id, cause)
            if key in self.unknown:
                return
            self.unknown[key] = None
            if len(self.unknown) > _REMEMBERED:
                self.unknown.popitem(last=False)
        self.notices.append(_Notice(execution_id, reason, type, details))

    def report(self) -> None:
        """Log the new notices. Must not be called under a lock."""
        while self.notices:
            try:
                execution_id, reason, name, details = self.notices.popleft()
            except IndexError:  # another thread took it
                return
            if reason == _SHORTENED:
                logger.warning(
                    "an update of type %r of execution %r exceeds limits.update_bytes and is published shortened, "
                    "or in several; further ones are only counted",
                    name,
                    execution_id,
                )
                continue
            logger.warning(
                "an update of type %r of execution %r was %s: %s; further ones are only counted, as %r",
                name,
                execution_id,
                "refused" if details else "dropped",
                details or _MEANING[reason],
                reason,
            )
