"""State of an execution's last run, and the memory that an update takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lg_streaming.events import FINAL_TYPES
from lg_streaming.log.base import state_after

if TYPE_CHECKING:
    from lg_streaming.log.base import ExecutionState, StoredUpdate
    from lg_streaming.log.usage import Usage

__all__ = ["LARGE_UPDATE", "NEW_RUN", "RECORD_BYTES", "STATE_TYPES", "RunState", "memory_of"]

RECORD_BYTES: Final = 224
"""Memory of a record without its JSON: the objects around it, its place in the list, its share of the scope."""
KEY_BYTES: Final = 192
"""Memory of a key without its characters."""
LARGE_UPDATE: Final = 512
"""Most bytes of an update whose scope `RECORD_BYTES` covers."""
STATE_TYPES: Final = FINAL_TYPES | {
    *("workflow_start", "workflow_interrupted", "workflow_progress", "progress"),
    *("usage", "llm_complete"),
}
"""Types that change the state of a run, or its usage."""


def memory_of(record: StoredUpdate) -> int:
    """Return about how many bytes of memory ``record`` takes."""
    memory = len(record.json) + RECORD_BYTES
    if record.key is not None:
        memory += len(record.key) + KEY_BYTES
    if len(record.json) > LARGE_UPDATE:
        memory += 3 * len(record.scope.fragment)  # its JSON, its keys and values, and the user's own objects
    return memory


class RunState:
    """State of the last run, from its lifecycle updates. Immutable."""

    __slots__ = ("final", "interrupted", "memory", "progress", "start", "state", "usage")

    def __init__(
        self,
        state: ExecutionState = "running",
        final: StoredUpdate | None = None,
        progress: StoredUpdate | None = None,
        start: StoredUpdate | None = None,
        usage: Usage | None = None,
    ) -> None:
        self.state: ExecutionState = state
        self.interrupted: bool = state == "interrupted"
        self.final: StoredUpdate | None = final
        self.progress: StoredUpdate | None = progress
        self.start: StoredUpdate | None = start
        self.usage: Usage | None = usage
        self.memory: int = sum(memory_of(each) for each in (final, progress, start) if each is not None)
        """Memory of these records, which are kept when the list drops them."""

    @property
    def ended_at(self) -> float | None:
        """Time of the final update, unless a run is open."""
        return None if self.final is None or self.state in {"running", "interrupted"} else self.final.timestamp

    def after(self, record: StoredUpdate, added: Usage | None = None) -> RunState:
        """Return the state after ``record``, which has ``added`` to the usage."""
        final, progress, start, usage = self.final, self.progress, self.start, self.usage
        if added is not None:
            usage = added if usage is None else usage.plus(added)
        if record.type in FINAL_TYPES:
            final = record
        elif record.type == "workflow_start":
            start, progress, usage = record, None, None
        elif record.type == "workflow_progress" or (
            record.type == "progress" and (progress is None or progress.type == "progress")
        ):
            progress = record
        return RunState(state_after(self.state, record.type), final, progress, start, usage)


NEW_RUN: Final = RunState()
