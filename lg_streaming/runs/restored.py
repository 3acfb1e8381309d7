"""Handle of a run that another process drives, or that has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from lg_streaming.errors import ExecutionNotFoundError, RunCancelledError, StreamingError
from lg_streaming.events import Position
from lg_streaming.runs.opening import FINAL_UPDATES
from lg_streaming.runs.run import GraphRun, RunStatus

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.start_keys import StartRecord

__all__ = ["RestoredRun"]


class RestoredRun(GraphRun):
    """Run whose result is read from the log: ``await run`` returns its JSON form.

    `status` is the one at the last ``await``; `StreamHub.describe` returns the present one.
    """

    def __init__(self, hub: StreamHub, record: StartRecord) -> None:
        super().__init__(
            hub,
            record.execution_id,
            record.run_id,
            thread_id=record.thread_id,
            graph=record.graph,
            owner=record.owner,
        )
        self.after: Position | None = Position.parse(record.after) if record.after is not None else None
        self.status: RunStatus = "queued" if record.queued else "running"
        self._was_queued = record.queued

    def __await__(self) -> Generator[Any, None, Any]:
        """Read the run to its end in the log; return the graph's result as JSON has it.

        Raises:
            RunCancelledError: If the run was cancelled, or abandoned.
            StreamingError: If the graph failed: the error has the message of the graph's exception.
            ExecutionNotFoundError: If the log has no end of the run, because its updates have expired.
        """
        return self._read_result().__await__()

    async def _read_result(self) -> Any:
        if not self.done:
            if not self._was_queued and await self._hub.describe(self.execution_id) is None:
                raise self._lost()
            async with self._hub.readers.follow(self.execution_id, after=self.after, filter=FINAL_UPDATES) as updates:
                async for update in updates:
                    if update.metadata.run_id == self.run_id:
                        self._take(update)
                        break
                    if not self._was_queued:  # the run ended before this one, and its end is evicted
                        raise self._lost()
        if not self.done:
            raise self._lost()
        return self._result.result()

    def _lost(self) -> ExecutionNotFoundError:
        return ExecutionNotFoundError("the log no longer has the end of the run", execution_id=self.execution_id)

    def _take(self, update: StreamUpdate) -> None:
        data = cast("Mapping[str, Any]", update.data if isinstance(update.data, dict) else {})
        if update.type == "workflow_complete":
            self.finish("completed", data.get("result"))
        elif update.type == "workflow_error":
            message = str(data.get("error", {}).get("message", "the graph failed"))
            self.finish("failed", error=StreamingError(message, execution_id=self.execution_id))
        else:
            reason = str(data.get("reason") or update.type)
            self.finish("cancelled", error=RunCancelledError(reason, execution_id=self.execution_id))
