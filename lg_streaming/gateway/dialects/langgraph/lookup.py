"""Look-up of runs: by their records, or in the log if they were started elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lg_streaming.gateway.dialects.langgraph.records import RunRecord
from lg_streaming.gateway.dialects.langgraph.refusals import no_run

if TYPE_CHECKING:
    from lg_streaming.gateway.dialects.langgraph.records import RunRecords
    from lg_streaming.gateway.dialects.langgraph.threads import ThreadView
    from lg_streaming.gateway.session.context import GatewayContext

__all__ = ["RunLookup"]


class RunLookup:
    """Runs of threads.

    Args:
        context: The processes that share the log.
        records: Records of runs.
    """

    def __init__(self, context: GatewayContext, records: RunRecords) -> None:
        self._context = context
        self._records = records

    async def run_of(self, view: ThreadView, run_id: str) -> RunRecord:
        """Return the record of a run of a thread; one from the log for a run that was started elsewhere.

        Raises:
            RefusedError: If it does not exist, or it was deleted.
        """
        record = await self._records.get(view.thread_id, run_id)
        if record is not None and record.status != "deleted":
            return self._checked(record)
        table = view.table
        if record is None and table is not None:
            segment = table.find(run_id)
            if segment is not None:
                return RunRecord.of(view.thread_id, segment)
            if run_id in table.aliases and table.segments:
                before = RunRecord.of(view.thread_id, table.segments[0])
                before.run_id = before.own_run = run_id
                before.status = "interrupted"
                return before
        raise no_run(run_id)

    def _checked(self, record: RunRecord) -> RunRecord:
        fleet = self._context.hub.log.fleet
        if fleet is not None and record.queued and record.process not in {fleet.process_id, *fleet.live}:
            record.status = record.status or "interrupted"  # its process took the queue with it
        return record

    async def runs_of(self, view: ThreadView) -> list[RunRecord]:
        """Return the runs of a thread, newest first."""
        known = {each.run_id: each for each in await self._records.of_thread(view.thread_id)}
        for segment in view.table.segments if view.table is not None else ():
            known.setdefault(segment.run_id, RunRecord.of(view.thread_id, segment))
        found = [self._checked(each) for each in known.values() if each.status != "deleted"]
        return sorted(found, key=lambda each: each.created_at, reverse=True)
