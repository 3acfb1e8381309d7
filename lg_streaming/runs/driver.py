"""Drive one run of a graph: its turns, its pauses, its end."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import time
from concurrent.futures import Future
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from langgraph.errors import GraphDrained
from langgraph.types import Command

from lg_streaming.capture import describe_failure, shows_nodes
from lg_streaming.errors import (
    DeadlineError,
    LogUnavailableError,
    RunCancelledError,
    RunRefusedError,
    ServerRestartError,
    StreamingConfigError,
    StreamingError,
    TransitionError,
)
from lg_streaming.publisher import RunOutcome
from lg_streaming.runs.call_config import PauseHandler, run_config
from lg_streaming.runs.human import WaitForAnswers, prompts_of_state
from lg_streaming.runs.opening import RunOpening, wait_for_end
from lg_streaming.runs.partial_answers import PartialAnswers
from lg_streaming.runs.progress import RunProgress
from lg_streaming.runs.recording import record_of
from lg_streaming.runs.request import IfRunning, OnDisconnect, RunRequest
from lg_streaming.runs.rollback import without_checkpoint
from lg_streaming.runs.states import StatePublisher
from lg_streaming.runs.steering import StepControl
from lg_streaming.runs.takeover import is_of, read_state

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from langgraph.types import GraphOutput

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.history import RunHistory
    from lg_streaming.runs.human import Prompt
    from lg_streaming.runs.queue import RunQueue, Waiter
    from lg_streaming.runs.records import RunRecord
    from lg_streaming.runs.recovery import RunRecovery
    from lg_streaming.runs.registry import AnyGraph
    from lg_streaming.runs.run import GraphRun
    from lg_streaming.runs.takeover import Takeover
    from lg_streaming.runs.tickets import Ticket

__all__ = ["IfRunning", "OnDisconnect", "RunDriver", "RunRequest", "driver_var"]

logger: logging.Logger = logging.getLogger(__name__)

driver_var: contextvars.ContextVar[RunDriver | None] = contextvars.ContextVar("lg_streaming_run_driver", default=None)
"""Driver of the run whose graph calls the present code."""

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_SETTLE_TIMEOUT: Final = 5.0
"""Seconds until the prompts of a run that was taken up are open, or its graph works."""
_LOG_RETRY: Final = 1.0
"""Seconds until a waiting run looks again for an earlier run in a log that could not be reached."""
_NEXT_RETRY: Final = 0.1
"""Seconds until a waiting run looks again for runs of other processes that are before it."""


class RunDriver:
    """Driver of one run, in a task of `GraphRunner`.

    Args:
        hub: The hub.
        queue: The queue of runs.
        request: The run's arguments.
        run: The run's handle.
        on_end: Called with the driver before the handle has its result.
        history: Earlier runs of the graphs.
        recovery: Stores what another process needs to go on with the run.
    """

    def __init__(
        self,
        hub: StreamHub,
        queue: RunQueue,
        request: RunRequest,
        run: GraphRun,
        *,
        on_end: Callable[[RunDriver], None],
        history: RunHistory,
        recovery: RunRecovery,
    ) -> None:
        self.run = run
        self.record: RunRecord | None = record_of(request, run)
        """Facts with which another process goes on with the run; None if none can."""
        self.request = request
        run.on_cancel, run.on_await = self.cancel_run, self._lend_turn
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.task: asyncio.Task[None] | None = None
        self.ended: Future[None] = Future()
        """Done when the run has ended, or is left to another process."""
        self.opened_at: float | None = None
        """Time at which the run was opened, by the monotonic clock; None before."""
        self.waiter: Waiter | None = None
        """Wait for the first turn, if the run has entered the queue."""
        self.ticket: Ticket | None = None
        """Place among the waiting runs of the execution in all processes."""
        self.publishes_states: bool = hub.settings.runs.publish_states
        """True if the graph's state is published after each step."""
        self._hub = hub
        self._queue = queue
        self._on_end = on_end
        self._recovery = recovery
        self._settled = asyncio.Event()
        self._opening = RunOpening(hub, request, run, self.cancel, self._end_from_outside)
        self._first = asyncio.Event()  # set when no earlier run of the execution is left in this process
        self.steps: StepControl = StepControl(hub, request.graph, run)
        """Control of the run between the steps of its graph."""
        self._started = time.perf_counter()
        self._deadline = None if request.deadline is None else self.loop.time() + request.deadline
        self._reason: str | None = None
        self._cancelled = self._begun = self._left_open = self._held = False
        self._last_calls: list[asyncio.TimerHandle] = []  # end a run that does not stop when it is cancelled
        self._is_awaited = False  # in a node of a run with a turn
        self._present_waiter: Waiter | None = None
        self._pauses = PauseHandler()
        self._progress = RunProgress(hub, run.execution_id, run.run_id, request.graph, history, name=request.graph_name)
        self._config: RunnableConfig = run_config(
            hub.publisher, request, run.run_id, self._pauses, observer=self._progress, record=self.record
        )

    def begin_at(self, checkpoint_id: str) -> None:
        """Begin the first step at a checkpoint of the thread."""
        configurable: dict[str, Any] = self._config.get("configurable", {})
        changed = {**configurable, "checkpoint_id": checkpoint_id}
        self._config = {**self._config, "configurable": changed}

    @property
    def graph(self) -> AnyGraph:
        """The graph."""
        return self.request.graph

    @property
    def thread_config(self) -> RunnableConfig:
        """Config of the newest checkpoint of the run's thread."""
        return {"configurable": without_checkpoint(self._config).get("configurable", {})}

    # --- from outside ---------------------------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """True after the run was opened, also after its end."""
        return self._opening.is_open

    @property
    def is_held(self) -> bool:
        """True while it waits for the end of an earlier run of its execution."""
        return self._held

    @property
    def is_resumable(self) -> bool:
        """True if another process may go on from the thread's state: it waits for a human, or may be resumed."""
        if self.run.status == "interrupted" and self.request.has_persistent_checkpointer:
            return True
        resumes = self.record is not None and self.record.on_abandoned == "resume"
        return resumes and self.is_open and self._hub.log.fleet is not None

    @property
    def is_left(self) -> bool:
        """True if the run goes on elsewhere: this process stops, or the log refused the run."""
        return self._left_open or self._hub.runs.is_abandoned(self.run.execution_id, self.run.run_id)

    def begin_first(self) -> bool:
        """Let the run begin, because earlier runs of its execution have ended; return whether its loop runs."""
        try:
            self.loop.call_soon_threadsafe(self._first.set)
        except RuntimeError:
            return False
        return True

    def cancel(self, reason: str | None) -> None:
        """Cancel the run, on its event loop. A second cancel does nothing: it would disturb the graph's cleanup."""
        if self._cancelled or self.run.done:
            return
        self._cancelled, self._reason = True, reason
        grace = self._hub.settings.limits.cancel_grace
        self._last_calls.append(self.loop.call_later(grace, self._end_cancelled))
        if self.task is not None and self._begun:  # a task that has not begun finds the request
            self.task.cancel()

    def request_cancel(self, reason: str | None) -> None:
        """Cancel the run, on any thread."""
        with contextlib.suppress(RuntimeError):  # its event loop was closed
            self.loop.call_soon_threadsafe(self.cancel, reason)

    async def cancel_run(self, reason: str | None) -> bool:
        """Cancel the run in the log if it was opened, otherwise only here; return whether it had not ended."""
        if self.is_open:
            return await self._hub.cancel(self.run.execution_id, reason, run_id=self.run.run_id)
        self.request_cancel(reason)
        return True

    def _end_from_outside(self) -> None:
        """Stop the graph of a run that the program, or the log, has ended; on any thread."""
        self.request_cancel("the run has ended")

    def _lend_turn(self) -> None:
        """Lend the run the turn of the one whose node begins to await it, so that it need not wait for another turn.

        Raises:
            TransitionError: If the two would wait for each other.
        """
        around = driver_var.get()
        if around is None or around.run.done or self.run.done:
            return
        if around is self or (not self.is_open and around.run.execution_id == self.run.execution_id):
            raise TransitionError(
                "this run waits for the end of the one that awaits it: start it, and do not await it",
                execution_id=self.run.execution_id,
            )
        if around._queue is self._queue and around.run.status == "running":  # noqa: SLF001
            self._is_awaited = True
            waiter = self.waiter or self._present_waiter
            if waiter is not None:
                self._queue.lend_turn(waiter)

    def leave_open(self) -> None:
        """End the task of a run that goes on elsewhere, on any thread; the run stays open in the log."""
        self._left_open = True
        self.request_cancel("shutdown")

    def drain(self, reason: str) -> bool:
        """Stop the run after its present step, if it has a checkpointer; return whether it has one."""
        if self.request.checkpointer is None:
            return False
        if not self._cancelled:
            self._reason = reason
        self._left_open = self.is_resumable
        self.steps.drain(reason)
        return True

    # --- the run --------------------------------------------------------------------------------------------

    async def open(self) -> bool:
        """Open the run, unless another one of its execution is open. Raises like `RunOpening.open`."""
        opened = await self._opening.open()
        if opened:
            self._note_open()
        return opened

    def take_up(self) -> None:
        """Drive a run that is open already."""
        self._opening.take_up()
        self._note_open()

    def _note_open(self) -> None:
        self.run.is_open = True
        self.opened_at = time.monotonic()
        self._recovery.opened(self)

    async def settled(self) -> bool:
        """Wait until the prompts of a run that was taken up are open; return whether it had to wait."""
        if self.request.takeover is None or self._settled.is_set():
            return False
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SETTLE_TIMEOUT):
                await self._settled.wait()
        return True

    def enter_queue(self) -> None:
        """Join the queue of runs. Raises like `RunQueue.enter`."""
        self.waiter = self._queue.enter(self.run.owner, self._show_place)

    def hold(self) -> None:
        """Count as waiting for the end of an earlier run of the execution. Raises like `RunQueue.hold`."""
        self._queue.hold()
        self._held = True

    def leave_queue(self) -> None:
        """Undo `enter_queue`."""
        if self.waiter is not None:
            self._queue.leave(self.waiter)
            self.waiter = None

    def give_up(self, error: BaseException) -> None:
        """End a run whose start failed."""
        self._leave(self._publish_end(RunOutcome("workflow_cancelled", {"reason": "the start failed"}), error))

    async def drive(self) -> None:
        """Run the graph to its end, and publish the outcome."""
        self._begun = True
        timeout = asyncio.timeout_at(self._deadline)
        if self._deadline is not None:
            at = self._deadline + self._hub.settings.limits.cancel_grace
            self._last_calls.append(self.loop.call_at(at, self._end_overdue))
        try:
            async with timeout:
                value = await self._drive()
        except (asyncio.CancelledError, GraphDrained):
            finish = self._publish_cancelled()
        except BaseException as error:
            failure = self._timed_out() if isinstance(error, TimeoutError) and timeout.expired() else error
            finish = self._publish_failed(failure)
            if not isinstance(error, Exception):
                self._leave(finish)
                raise
        else:
            self._progress.complete()
            duration = round(time.perf_counter() - self._started, 6)
            outcome = RunOutcome("workflow_complete", {"result": value, "duration_s": duration})
            finish = self._publish_end(outcome, result=value)
        await self._flush()
        self._leave(finish)

    async def _flush(self) -> None:
        """Wait until the processes that share the log see the end of the run."""
        if self.is_open and self._hub.log.fleet is not None:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(self._hub.settings.redis.request_timeout):
                    await self._hub.writer.flush()

    async def _drive(self) -> Any:
        if self._cancelled:
            raise asyncio.CancelledError
        if not self.is_open:
            await self._open_in_order()
        if shows_nodes(self.request.graph):
            self._progress.start()
        return await self._run_steps()

    async def _open_in_order(self) -> None:
        """Wait for the ends of earlier runs of the execution, open the run, and enter the queue."""
        try:
            await self._first.wait()
            while True:
                try:
                    if not await self.is_next():
                        await asyncio.sleep(_NEXT_RETRY)
                    elif await self.open():
                        break
                    await wait_for_end(self._hub, self.run.execution_id)
                except LogUnavailableError as error:
                    logger.debug("run %s waits for the log: %s", self.run.run_id, error)
                    await asyncio.sleep(_LOG_RETRY)
        finally:
            self._unhold()
            self.give_ticket_back()
        self.waiter = self._queue.enter(self.run.owner, self._show_place, bounded=False)

    async def is_next(self) -> bool:
        """Return whether no run of another process waits for the execution for longer."""
        return self.ticket is None or await self.ticket.is_first()

    def give_ticket_back(self) -> None:
        """Leave the order of the waiting runs."""
        if self.ticket is not None:
            self.ticket.give_back()
            self.ticket = None

    def _unhold(self) -> None:
        if self._held:
            self._held = False
            self._queue.unhold()

    def _timed_out(self) -> DeadlineError:
        limit, execution_id = self.request.deadline, self.run.execution_id
        return DeadlineError(f"the run took longer than its deadline of {limit:g} s", execution_id=execution_id)

    def end_unstarted(self) -> None:
        """End the run of a task that was cancelled before it began, as with its event loop."""
        if not self.run.done:
            self._end_cancelled()

    def _end_cancelled(self) -> None:
        self._leave(self._publish_cancelled())

    def _end_overdue(self) -> None:
        """End a run that does not stop at its deadline."""
        self._leave(self._publish_failed(self._timed_out()))

    def _publish_failed(self, error: BaseException) -> Callable[[], None]:
        described = describe_failure(error, debug=self._hub.settings.debug)
        return self._publish_end(RunOutcome("workflow_error", {"error": described}), error)

    def _publish_cancelled(self) -> Callable[[], None]:
        """Publish the end of a cancelled run, unless another process goes on; return what ends its handle."""
        run = self.run
        # a cancel may stop the graph before `cancel` is called, where both are requested from another thread
        reason = self._reason or self._hub.runs.cancel_reason(run.execution_id, run.run_id)
        if self._hub.runs.is_abandoned(run.execution_id, run.run_id):
            refused = RunRefusedError(reason or "", execution_id=run.execution_id)
            return lambda: run.finish("failed", error=refused)
        if self._left_open:
            error = ServerRestartError("this process stops; the run goes on elsewhere", execution_id=run.execution_id)
            return lambda: run.finish("interrupted", error=error)
        outcome = RunOutcome("workflow_cancelled", {"reason": reason} if reason else {})
        return self._publish_end(outcome, RunCancelledError(reason or "", execution_id=run.execution_id))

    def _publish_end(
        self, outcome: RunOutcome, error: BaseException | None = None, result: Any = None
    ) -> Callable[[], None]:
        """Publish the end of the run, if it was opened; return what ends its handle."""
        run, self._left_open = self.run, False
        self._opening.close()
        if self.is_open:
            with contextlib.suppress(StreamingError):  # the hub was closed
                self._hub.runs.end_run(run.execution_id, outcome, run.run_id)
        status = "completed" if error is None else "cancelled" if isinstance(error, RunCancelledError) else "failed"
        return lambda: run.finish(status, result, error)

    def _leave(self, finish: Callable[[], None]) -> None:
        self.leave_queue()
        self._progress.close()
        while self._last_calls:
            self._last_calls.pop().cancel()
        self._unhold()
        self.give_ticket_back()
        self._opening.close()
        self._settled.set()
        self._recovery.ended(self)
        self._on_end(self)
        finish()
        if not self.ended.done():
            self.ended.set_result(None)

    # --- steps ----------------------------------------------------------------------------------------------

    async def _run_steps(self) -> Any:
        """Call the graph until it returns without an interrupt; return its value."""
        takeover = self.request.takeover
        step = self.request.input if takeover is None else await self._take_up(takeover)
        self._settled.set()
        while True:
            try:
                output = await self._take_turn(step)
            except GraphDrained:
                if self.steps.drained:
                    raise
                step = None
            else:
                prompts = await self._prompts_after(output)
                if not prompts:
                    self.steps.close()
                    return output.value
                step = await self._wait_for_people(prompts)
            self._config = without_checkpoint(self._config)
            step = await self.steps.settle(self._config, step)

    async def _take_up(self, takeover: Takeover) -> Any:
        """Read the state of the thread, wait for people if it does, and return the graph's next input."""
        graph, record = takeover.graph, takeover.record
        snapshot = await read_state(graph, without_checkpoint(self._config))
        if not is_of(snapshot, record):  # the process ended before the first checkpoint
            if record.input is None:
                raise StreamingError(
                    "the process of the run was lost before the first checkpoint", execution_id=record.execution_id
                )
            return record.input
        if not snapshot.interrupts and not (takeover.interrupted and snapshot.next):
            self._publish_status("resumed", reason="process_lost")
            return None
        prompts = prompts_of_state(graph, snapshot, self.run.run_id)
        return await self._wait_for_people(prompts, record.answers)

    async def _take_turn(self, step: Any) -> GraphOutput[Any]:
        run, queue = self.run, self._queue
        waiter, self.waiter = self.waiter, None
        if waiter is None:  # after an answer
            waiter = queue.enter(run.owner, self._show_place, first=True, bounded=False)
        self._present_waiter = waiter
        if self._is_awaited:
            queue.lend_turn(waiter)
        if waiter.place is not None:
            run.status = "queued"
            self._show_place(waiter.place)
        async with queue.turn(waiter):
            run.status, run.place = "running", None
            self._publish_status("running")
            self._pauses.paused = False
            graph = cast("Any", self.request.graph)
            options = {
                "context": self.request.context,
                "control": self.steps.begin_call(),
                **self.request.call_options,
            }
            if self.publishes_states:
                return await StatePublisher(self._hub, run.execution_id).call(graph, step, self._config, **options)
            output: GraphOutput[Any] = await graph.ainvoke(step, self._config, version="v2", **options)
            return output

    def _show_place(self, place: int) -> None:
        self.run.place = place
        with contextlib.suppress(StreamingError):
            self._publish_status("queued", place=place)

    def _publish_status(self, status: str, **data: Any) -> None:
        self._hub.publish(self.run.execution_id, "status", {"status": status, **data}, missing="drop")

    async def _prompts_after(self, output: GraphOutput[Any]) -> list[Prompt]:
        """Return the prompts that the graph waits for; none if it has ended."""
        if not output.interrupts and not self._pauses.paused:
            return []
        run, graph = self.run, self.request.graph
        if self.request.checkpointer is None:
            raise StreamingConfigError(
                f"graph {run.graph!r} waits for a human and has no checkpointer, so it cannot be resumed: "
                "pass one to compile(), such as InMemorySaver()"
            )
        snapshot = await graph.aget_state(without_checkpoint(self._config), subgraphs=True)
        return prompts_of_state(graph, snapshot, run.run_id)

    async def _wait_for_people(self, prompts: Sequence[Prompt], answered: Mapping[str, Any] = _NOTHING) -> Any:
        """Publish the open prompts, wait for the answers, and return the graph's next input.

        Args:
            prompts: The prompts.
            answered: Answers that another process has got to some of them.
        """
        run = self.run
        asked = [each for each in prompts if each.prompt_id not in answered]
        wait = WaitForAnswers(self._hub, run.execution_id)
        partial = PartialAnswers(self._hub, self._recovery, self.record, len(asked), answered)
        try:
            run.status = "interrupted"
            interrupted = RunOutcome("workflow_interrupted", {})
            self._hub.runs.leave_run(run.execution_id, run.run_id, interrupted, prompts=asked)
            self._settled.set()
            answers = await wait.wait()
        finally:
            wait.close()
            partial.close()
        answers = await partial.complete(answers)
        self._ensure_held()
        self._hub.runs.join_run(run.execution_id)
        await self._confirm()
        if not prompts[0].is_breakpoint:
            return Command(resume=answers)
        if not answers[prompts[0].prompt_id]:
            self._reason = f"declined: {prompts[0].data['prompt']}"
            raise asyncio.CancelledError
        return None

    async def _confirm(self) -> None:
        """Check that the log takes updates of the run from this process: another one may have taken the run over."""
        if self._hub.log.fleet is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._hub.settings.redis.request_timeout):
                    await self._hub.writer.flush()
            self._ensure_held()

    def _ensure_held(self) -> None:
        if self._hub.runs.current_run_id(self.run.execution_id) != self.run.run_id:  # it has ended, or is refused
            raise asyncio.CancelledError
