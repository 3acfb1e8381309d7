"""Cancel graph calls and execution blocks.

A cancel stops the task that waits for the code, where there is one. In other tasks and threads the next callback raises
`GraphCancelledError`: at the start of a node, a model or a tool, at a token, or at the end of a step. A function that
blocks a thread runs until it returns; `still_running` names its node.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from lg_streaming.capture.cancelled import request_of_block
from lg_streaming.capture.run_registry import RUNS
from lg_streaming.capture.thread_work import ThreadWork, find_thread_work, nodes_at_work
from lg_streaming.context import CancelRequest
from lg_streaming.errors import GraphCancelledError
from lg_streaming.eventloop import running_loop
from lg_streaming.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from uuid import UUID

    from lg_streaming.capture.graph_call import GraphCall
    from lg_streaming.capture.run import Run
    from lg_streaming.context import Block, ExecutionContext

__all__ = ["BlockCanceller", "CallCanceller"]

_LEFT_ALONE = (GeneratorExit, KeyboardInterrupt, SystemExit)
"""Errors of a cancelled call that its caller gets as they are."""


class _Canceller(ABC):
    """Canceller of some runs. Implements `publisher.CancelTarget`."""

    def __init__(self, task: asyncio.Task[Any] | None) -> None:
        self.task: asyncio.Task[Any] | None = task
        """Task of the code, which a cancel may stop; None in sync code."""
        self._request: CancelRequest | None = None
        self._ended = False
        self._lock = new_lock()
        self._is_async = task is not None
        self._cancels_before = task.cancelling() if task is not None else 0
        self._in_threads: list[ThreadWork] = []
        self._runs_in_threads: dict[UUID, CancelRequest] = {}
        self._cancelled_tasks: list[asyncio.Task[Any]] = []
        self._remove: Callable[[], None] | None = None

    def join(self, context: ExecutionContext, *, if_abandoned: bool = False) -> None:
        """Cancel the code with the run of ``context``, until `end`."""
        runs = context.publisher.runs
        self._remove = runs.on_cancel(context.execution_id, context.run_id, self, if_abandoned=if_abandoned)

    def _begin(self, execution_id: str, reason: str | None) -> None:
        with self._lock:
            if self._ended or self._request is not None:
                return
            self._request = CancelRequest(execution_id, reason)
            RUNS.begin_cancelling(self)
        self._note_request(self._request)
        task = self.task
        if task is not None:
            if running_loop() is task.get_loop():
                self._find_threads()
            with contextlib.suppress(RuntimeError):  # the loop is closed, and its tasks with it
                task.get_loop().call_soon_threadsafe(self._stop, reason)

    @abstractmethod
    def cancel(self, reason: str | None) -> None:
        """Cancel the code."""

    @abstractmethod
    def _note_request(self, request: CancelRequest) -> None:
        """Make the request visible to callbacks."""

    def _stop(self, reason: str | None) -> None:
        """Cancel the tasks. The event loop calls this between their steps: each is inside the code, or has left it."""
        if self._ended:
            return
        self._find_threads()
        for task in self._tasks(self._runs()):
            if not task.done() and not self._is_cancelled(task):
                task.cancel(reason)
                self._cancelled_tasks.append(task)

    def _is_cancelled(self, task: asyncio.Task[Any]) -> bool:
        """Return whether other code cancels a task: a second cancel would disturb its cleanup."""
        return task.cancelling() > (self._cancels_before if task is self.task else 0)

    def _find_threads(self) -> None:
        """Note the functions in threads that the nodes wait for, before a cancel ends their waits."""
        if self._in_threads or self._request is None:
            return
        self._in_threads = find_thread_work(self._runs())
        nodes = {work.run for work in self._in_threads}
        self._runs_in_threads = {run_id: self._request for run_id, run in RUNS.running() if _is_at_or_in(run, nodes)}

    @abstractmethod
    def _tasks(self, runs: Iterable[Run]) -> Iterable[asyncio.Task[Any]]:
        """Return the tasks that are inside the code."""

    @abstractmethod
    def _includes(self, run: Run) -> bool:
        """Return whether a run is part of the code."""

    def _runs(self) -> list[Run]:
        return [run for _, run in RUNS.running() if run.is_node and self._includes(run)]

    def still_running(self) -> list[str]:
        """Return the ids of the nodes at work, also of those that work on in a thread."""
        return nodes_at_work({*self._unfinished(), *self._runs()})

    def left_running(self) -> list[str]:
        """Return the ids of the nodes that the end of the code leaves at work in threads."""
        return nodes_at_work(self._unfinished())

    def _unfinished(self) -> list[Run]:
        return [work.run for work in self._in_threads if not work.future.done()]

    def end(self) -> None:
        """Note that the code has ended: it is cancelled no more. A task that it cancelled is as before."""
        with self._lock:
            self._ended: bool = True
        if self._remove is not None:
            self._remove()
        if self._request is not None:
            self._leave_threads()
        here = running_loop()
        for task in self._cancelled_tasks:
            if task.get_loop() is here and not task.done():
                task.uncancel()
        self.task = None
        self._cancelled_tasks.clear()

    def _leave_threads(self) -> None:
        """Check the callbacks of functions in threads until they return."""
        left = [work.future for work in self._in_threads if not work.future.done()]
        if not left:
            RUNS.end_cancelling(self)
            return
        RUNS.begin_cancelling(self, self._runs_in_threads)

        def note_return(_: object) -> None:
            if all(future.done() for future in left):
                RUNS.end_cancelling(self)

        for future in left:
            future.add_done_callback(note_return)


def _is_at_or_in(run: Run | None, nodes: Container[Run]) -> bool:
    while run is not None and run not in nodes:
        run = run.parent
    return run is not None


class CallCanceller(_Canceller):
    """Canceller of a graph call.

    Args:
        call: The call.
        task: The task that calls the graph; None for a sync call.
        waits: True if the task does nothing else until the call has ended.
        hides_cancels: True if the task belongs to LangChain, which hides its cancel from the caller.
    """

    def __init__(
        self, call: GraphCall, task: asyncio.Task[Any] | None, *, waits: bool = False, hides_cancels: bool = False
    ) -> None:
        super().__init__(task)
        self._call = call
        self._waits = waits
        self._hides_cancels = hides_cancels

    @property
    def request(self) -> CancelRequest | None:
        """Request to cancel the call, or the block around it."""
        return self._request or request_of_block(self._call.block)

    def cancel(self, reason: str | None) -> None:
        """Cancel the call."""
        context = self._call.context
        self._begin(context.execution_id if context is not None else "", reason)

    def _note_request(self, request: CancelRequest) -> None:
        """Do nothing: callbacks find the call by its runs."""

    def _tasks(self, runs: Iterable[Run]) -> Iterable[asyncio.Task[Any]]:
        if self._waits and self.task is not None:
            return (self.task,)  # LangGraph cancels the tasks of its nodes with it
        return {run.task for run in runs if run.task is not None}

    def _includes(self, run: Run) -> bool:
        return run.call is self._call

    def replace(self, error: BaseException) -> BaseException | None:
        """Return the error that the caller of the cancelled call gets in place of ``error``; None for that error."""
        request = self.request
        if request is None or isinstance(error, _LEFT_ALONE):
            return None
        if self._is_async and not self._hides_cancels:
            reason = () if request.reason is None else (request.reason,)
            return None if isinstance(error, asyncio.CancelledError) else asyncio.CancelledError(*reason)
        if isinstance(error, GraphCancelledError):
            return None
        return GraphCancelledError(request.reason, execution_id=request.execution_id)


class BlockCanceller(_Canceller):
    """Canceller of an execution block.

    Args:
        block: The block.
        task: The task that entered it; None in sync code.
    """

    def __init__(self, block: Block, task: asyncio.Task[Any] | None) -> None:
        super().__init__(task)
        self._block = block

    def cancel(self, reason: str | None) -> None:
        """Cancel the code in the block."""
        self._begin(self._block.context.execution_id, reason)

    def _note_request(self, request: CancelRequest) -> None:
        self._block.cancelled = request

    def _tasks(self, runs: Iterable[Run]) -> Iterable[asyncio.Task[Any]]:  # noqa: ARG002
        return () if self.task is None or self._block.left else (self.task,)

    def _includes(self, run: Run) -> bool:
        block = self._block
        call, frame = run.call, run.frame
        return (call is not None and call.block is block) or (frame is not None and frame.block is block)
