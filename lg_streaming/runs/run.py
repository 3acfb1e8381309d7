"""Handle of one run of a graph."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal

from typing_extensions import Unpack

from lg_streaming.notebook import RunDisplay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from lg_streaming.events import Position
    from lg_streaming.hub import StreamHub, Subscription
    from lg_streaming.hub.options import SubscribeOptions

__all__ = ["GraphRun", "RunStatus"]

RunStatus = Literal["queued", "running", "interrupted", "completed", "failed", "cancelled"]
"""Status of a run. ``queued``: it waits for its turn, or for the end of an earlier run of its execution.
``interrupted``: it waits for a human, or was paused."""


class GraphRun:
    """Run of a graph that `GraphRunner.start` began. It goes on without readers, and without anyone who awaits it.

    ``await run`` returns the graph's result, or raises the run's exception. It may be awaited any number of times.
    A cancelled wait does not cancel the run.
    """

    def __init__(
        self, hub: StreamHub, execution_id: str, run_id: str, *, thread_id: str, graph: str, owner: str | None
    ) -> None:
        self.execution_id: str = execution_id
        self.run_id: str = run_id
        self.thread_id: str = thread_id
        """LangGraph's thread."""
        self.graph: str = graph
        """Name of the graph."""
        self.owner: str | None = owner
        self.status: RunStatus = "queued"
        self.place: int | None = None
        """Place in the queue from 1; None for a run that does not wait for its turn."""
        self.after: Position | None = None
        """Position before the run's first update; None for the beginning of the execution."""
        self.is_open: bool = False
        """True once the run was opened, also after its end; False while it waits for an earlier run."""
        self.rolled_back: frozenset[str] = frozenset()
        """Ids of the earlier runs whose changes were taken back for this run."""
        self.on_cancel: Callable[[str | None], Awaitable[bool]] = lambda reason: hub.cancel(
            execution_id, reason, run_id=run_id
        )
        """Cancels the run; set by the runner."""
        self._hub = hub
        self.on_await: Callable[[], object] = lambda: None
        """Called before each wait for the end, in the context of the waiting code; set by the runner."""
        self._result: Future[Any] = Future()

    @property
    def done(self) -> bool:
        """Return whether the run has ended."""
        return self._result.done()

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the end of the run, on any event loop; return the graph's result.

        The log has the end by then, unless it cannot be reached. A node that awaits a run lends it its own run's turn
        in the queue, so that the two cannot wait for each other.

        Raises:
            RunCancelledError: If the run was cancelled, or the program ended it, as with ``hub.close``.
            TransitionError: If a node awaits its own run, or one that begins after its own run's end.
            ServerRestartError: If this process stopped while the run waited for a human: it stays open, and goes on
                in another process.
            Exception: If the graph raised it.
        """
        self.on_await()
        result = asyncio.wrap_future(self._result)
        result.add_done_callback(_retrieve)
        return asyncio.shield(result).__await__()

    async def cancel(self, reason: str | None = None) -> bool:
        """Cancel the run, queued, running or interrupted; return whether it was still open. See `StreamHub.cancel`."""
        return False if self.done else await self.on_cancel(reason)

    def updates(self, **options: Unpack[SubscribeOptions]) -> Subscription:
        """Subscribe to the run, from its start. Takes the options of `StreamHub.subscribe`, and raises like it.

        A run that waits for an earlier run of its execution has no position yet. The subscription then begins with
        the execution.
        """
        options.setdefault("after", self.after)
        return self._hub.subscribe(self.execution_id, **options)

    def finish(self, status: RunStatus, result: Any = None, error: BaseException | None = None) -> None:
        """Record the end. Called by the runner; later calls do nothing."""
        if self._result.done():
            return
        self.status, self.place = status, None
        if error is None:
            self._result.set_result(result)
        else:
            self._result.set_exception(error)

    def _repr_html_(self) -> str:
        """Return a picture of the run as it is now, for a notebook."""
        return RunDisplay(self._hub, self.execution_id, self.run_id)._repr_html_()  # pyright: ignore[reportPrivateUsage]

    def __repr__(self) -> str:
        """Return ids and status."""
        return f"<GraphRun of {self.graph!r}, execution {self.execution_id!r}, {self.status}>"


def _retrieve(result: asyncio.Future[Any]) -> None:
    """Mark the exception of a run as seen, which the code that awaited it does not get if it was cancelled."""
    if not result.cancelled():
        result.exception()
