"""Log: the ordered, replayable record of each execution.

- `base`: the protocol `EventLog`, and its values.
- `factory`: makes the log that the settings name; `fleet`: the protocol of processes that share a log.
- `memory`: `MemoryLog`, which implements it in this process's memory, with limits and expiry.
- `update_stream`: the updates of one execution in that log.
- `usage`: the usage of models, of one update or of a run.
- `run_state`: the state of an execution's last run, and the memory that an update takes.
- `sorted_keys`: the sorted set that its indexes are made of.
- `redis`: `RedisLog`, which several processes share.
"""

from lg_streaming.log.base import Batch, EventLog, LogState, PendingUpdate, ReadResult, Start, StoredUpdate
from lg_streaming.log.memory import MemoryLog
from lg_streaming.log.usage import Usage

__all__ = [
    "Batch",
    "EventLog",
    "LogState",
    "MemoryLog",
    "PendingUpdate",
    "ReadResult",
    "Start",
    "StoredUpdate",
    "Usage",
]
