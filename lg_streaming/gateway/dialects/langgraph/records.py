"""Records of runs, which live as long as their thread."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.gateway.dialects.langgraph.assistants import assistant_id
from lg_streaming.gateway.session.session import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.gateway.dialects.langgraph.segments import Segment, SegmentTable
    from lg_streaming.gateway.dialects.langgraph.store import RecordStore
    from lg_streaming.log.base import LogState

__all__ = ["RunRecord", "RunRecords"]

_STATELESS: Final = "langgraph_stateless_runs"
_ENDED: Final = {
    "completed": "success",
    "failed": "error",
    "cancelled": "interrupted",
    "abandoned": "timeout",
    "interrupted": "interrupted",
    "running": "running",
}


@dataclass(slots=True, kw_only=True)
class RunRecord:
    """Facts about a run, as its starter sent them, and its last known status."""

    run_id: str
    thread_id: str
    own_run: str
    """Id of the run in the log."""
    graph: str
    created_at: float
    """Seconds since 1970."""
    epoch: str = ""
    """Life of the log in which `begin` counts; empty for any."""
    begin: int = 0
    """Number of the update before its first."""
    resumed: bool = False
    """True for a run that answers an interrupt."""
    queued: bool = False
    """True for a run that waited for earlier runs when it was started."""
    partial: bool = False
    """True for a run that answered some of several interrupts."""
    status: str | None = None
    """Status, once the run has ended; None before."""
    metadata: dict[str, Any] = field(default_factory=dict[str, Any])
    kwargs: dict[str, Any] = field(default_factory=dict[str, Any])
    strategy: str = "enqueue"
    process: str | None = None
    """Process that started it."""

    @property
    def modes(self) -> list[str]:
        """The stream modes with which it was started."""
        return self.kwargs.get("stream_mode") or ["values"]

    @property
    def subgraphs(self) -> bool:
        """Return whether it was started with the streams of subgraphs."""
        return bool(self.kwargs.get("stream_subgraphs"))

    def status_in(self, table: SegmentTable | None, state: LogState | None) -> str:
        """Return the status, by the log if it still has the run."""
        found = table.find(self.run_id) if table is not None else None
        if found is not None:
            return found.status
        if self.status is not None:
            return self.status
        if self.partial:
            return "interrupted"
        start = state.start_record if state is not None else None
        if state is not None and start is not None and start.scope.run_id == self.own_run:
            return _ENDED[state.state]
        return "pending" if self.queued else "success"

    def to_json(self, status: str, updated_at: float | None = None) -> dict[str, Any]:
        """Return the run as clients know it."""
        return {
            "run_id": self.run_id,
            "thread_id": self.thread_id,
            "assistant_id": assistant_id(self.graph),
            "metadata": {**self.metadata, "graph_id": self.graph, "assistant_id": assistant_id(self.graph)},
            "status": status,
            "kwargs": self.kwargs,
            "multitask_strategy": self.strategy,
            "created_at": format_time(self.created_at),
            "updated_at": format_time(updated_at or self.created_at),
        }

    @classmethod
    def of(cls, thread_id: str, segment: Segment) -> RunRecord:
        """Return the record of a run that was not started through this wire."""
        return cls(
            run_id=segment.run_id,
            thread_id=thread_id,
            own_run=segment.own_run,
            graph=segment.graph or "",
            created_at=segment.started_at,
            begin=segment.begin,
            resumed=segment.run_id != segment.own_run,
        )


class RunRecords:
    """Records of runs.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: RecordStore) -> None:
        self._store = store

    async def put(self, record: RunRecord, *, stateless: bool = False) -> None:
        """Keep a record. Raises LogUnavailableError, like the other methods."""
        await self._store.put(_kind(record.thread_id), record.run_id, asdict(record))
        if stateless:
            await self._store.put(_STATELESS, record.run_id, record.thread_id)

    async def get(self, thread_id: str, run_id: str) -> RunRecord | None:
        """Return a record, or None."""
        found = await self._store.get(_kind(thread_id), run_id)
        return None if found is None else _record(found)

    async def is_deleted(self, thread_id: str, run_id: str) -> bool:
        """Return whether a run was deleted."""
        found = await self.get(thread_id, run_id)
        return found is not None and found.status == "deleted"

    async def of_thread(self, thread_id: str) -> list[RunRecord]:
        """Return the records of a thread, oldest first."""
        found = [_record(each) for each in (await self._store.values(_kind(thread_id))).values()]
        return sorted(found, key=lambda each: each.created_at)

    async def thread_of(self, run_id: str) -> str | None:
        """Return the thread of a run that was started without one."""
        found = await self._store.get(_STATELESS, run_id)
        return found if isinstance(found, str) else None

    async def remove_all(self, thread_id: str) -> None:
        """Remove the records of a thread."""
        for run_id in await self._store.values(_kind(thread_id)):
            await self._store.remove(_kind(thread_id), run_id)


def _kind(thread_id: str) -> str:
    return f"langgraph_runs/{thread_id}"


def _record(value: Mapping[str, Any]) -> RunRecord:
    names = RunRecord.__dataclass_fields__
    return RunRecord(**{name: each for name, each in value.items() if name in names})
