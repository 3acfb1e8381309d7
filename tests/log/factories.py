"""The logs that keep the contract. A new one is one more line in ``FACTORIES``."""

from collections.abc import Callable
from typing import Protocol

from lg_streaming.log import EventLog, MemoryLog
from lg_streaming.settings import RetentionSettings


class LogFactory(Protocol):
    def __call__(
        self, *, retention: RetentionSettings, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> EventLog: ...


FACTORIES: list[LogFactory] = [
    MemoryLog,
]


class Clock:
    """Clock that a test sets, in seconds since 1970."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class MakeLog(Protocol):
    def __call__(self, **retention: float) -> EventLog: ...
