"""Open the run of an execution, exclusively over all processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import ForbiddenError, LogUnavailableError
from lg_streaming.events import FINAL_TYPES, Position
from lg_streaming.filters import UpdateFilter
from lg_streaming.publisher import RunOutcome
from lg_streaming.titles import graph_name, title_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.hub import StreamHub
    from lg_streaming.log.base import LogState
    from lg_streaming.runs.request import RunRequest
    from lg_streaming.runs.run import GraphRun

__all__ = ["FINAL_UPDATES", "OPEN_STATES", "RunOpening", "wait_for_end"]

OPEN_STATES: Final = frozenset({"running", "interrupted"})
FINAL_UPDATES: Final = UpdateFilter.of(types=sorted(FINAL_TYPES))


class RunOpening:
    """Opening of one run, which may have to wait for the end of another run of its execution.

    Args:
        hub: The hub.
        request: The run's arguments.
        run: The run's handle.
        cancel: Called with the reason when the open run is cancelled, on the event loop that opens it.
        on_end: Called on any thread when the open run has ended otherwise, as with ``hub.close``. It must not block.
    """

    def __init__(
        self,
        hub: StreamHub,
        request: RunRequest,
        run: GraphRun,
        cancel: Callable[[str | None], None],
        on_end: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._request = request
        self._run = run
        self._cancel = cancel
        self._on_end = on_end
        self._stop_listening: Callable[[], None] | None = None
        self._is_certain = False
        self._cancelled_early: list[str | None] = []
        self._stop_watching: Callable[[], None] | None = None
        self.is_open: bool = False
        """True after the run was opened."""

    async def open(self) -> bool:
        """Open the run; return False if the execution has an open run, in this process or another.

        Raises:
            ForbiddenError: If the execution has another owner.
            ExecutionLimitError: If ``limits.max_executions`` executions are running.
            HubClosedError: If the hub was closed.
            LogUnavailableError: If the log cannot be reached.
        """
        hub, request, run = self._hub, self._request, self._run
        state = await self._describe()
        if state is not None and self._is_elsewhere(state):
            return False
        run.after = Position(state.epoch, state.head) if state is not None else None
        self._stop_listening = hub.on_cancel(run.execution_id, self._on_cancel)
        try:
            begun = hub.runs.begin_run(
                run.execution_id,
                name=request.graph_name,
                graph=request.graph_name if request.is_registered else graph_name(request.graph_name),
                title=title_of(request.input),
                metadata=request.metadata,
                owner=request.owner,
                parent=request.parent,
                thread_id=None if request.thread_id == run.execution_id else request.thread_id,
                forked_from=request.forked_from,
                run_id=run.run_id,
                exclusive=True,
            )
            self.is_open = begun is not None and await self._is_accepted()
        finally:
            if not self.is_open:
                self.close()
        if self.is_open:
            self._watch_end()
        for reason in self._cancelled_early[:1]:
            self._cancel(reason)
        return self.is_open

    def take_up(self) -> None:
        """Take cancellations of a run that is open here already."""
        self._stop_listening = self._hub.on_cancel(self._run.execution_id, self._on_cancel)
        self.is_open = self._is_certain = True
        self._watch_end()

    def _watch_end(self) -> None:
        run = self._run
        self._stop_watching = self._hub.runs.statuses.on_end(run.execution_id, run.run_id, self._on_end)

    def close(self) -> None:
        """Take no more cancellations, and call ``on_end`` no more."""
        for stop in (self._stop_listening, self._stop_watching):
            if stop is not None:
                stop()
        self._stop_listening = self._stop_watching = None
        self._cancelled_early.clear()

    async def _describe(self) -> LogState | None:
        hub, execution_id = self._hub, self._run.execution_id
        state = await hub.describe(execution_id, latest=True)
        if state is not None and state.state in OPEN_STATES and self._is_mine(state):
            await hub.writer.flush()  # the end of the run before may be on its way to the log
            state = await hub.describe(execution_id)
        self._check_owner(state)
        return state

    def _check_owner(self, state: LogState | None) -> None:
        owner, execution_id = self._request.owner, self._run.execution_id
        if state is not None and None not in {state.owner, owner} and state.owner != owner:
            raise ForbiddenError(
                f"execution {execution_id!r} has another owner: choose another id", execution_id=execution_id
            )

    def _is_mine(self, state: LogState) -> bool:
        fleet = self._hub.log.fleet
        return fleet is not None and state.process == fleet.process_id

    def _is_elsewhere(self, state: LogState) -> bool:
        """Return whether a run is open that this process has not opened, or has not ended."""
        if state.state not in OPEN_STATES:
            return False
        forgotten = self._is_mine(state) and self._hub.runs.current_run_id(self._run.execution_id) is None
        return not forgotten

    async def _is_accepted(self) -> bool:
        """Return whether the log has the start of the run, and has not refused it."""
        hub, run = self._hub, self._run
        if hub.log.fleet is not None:
            try:
                async with asyncio.timeout(hub.settings.redis.request_timeout):
                    await hub.writer.flush()
            except BaseException as error:
                hub.runs.end_run(run.execution_id, RunOutcome("workflow_cancelled", {}), run.run_id)
                if isinstance(error, TimeoutError):
                    raise LogUnavailableError("the log cannot be reached, so no run began: try again later") from None
                raise
            if hub.runs.current_run_id(run.execution_id) != run.run_id:
                self._check_owner(await hub.describe(run.execution_id))
                return False
        self._is_certain = True
        return True

    def _on_cancel(self, reason: str | None) -> None:
        if self._is_certain:
            self._cancel(reason)
        else:  # also called if the log refuses the run
            self._cancelled_early.append(reason)


async def wait_for_end(hub: StreamHub, execution_id: str) -> None:
    """Wait until the open run of an execution has ended, in any process. Return at once without one.

    Raises:
        LogUnavailableError: If the log cannot be reached.
        HubClosedError: If the hub was closed.
    """
    state = await hub.describe(execution_id)
    if state is None or state.state not in OPEN_STATES:
        return
    after = Position(state.epoch, state.head)
    async with hub.readers.follow(execution_id, after=after, filter=FINAL_UPDATES) as updates:
        async for _ in updates:
            return
