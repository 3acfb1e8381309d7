"""Start runs of graphs that live apart from any connection."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any, get_args

from langchain_core.runnables.config import var_child_runnable_config

from lg_streaming.capture import configured_execution_id
from lg_streaming.checks import seconds
from lg_streaming.context import block_var, current_block, current_frame, frame_var
from lg_streaming.errors import BadRequestError, ExecutionExistsError
from lg_streaming.events import Position, check_execution_id, run_metadata
from lg_streaming.hub.open_options import owner_text
from lg_streaming.publisher import new_id
from lg_streaming.runs.commands import RunCommands
from lg_streaming.runs.driver import Breakpoints, IfRunning, OnDisconnect, RunDriver, RunRequest
from lg_streaming.runs.queue import RunQueue
from lg_streaming.runs.run import GraphRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.hub import StreamHub
    from lg_streaming.hub.options import Owner
    from lg_streaming.runs.registry import AnyGraph, GraphRegistry

__all__ = ["GraphRunner"]

_OPEN = frozenset({"running", "interrupted"})
_DEADLINE = seconds()


class GraphRunner(RunCommands):
    """Runner of graphs: ``streaming.runs``. It keeps the task of each run, cancels it and waits for it.

    A run goes on without readers and without connections. Its nodes are captured: all of them, or only the decorated
    ones if the graph has some. A run that waits for a human has no turn in the queue.

    Args:
        hub: The hub.
        graphs: The graphs that are started by name.
    """

    def __init__(self, hub: StreamHub, graphs: GraphRegistry) -> None:
        super().__init__(hub, graphs)
        settings = hub.settings.runs
        self.queue: RunQueue = RunQueue(settings.max_concurrent, settings.max_queued)

    def _start_empty(self) -> None:
        super()._start_empty()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- start ----------------------------------------------------------------------------------------------

    async def start(
        self,
        graph: AnyGraph | str,
        input: Any,
        *,
        execution_id: str | None = None,
        thread_id: str | None = None,
        owner: Owner | None = None,
        config: RunnableConfig | None = None,
        context: Any = None,
        metadata: Mapping[str, Any] | None = None,
        if_running: IfRunning = "reject",
        on_disconnect: OnDisconnect = "continue",
        deadline: float | None = None,
        interrupt_before: Breakpoints | None = None,
        interrupt_after: Breakpoints | None = None,
    ) -> GraphRun:
        """Start a run of a graph in the background, and return its handle at once.

        Args:
            graph: A compiled graph, or the name of one in ``streaming.graphs``.
            input: The graph's input.
            execution_id: The execution; when not given, the config's ``execution_id`` or ``thread_id``, else
                ``thread_id``, else a new UUID.
            thread_id: LangGraph's thread; where neither this nor ``config`` names one, the execution's id.
            owner: The reader that may read, answer and cancel it; compared with a token's ``sub``.
            config: A config for the graph: its tags, callbacks, limits and ``configurable`` values are kept.
            context: The graph's static context (``context_schema``).
            metadata: Kept with the run, and sent with its ``workflow_start``.
            if_running: Handling of an execution that has an open run. ``"reject"``: raise `ExecutionExistsError`.
                ``"enqueue"``: wait until the other has ended. ``"cancel"``: cancel the other. ``"rollback"``: cancel
                the other, and take back its changes to the thread's state.
            on_disconnect: ``"cancel"``: cancel the run when all its readers have left for ``runs.disconnect_grace``
                seconds. A run that had no reader yet goes on.
            deadline: Seconds after which the run fails with `DeadlineError`, with its waits; None for no limit.
            interrupt_before: Nodes before which a human has to confirm, or ``"*"`` for all; None: those of the graph.
            interrupt_after: Nodes after which a human has to confirm, or ``"*"`` for all; None: those of the graph.

        Raises:
            GraphNotFoundError: If no graph has this name.
            BadRequestError: If an argument cannot be used.
            ExecutionExistsError: If the execution has an open run, with ``if_running="reject"``.
            ForbiddenError: If the execution has another owner.
            ExecutionLimitError: If ``limits.max_executions`` executions are running, or ``runs.max_queued`` runs wait.
            HubClosedError: If the hub was closed.
            LogUnavailableError: If the log cannot be reached.
        """
        request = self._check(
            graph,
            input,
            execution_id=execution_id,
            thread_id=thread_id,
            owner=owner,
            config=config,
            context=context,
            metadata=metadata,
            if_running=if_running,
            on_disconnect=on_disconnect,
            deadline=deadline,
            breakpoints={"interrupt_before": interrupt_before, "interrupt_after": interrupt_after},
        )
        self.queue.ensure_room()
        state = await self._hub.describe(request.execution_id)
        if state is not None and state.state in _OPEN:
            raise ExecutionExistsError(execution_id=request.execution_id)
        after = Position(state.epoch, state.head) if state is not None else None
        return self._begin(request, after)

    async def run(self, graph: AnyGraph | str, input: Any, **options: Any) -> Any:
        """Start a run, wait for its end, and return the graph's result. Takes the options of `start`.

        A cancelled wait cancels the run.

        Raises:
            RunCancelledError: If the run was cancelled.
            Exception: If the graph or `start` raised it.
        """
        run = await self.start(graph, input, **options)
        try:
            return await run
        except asyncio.CancelledError:
            await run.cancel("the caller was cancelled")
            raise

    async def fork(
        self,
        execution_id: str,
        checkpoint_id: str,
        *,
        values: Any = None,
        as_node: str | None = None,
        graph: AnyGraph | str | None = None,
        **options: Any,
    ) -> GraphRun:
        """Start a new run of the execution's graph from an earlier checkpoint, with a changed state if you like.

        The thread keeps both branches; the new one is its newest state. `history` returns the ids of checkpoints.

        Args:
            execution_id: The execution. It must have no open run.
            checkpoint_id: The checkpoint to begin at.
            values: Update of its state, as a node returns it; None for none.
            as_node: Node that seems to have made the update.
            graph: The graph; when not given, that of the execution's run in this process.
            options: Options of `GraphRunner.start`.

        Raises:
            StreamingError: If `state`, `edit` or `GraphRunner.start` raises it.
        """
        thread = self._thread(execution_id, graph)
        if values is not None:
            checkpoint_id = await self.edit(
                execution_id, values, as_node=as_node, graph=thread.graph, checkpoint_id=checkpoint_id
            )
        given: RunnableConfig = options.pop("config", None) or {}
        configurable = {**given.get("configurable", {}), **thread.configurable_at(checkpoint_id)}
        config: RunnableConfig = {**given, "configurable": configurable}
        return await self.start(thread.graph, None, execution_id=execution_id, config=config, **options)

    def get(self, execution_id: str) -> GraphRun | None:
        """Return the open run of an execution in this process, or None."""
        driver = self._drivers.get(execution_id)
        return driver.run if driver is not None else None

    def _check(
        self,
        graph: AnyGraph | str,
        input: Any,
        *,
        execution_id: str | None,
        thread_id: str | None,
        owner: Owner | None,
        config: RunnableConfig | None,
        context: Any,
        metadata: Mapping[str, Any] | None,
        if_running: IfRunning,
        on_disconnect: OnDisconnect,
        deadline: float | None,
        breakpoints: Mapping[str, Breakpoints | None],
    ) -> RunRequest:
        name, found, _ = self._graphs.find(graph)
        if if_running not in get_args(IfRunning):
            raise BadRequestError(f"if_running is one of {', '.join(get_args(IfRunning))}, not {if_running!r:.80}")
        if on_disconnect not in get_args(OnDisconnect):
            raise BadRequestError(
                f"on_disconnect is one of {', '.join(get_args(OnDisconnect))}, not {on_disconnect!r:.80}"
            )
        if deadline is not None:
            _DEADLINE.check("deadline", deadline, BadRequestError)
        named = execution_id or configured_execution_id(config) or thread_id or new_id()
        check_execution_id(named)
        configurable = (config or {}).get("configurable") or {}
        return RunRequest(
            graph=found,
            graph_name=name,
            input=input,
            execution_id=named,
            thread_id=str(thread_id or configurable.get("thread_id") or named),
            owner=owner_text(owner),
            config=config,
            context=context,
            metadata=run_metadata(metadata),
            if_running=if_running,
            on_disconnect=on_disconnect,
            deadline=deadline,
            breakpoints={
                name: nodes if nodes == "*" else list(nodes) for name, nodes in breakpoints.items() if nodes is not None
            },
        )

    def _begin(self, request: RunRequest, after: Position | None) -> GraphRun:
        hub, execution_id = self._hub, request.execution_id
        run_id = hub.runs.begin_run(
            execution_id,
            name=request.graph_name,
            metadata=request.metadata,
            owner=request.owner,
            parent=_parent(),
        )
        if run_id is None:
            raise ExecutionExistsError(execution_id=execution_id)
        run = GraphRun(
            hub,
            execution_id,
            run_id,
            thread_id=request.thread_id,
            graph=request.graph_name,
            owner=request.owner,
            after=after,
            cancel=lambda reason: hub.cancel(execution_id, reason),
        )
        driver = RunDriver(hub, self.queue, request, run)
        self._drivers[execution_id] = driver
        task = driver.start(_detached_context())
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._forget(driver, task))
        return run

    def _forget(self, driver: RunDriver, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._drivers.get(driver.run.execution_id) is driver:
            del self._drivers[driver.run.execution_id]
        self._remember(driver)

    # --- the runner itself ----------------------------------------------------------------------------------

    async def aclose(self, reason: str = "shutdown") -> None:
        """Cancel all runs of this event loop, and wait for their ends."""
        here = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is here]
        for driver in list(self._drivers.values()):
            if driver.task in tasks:
                driver.cancel(reason)
        await asyncio.gather(*tasks, return_exceptions=True)


def _parent() -> dict[str, Any] | None:
    """Return the node or block in which a run is started, for its ``workflow_start``."""
    frame, block = current_frame(), current_block()
    place = frame.context if frame is not None else block.context if block is not None else None
    if place is None:
        return None
    scope = frame.scope if frame is not None else None
    found = {
        "execution_id": place.execution_id,
        "run_id": place.run_id,
        "node_id": scope.node_id if scope is not None else None,
        "tool_call_id": scope.tool_call_id if scope is not None else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _detached_context() -> contextvars.Context:
    """Return a copy of the context without the graph, the node and the block around the caller."""
    context = contextvars.copy_context()
    context.run(var_child_runnable_config.set, None)
    context.run(frame_var.set, None)
    context.run(block_var.set, None)
    return context
