"""The log: the ordered, replayable record of each execution."""

from lg_streaming.log.base import Batch, Draft, EventLog, LogState, Record, Slice
from lg_streaming.log.memory import MemoryLog

__all__ = ["Batch", "Draft", "EventLog", "LogState", "MemoryLog", "Record", "Slice"]
