"""Harness of the memory log for the contract suite."""

from lg_streaming.log import EventLog, MemoryLog
from lg_streaming.settings import RetentionSettings
from lg_streaming.testing.log_contract import LogHarness
from tests.log.factories import Clock


class MemoryHarness(LogHarness):
    def __init__(self) -> None:
        self.clock = Clock()

    def make(self, retention: RetentionSettings) -> EventLog:
        return MemoryLog(retention, clock=self.clock, monotonic=self.clock)

    async def advance(self, seconds: float) -> bool:
        self.clock.now += seconds
        return True

    def now(self) -> float:
        return self.clock.now
