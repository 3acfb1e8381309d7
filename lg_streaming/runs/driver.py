"""Drive one run of a graph: its turns, its pauses, its end."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.runnables.config import merge_configs
from langgraph.callbacks import GraphCallbackHandler
from langgraph.errors import GraphDrained
from langgraph.types import Command

from lg_streaming.capture import CallOptions, configured_plan, describe_failure, graph_config, has_decorated_nodes
from lg_streaming.decorators import plan_of
from lg_streaming.errors import DeadlineError, RunCancelledError, StreamingConfigError
from lg_streaming.publisher import RunOutcome
from lg_streaming.runs.human import WaitForAnswers, prompts_of_state
from lg_streaming.runs.steering import StepControl

if TYPE_CHECKING:
    from langgraph.callbacks import GraphInterruptEvent
    from langgraph.types import GraphOutput

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs.human import Prompt
    from lg_streaming.runs.queue import RunQueue
    from lg_streaming.runs.registry import AnyGraph
    from lg_streaming.runs.run import GraphRun

__all__ = ["Breakpoints", "IfRunning", "OnDisconnect", "RunDriver", "RunRequest"]

IfRunning = Literal["reject", "enqueue", "cancel", "rollback"]
"""Handling of a start while the execution has an open run. ``reject``: the start fails. ``enqueue``: it waits for the
end of the other. ``cancel``: it cancels the other. ``rollback``: it also takes back the other's changes to the
thread's state."""

OnDisconnect = Literal["continue", "cancel"]
"""Handling of a run whose last reader has left: it goes on, or is cancelled."""


Breakpoints = Literal["*"] | Sequence[str]
"""Names of nodes; ``"*"`` for all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Checked arguments of `GraphRunner.start`."""

    graph: AnyGraph
    graph_name: str
    input: Any
    execution_id: str
    thread_id: str
    owner: str | None = None
    config: RunnableConfig | None = None
    context: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict[str, Any])
    if_running: IfRunning = "reject"
    on_disconnect: OnDisconnect = "continue"
    deadline: float | None = None
    """Seconds from the start to the end of the run, with its waits; None for no limit."""
    breakpoints: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Arguments ``interrupt_before`` and ``interrupt_after`` of the graph's call."""


