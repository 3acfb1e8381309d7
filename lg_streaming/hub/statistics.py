"""What a hub counts."""

from __future__ import annotations

import threading
from dataclasses import dataclass

__all__ = ["HubStatistics", "Tally"]


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatistics:
    """Counts since the hub was made, and what is there now."""

    executions: int
    """Executions this process has written to and not forgotten."""
    running: int
    """Of these, the ones with an open run."""
    subscriptions: int
    published: int
    dropped_late: int
    """Updates dropped because their run had ended."""
    dropped_too_large: int
    dropped_over_rate: int
    """``at-most-once`` updates over ``limits.updates_per_second``."""
    dropped_at_most_once: int
    """``at-most-once`` updates given up because the log was slow or away."""
    repeated: int
    """Updates left out because the log has one with their key."""
    lost: int
    """Other updates given up because the log was away for too long."""
    waiting: int
    """Updates on their way to a blocking log."""
    append_failures: int
    encode_fallbacks: int
    """Updates that held something JSON cannot hold."""
    observer_errors: int
    callable_errors: int
    """Exceptions of the functions that were given to decorators, such as a transformer."""


class Count:
    """A number that threads add to; none of them is lost."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.value = 0

    def add(self, amount: int = 1) -> None:
        """Adds ``amount``."""
        with self._lock:
            self.value += amount


class Tally:
    """The counts of one hub, see :class:`HubStatistics`."""

    __slots__ = ("at_most_once", "callables", "late", "lost", "over_rate", "repeated", "too_large")

    def __init__(self) -> None:
        self.late = Count()
        self.too_large = Count()
        self.over_rate = Count()
        self.at_most_once = Count()
        self.repeated = Count()
        self.lost = Count()
        self.callables = Count()
