"""The log: the ordered, replayable record of each execution."""

from lg_streaming.log.base import Batch, EventLog, LogState, PendingUpdate, ReadResult, StoredUpdate
from lg_streaming.log.memory import MemoryLog

__all__ = ["Batch", "EventLog", "LogState", "MemoryLog", "PendingUpdate", "ReadResult", "StoredUpdate"]