class RunDriver:
    """Driver of one run, in a task of `GraphRunner`.

    Args:
        hub: The hub.
        queue: The queue of runs.
        request: The run's arguments.
        run: The run's handle.
    """

    def __init__(self, hub: StreamHub, queue: RunQueue, request: RunRequest, run: GraphRun) -> None:
        self._hub = hub
        self._queue = queue
        self._request = request
        self.run = run
        self.task: asyncio.Task[None] | None = None
        self.stopping: bool = False
        """True if the process stops, and the run may go on in another one."""
        self._reason: str | None = None
        self._started = time.perf_counter()
        self._stop_listening: Callable[[], None] = lambda: None
        self._pauses = _Pauses()
        self.steps: StepControl = StepControl(hub, request.graph, run)
        """Control of the run between the steps of its graph."""
        self._config = self._make_config()

    def _make_config(self) -> RunnableConfig:
        request, publisher = self._request, self._hub.publisher
        plan = configured_plan(publisher)
        if plan is None and not has_decorated_nodes(request.graph):
            plan = plan_of("all")
        options = CallOptions(execution_id=request.execution_id, owner=request.owner, plan=plan)
        config = graph_config(request.config, publisher, options, thread_id=request.thread_id)
        return merge_configs(config, {"callbacks": [self._pauses]})

    @property
    def graph(self) -> AnyGraph:
        """The graph."""
        return self._request.graph

    @property
    def thread_config(self) -> RunnableConfig:
        """Config of the newest checkpoint of the run's thread."""
        return {"configurable": _without_checkpoint(self._config).get("configurable", {})}

    def cancel(self, reason: str | None) -> None:
        """Cancel the task of the run, on its event loop."""
        self._reason = reason
        if self.task is not None:
            self.task.cancel()

    def start(self, context: contextvars.Context) -> asyncio.Task[None]:
        """Begin the run's task on the running event loop. From now on the run can be cancelled."""
        run = self.run
        self._stop_listening = self._hub.on_cancel(run.execution_id, self.cancel)
        self.task = asyncio.create_task(self._drive(), name=f"lg-streaming run {run.execution_id}", context=context)
        self.task.add_done_callback(self._done)
        return self.task

    def _done(self, task: asyncio.Task[None]) -> None:
        """End a run whose task was cancelled before its first step."""
        self._stop_listening()
        if task.cancelled():
            self._end_cancelled()
        else:
            task.exception()

    async def _drive(self) -> None:
        """Run the graph to its end, and publish the outcome."""
        run, limit = self.run, self._request.deadline
        timeout = asyncio.timeout(limit)
        try:
            async with timeout:
                value = await self._run_steps()
        except asyncio.CancelledError:
            self._end_cancelled()
        except BaseException as error:
            failure: BaseException = error
            if isinstance(error, TimeoutError) and timeout.expired():
                failure = DeadlineError(
                    f"the run took longer than its deadline of {limit:g} s", execution_id=run.execution_id
                )
            described = describe_failure(failure, debug=self._hub.settings.debug)
            self._end(RunOutcome("workflow_error", {"error": described}), failure)
            if not isinstance(error, Exception):
                raise
        else:
            duration = round(time.perf_counter() - self._started, 6)
            self._end(RunOutcome("workflow_complete", {"result": value, "duration_s": duration}), result=value)

    def _end_cancelled(self) -> None:
        if not self.stopping and not self.run.done:
            error = RunCancelledError(self._reason or "", execution_id=self.run.execution_id)
            self._end(RunOutcome("workflow_cancelled", {"reason": self._reason} if self._reason else {}), error)

    def _end(self, outcome: RunOutcome, error: BaseException | None = None, result: Any = None) -> None:
        run = self.run
        self._hub.runs.end_run(run.execution_id, outcome, run.run_id)
        if error is None:
            run.finish("completed", result)
        else:
            run.finish("cancelled" if isinstance(error, RunCancelledError) else "failed", error=error)

    # --- steps ----------------------------------------------------------------------------------------------

    async def _run_steps(self) -> Any:
        """Call the graph until it returns without an interrupt; return its value."""
        step = self._request.input
        while True:
            try:
                output = await self._take_turn(step)
            except GraphDrained:
                step = None
            else:
                prompts = await self._prompts_after(output)
                if not prompts:
                    self.steps.close()
                    return output.value
                step = await self._wait_for_people(prompts)
            self._config = _without_checkpoint(self._config)
            step = await self.steps.settle(self._config, step)

    async def _take_turn(self, step: Any) -> GraphOutput[Any]:
        run = self.run
        waiter, run.place = self._queue.enter(run.owner)
        if run.place is not None:
            run.status = "queued"
            self._publish_status("queued", place=run.place)
        async with self._queue.turn(waiter):
            run.status, run.place = "running", None
            self._publish_status("running")
            self._pauses.paused = False
            graph: Any = self._request.graph
            return await graph.ainvoke(
                step,
                self._config,
                context=self._request.context,
                control=self.steps.begin_call(),
                version="v2",
                **self._request.breakpoints,
            )

    def _publish_status(self, status: str, **data: Any) -> None:
        self._hub.publish(self.run.execution_id, "status", {"status": status, **data}, missing="drop")

    async def _prompts_after(self, output: GraphOutput[Any]) -> list[Prompt]:
        """Return the prompts that the graph waits for; none if it has ended."""
        if not output.interrupts and not self._pauses.paused:
            return []
        run, graph = self.run, self._request.graph
        if graph.checkpointer is None:
            raise StreamingConfigError(
                f"graph {run.graph!r} waits for a human and has no checkpointer, so it cannot be resumed: "
                "pass one to compile(), such as InMemorySaver()"
            )
        snapshot = await graph.aget_state(_without_checkpoint(self._config), subgraphs=True)
        return prompts_of_state(graph, snapshot, run.run_id)

    async def _wait_for_people(self, prompts: Sequence[Prompt]) -> Any:
        """Publish the open prompts, wait for the answers, and return the graph's next input."""
        run = self.run
        wait = WaitForAnswers(self._hub, run.execution_id)
        try:
            run.status = "interrupted"
            interrupted = RunOutcome("workflow_interrupted", {})
            self._hub.runs.leave_run(run.execution_id, run.run_id, interrupted, prompts=prompts)
            answers = await wait.wait()
        finally:
            wait.close()
        self._hub.runs.join_run(run.execution_id)
        if not prompts[0].is_breakpoint:
            return Command(resume=answers)
        if not answers[prompts[0].prompt_id]:
            self._reason = f"declined: {prompts[0].data['prompt']}"
            raise asyncio.CancelledError
        return None


class _Pauses(GraphCallbackHandler):
    """Handler that notes a stop at an ``interrupt()`` or a breakpoint of the run's own graph."""

    def __init__(self) -> None:
        super().__init__()
        self.paused: bool = False

    def on_interrupt(self, event: GraphInterruptEvent) -> None:
        """Note a stop of the root graph."""
        if not event.checkpoint_ns:
            self.paused = True


def _without_checkpoint(config: RunnableConfig) -> RunnableConfig:
    """Return a config for the newest checkpoint of its thread."""
    configurable: dict[str, Any] = config.get("configurable") or {}
    kept = {name: value for name, value in configurable.items() if name != "checkpoint_id"}
    return {**config, "configurable": kept}
