"""Services that the routes of the wire share."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import StreamingError
from lg_streaming.gateway.dialects.langgraph.assistants import Assistants
from lg_streaming.gateway.dialects.langgraph.lookup import RunLookup
from lg_streaming.gateway.dialects.langgraph.pending import PendingRuns
from lg_streaming.gateway.dialects.langgraph.records import RunRecords
from lg_streaming.gateway.dialects.langgraph.segments import SegmentIndex
from lg_streaming.gateway.dialects.langgraph.starting import RunStarter
from lg_streaming.gateway.dialects.langgraph.store import RecordStore
from lg_streaming.gateway.dialects.langgraph.threads import Threads

if TYPE_CHECKING:
    from lg_streaming.gateway.dialects.langgraph.reader import LoadValues
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.runs import GraphRun

__all__ = ["Services"]

logger: logging.Logger = logging.getLogger(__name__)

_TRIES: Final = 20
_PAUSE: Final = 0.05
"""Seconds between two looks for a checkpoint that LangGraph writes while the next step runs."""


class Services:
    """Services that the routes of the wire share.

    Args:
        context: Hub, graphs and rules of access.
    """

    def __init__(self, context: GatewayContext) -> None:
        fleet = context.hub.log.fleet
        self.context = context
        self.store: RecordStore = RecordStore(fleet, context.settings.retention.record_ttl, context.clock.monotonic)
        self.index: SegmentIndex = SegmentIndex(context.hub.log)
        self.records: RunRecords = RunRecords(self.store)
        self.assistants: Assistants = Assistants(context)
        self.threads: Threads = Threads(context, self.store, self.index, self.records, self.assistants)
        self.pending: PendingRuns = PendingRuns(fleet, context.lifecycle)
        self.lookup: RunLookup = RunLookup(context, self.records)
        self.starter: RunStarter = RunStarter(
            context,
            threads=self.threads,
            records=self.records,
            lookup=self.lookup,
            index=self.index,
            assistants=self.assistants,
            pending=self.pending,
            delete_after=self.delete_after,
        )
        self._deletions: set[asyncio.Task[None]] = set()
        context.lifecycle.on_stop.append(self._stop)

    def loader(self, thread_id: str, graph: str) -> LoadValues | None:
        """Return a function that loads states of a thread, for streams; None without a graph."""
        runner = self.context.remote_runner
        if runner is None or graph not in runner.graphs:
            return None
        threads = runner.threads

        async def load(namespace: str, checkpoint_id: str | None) -> Any:
            for _ in range(_TRIES):
                try:
                    found = await threads.state(graph, thread_id, checkpoint_id, namespace=namespace)
                except StreamingError as error:
                    logger.debug("a state of thread %r cannot be loaded now: %s", thread_id, error)
                    found = None
                if found is not None:
                    return found["values"]
                if checkpoint_id is None:
                    break
                await asyncio.sleep(_PAUSE)
            return None

        return load

    def delete_after(self, run: GraphRun, thread_id: str) -> None:
        """Delete the thread of a run after its end."""

        async def delete() -> None:
            await asyncio.gather(_ended(run), return_exceptions=True)
            try:
                await self.threads.retire(thread_id)
            except StreamingError as error:
                logger.warning("the state of the run %s stays: %s", run.run_id, error)

        task = asyncio.create_task(delete(), name="lg_streaming.langgraph.delete")
        self._deletions.add(task)
        task.add_done_callback(self._deletions.discard)

    async def _stop(self) -> None:
        tasks = list(self._deletions)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ended(run: GraphRun) -> None:
    await run
