"""Start runs of graphs that live apart from any connection."""

from __future__ import annotations

import asyncio
import contextvars
import time
from typing import TYPE_CHECKING, Any, Final, cast, get_args

from lg_streaming.capture import configured_execution_id
from lg_streaming.checks import seconds
from lg_streaming.errors import BadRequestError, ExecutionExistsError, ServerRestartError, TransitionError
from lg_streaming.events import check_execution_id, run_metadata
from lg_streaming.hub.open_options import owner_text
from lg_streaming.hub.statistics import RunCounts
from lg_streaming.publisher import new_id
from lg_streaming.runs.branches import check_fork, copy_branch, saver_of
from lg_streaming.runs.call_config import configured_thread, detached_context, parent_place, root_config
from lg_streaming.runs.commands import GraphThread, RunCommands
from lg_streaming.runs.disconnect import DisconnectWatch
from lg_streaming.runs.driver import RunDriver, driver_var
from lg_streaming.runs.history import RunHistory
from lg_streaming.runs.opening import wait_for_end
from lg_streaming.runs.queue import RunQueue
from lg_streaming.runs.records import OnAbandoned
from lg_streaming.runs.recovery import RunRecovery
from lg_streaming.runs.request import IfRunning, OnDisconnect, RunRequest
from lg_streaming.runs.restored import RestoredRun
from lg_streaming.runs.rollback import checkpoint_before
from lg_streaming.runs.run import GraphRun
from lg_streaming.runs.shutdown import RunShutdown
from lg_streaming.runs.start_keys import StartKeys
from lg_streaming.runs.steering import Injection, update_state
from lg_streaming.runs.tickets import new_ticket
from lg_streaming.titles import title_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.capture import RunnableConfig
    from lg_streaming.hub import StreamHub
    from lg_streaming.hub.options import Owner
    from lg_streaming.runs.registry import AnyGraph, GraphRegistry
    from lg_streaming.runs.start_keys import StartRecord
    from lg_streaming.runs.takeover import Takeover

__all__ = ["GraphRunner"]

_DEADLINE: Final = seconds()
_RETRY_AFTER: Final = 1.0
_LAST_WAIT: Final = 1.0
"""Seconds that a task may take which does not end when it is cancelled."""
_CALL_OPTIONS: Final = frozenset({"durability", "interrupt_after", "interrupt_before", "output_keys"})


class GraphRunner(RunCommands):
    """Runner of graphs: ``streaming.runs``. It keeps the task of each run, cancels it and waits for it.

    A run goes on without readers and without connections. Its nodes are captured: all of them, or only the decorated
    ones if the graph has some. An execution has one open run at a time, over all processes that share the log. A run
    that waits for a human has no turn in the queue.

    Args:
        hub: The hub.
        graphs: The graphs that are started by name.
    """

    def __init__(self, hub: StreamHub, graphs: GraphRegistry) -> None:
        super().__init__(hub, graphs)
        settings = hub.settings.runs
        self.queue: RunQueue = RunQueue(settings.max_concurrent, settings.max_queued)
        self._history = RunHistory(hub.log.fleet)
        self._keys = StartKeys(hub, self._restore)
        self._disconnects = DisconnectWatch(hub)
        self.recovery: RunRecovery = RunRecovery(
            hub, graphs, launch=self._take_up, find=self._find, drivers=self._order.all
        )
        self.publishes_states: bool = False
        """True if the state of each graph is published after each step, also if ``runs.publish_states`` is false."""
        hub.metrics.run_counts = self._count
        fleet = hub.log.fleet
        if fleet is not None:
            fleet.on_message("cancel_waiting_runs", self._on_cancel_waiting)
            fleet.on_message("cancel_waiting_run", self._cancel_held)

    def _start_empty(self) -> None:
        super()._start_empty()
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    def _count(self) -> RunCounts:
        drivers = self._order.all()
        return RunCounts(
            queued=self.queue.queued + self.queue.held,
            running=self.queue.running,
            waiting=sum(each.run.status == "interrupted" for each in drivers),
        )

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
        idempotency_key: str | None = None,
        call_options: Mapping[str, Any] | None = None,
        on_abandoned: OnAbandoned | None = None,
        forked_from: Mapping[str, str] | None = None,
    ) -> GraphRun:
        """Start a run of a graph in the background, and return its handle.

        The start returns when the log has the run's ``workflow_start``. With ``if_running="enqueue"`` it does not wait
        for earlier runs of the execution: the handle then has the status ``queued``, and the run opens after them.

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
            if_running: Handling of an execution that has an open run, in any process, also one that waits for a human.
                ``"reject"``: raise `ExecutionExistsError`. ``"enqueue"``: begin after the earlier runs, in the order of
                the starts. ``"cancel"``: cancel the earlier runs, and begin after them. ``"rollback"``: the same, and
                begin with the thread's state before them.
            on_disconnect: ``"cancel"``: cancel the run when all its readers have left for ``runs.disconnect_grace``
                seconds. A run that had no reader yet goes on.
            deadline: Seconds from the start after which the run fails with `DeadlineError`, with its waits; None for no
                limit.
            idempotency_key: Name of this start, for its owner. A repeated start with the same arguments returns the run
                of the first one, in all processes, for ``retention.record_ttl`` seconds.
            call_options: Options of LangGraph's ``ainvoke``: ``durability``, ``interrupt_before``, ``interrupt_after``,
                ``output_keys``.
            on_abandoned: Handling of a process that dies or stops while the run works. ``"end"``: the run ends with
                ``workflow_abandoned``. ``"resume"``: another process goes on from the last checkpoint. That takes a
                graph in ``streaming.graphs``, a persistent checkpointer, and a log of several processes, or `recover`.
                None: ``runs.on_abandoned``. A run that waits for a human goes on in either case.
            forked_from: ``execution_id`` and ``checkpoint_id`` from which the run goes on, for its ``workflow_start``;
                see `fork`.

        Raises:
            GraphNotFoundError: If no graph has this name.
            BadRequestError: If an argument cannot be used, or ``"rollback"`` is used without a checkpointer.
            ExecutionExistsError: If the execution has an open run, with ``if_running="reject"``.
            IdempotencyError: If an earlier start with the key had other arguments.
            ForbiddenError: If the execution has another owner.
            ExecutionLimitError: If ``limits.max_executions`` executions are running, or ``runs.max_queued`` runs wait.
            NoAnswerError: If the process of a run to cancel, or of an earlier start, does not answer in time.
            ServerRestartError: If the process stops.
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
            call_options=call_options,
            on_abandoned=on_abandoned or self._hub.settings.runs.on_abandoned,
            forked_from=forked_from,
        )
        self.recovery.start()
        if idempotency_key is None:
            return await self._start(request)
        return await self._keys.start(idempotency_key, request, lambda: self._start(request))

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
        new_execution_id: str | None = None,
        **options: Any,
    ) -> GraphRun:
        """Start a new execution that goes on from a checkpoint of another one, with a changed state if you like.

        The original does not change, and may be at work. The new execution has a separate thread, with a copy of the
        state and of up to 100 states before it. Its ``workflow_start`` has ``forked_from``, and as
        its title the last question in the state. `history` returns the ids of checkpoints.

        Args:
            execution_id: The original.
            checkpoint_id: The checkpoint to begin at.
            values: Update of its state, as a node returns it; None for none.
            as_node: Node that seems to have made the update.
            graph: The graph; when not given, that of the original's last run, if this process knows it.
            new_execution_id: The new execution, which has no thread yet; when not given, a new UUID.
            options: Options of `GraphRunner.start`, but no idempotency key. The default of ``owner`` is the original's.
                That of ``context``, and of the ``configurable`` values, are those of its last run, if they are known.

        Raises:
            BadRequestError: If the thread has no such checkpoint, or the graph does not take the update.
            GraphNotFoundError: If ``graph`` is needed, or is not registered.
            TransitionError: If the graph has no checkpointer, or the new execution's thread exists.
            StreamingError: If `GraphRunner.start` raises it.
        """
        thread = await self._thread(execution_id, graph)
        check_fork(thread.graph, values, as_node, options)
        fork_id = check_execution_id(new_id() if new_execution_id is None else new_execution_id)
        if await self._hub.describe(fork_id) is not None:
            raise TransitionError(f"the execution {fork_id!r:.80} exists: choose another id for the fork")
        if "owner" not in options:
            state = await self._hub.describe(execution_id)
            options["owner"] = state.owner if state is not None else None
        source = await copy_branch(thread.graph, thread.thread_id, checkpoint_id, fork_id)
        origin = self._origin_of(execution_id, source.metadata)
        begin = GraphThread(thread.graph, fork_id).config_at(checkpoint_id)
        title = title_of(values) or title_of(source.checkpoint["channel_values"])
        if title is not None:  # a fork has no input with a question
            options["metadata"] = {"title": title, **(options.get("metadata") or {})}
        try:
            if values is not None or as_node is not None:
                begin = await update_state(thread.graph, begin, Injection(values, as_node))
            return await self.start(
                thread.graph,
                None,
                execution_id=fork_id,
                thread_id=fork_id,
                config=origin.merge(options.pop("config", None), begin),
                context=options.pop("context", None) or origin.context,
                forked_from={"execution_id": execution_id, "checkpoint_id": checkpoint_id},
                **options,
            )
        except BaseException:
            await saver_of(thread.graph).adelete_thread(fork_id)
            raise

    def get(self, execution_id: str) -> GraphRun | None:
        """Return the open run of an execution in this process, or the one that opens next; None without one."""
        driver = self._order.first(execution_id)
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
        call_options: Mapping[str, Any] | None,
        on_abandoned: OnAbandoned,
        forked_from: Mapping[str, str] | None,
    ) -> RunRequest:
        name, found, is_registered = self._graphs.find(graph)
        if on_abandoned not in get_args(OnAbandoned):
            raise BadRequestError(
                f"on_abandoned is one of {', '.join(get_args(OnAbandoned))}, not {on_abandoned!r:.80}"
            )
        if if_running not in get_args(IfRunning):
            raise BadRequestError(f"if_running is one of {', '.join(get_args(IfRunning))}, not {if_running!r:.80}")
        if on_disconnect not in get_args(OnDisconnect):
            raise BadRequestError(
                f"on_disconnect is one of {', '.join(get_args(OnDisconnect))}, not {on_disconnect!r:.80}"
            )
        if deadline is not None:
            _DEADLINE.check("deadline", deadline, BadRequestError)
        if unknown := set(call_options or ()) - _CALL_OPTIONS:
            raise BadRequestError(
                f"call_options takes {', '.join(sorted(_CALL_OPTIONS))}, not {', '.join(map(repr, unknown))}"
            )
        config = root_config(config)
        thread_id = thread_id or configured_thread(config) or configured_thread(found.config)
        named = execution_id or configured_execution_id(config) or thread_id
        execution_id = check_execution_id(new_id() if named is None else named)
        request = RunRequest(
            graph=found,
            graph_name=name,
            input=input,
            execution_id=execution_id,
            is_named=named is not None,
            thread_id=thread_id or execution_id,
            owner=owner_text(owner),
            config=config,
            context=context,
            metadata=run_metadata(metadata),
            parent=parent_place(),
            if_running=if_running,
            on_disconnect=on_disconnect,
            deadline=deadline,
            call_options=call_options or {},
            is_registered=is_registered,
            on_abandoned=on_abandoned,
            forked_from=forked_from,
        )
        if if_running == "rollback" and request.checkpointer is None:
            raise BadRequestError(
                f"graph {name!r} has no checkpointer, so that no state can be taken back: use if_running='cancel', or "
                "pass a checkpointer to compile()"
            )
        return request

    async def _start(self, request: RunRequest) -> GraphRun:
        self._hub.registry.ensure_open()
        self._ensure_running()
        hub = self._hub
        context = detached_context()  # configs are merged with the one around the caller
        driver = self._make_driver(request, hub.runs.new_id(), context)
        run = driver.run
        is_first = self._order.enter(driver, only_if_first=request.if_running == "reject")
        if not is_first and request.if_running == "reject":
            raise ExecutionExistsError(execution_id=request.execution_id)
        try:
            await self._begin(driver, is_first=is_first)
            self._ensure_running()
        except BaseException as error:
            driver.give_up(error)
            raise
        self._run_task(driver, context)
        return run

    def _make_driver(self, request: RunRequest, run_id: str, context: contextvars.Context) -> RunDriver:
        run = GraphRun(
            self._hub,
            request.execution_id,
            run_id,
            thread_id=request.thread_id,
            graph=request.graph_name,
            owner=request.owner,
        )
        driver = context.run(
            RunDriver,
            self._hub,
            self.queue,
            request,
            run,
            on_end=self._leave,
            history=self._history,
            recovery=self.recovery,
        )
        context.run(driver_var.set, driver)
        driver.publishes_states |= self.publishes_states
        return driver

    def _ensure_running(self) -> None:
        if self._stopping:
            raise ServerRestartError("this process stops: start the run again later", retry_after=_RETRY_AFTER)

    async def _begin(self, driver: RunDriver, *, is_first: bool) -> None:
        """Open a run, or let it wait for the earlier ones of its execution."""
        mode = driver.request.if_running
        if mode in {"cancel", "rollback"}:
            await self._replace(driver)
            return
        if mode == "enqueue":
            driver.ticket = await new_ticket(self._hub, driver.run.execution_id, driver.run.run_id)
        if is_first:
            driver.enter_queue()
            if await driver.is_next() and await driver.open():
                driver.give_ticket_back()
                return
            if mode == "reject":
                raise ExecutionExistsError(execution_id=driver.run.execution_id)
            driver.leave_queue()
            driver.begin_first()
        driver.hold()

    async def _replace(self, driver: RunDriver) -> None:
        """Cancel the earlier runs of the execution, in all processes, and open a run after them."""
        hub, request = self._hub, driver.request
        execution_id, cancelled = request.execution_id, set[str]()
        driver.enter_queue()
        self._publish_cancel(execution_id)
        while True:
            earlier = self._order.before(driver)
            if driver_var.get() in earlier:
                raise TransitionError("a node cannot replace its own run: enqueue one", execution_id=execution_id)
            cancelled |= {each.run.run_id for each in earlier}
            for each in reversed(earlier):  # those that wait, before the end of the open one lets them begin
                await each.cancel_run(_REPLACED)
            for each in earlier:  # shielded: a start that is cancelled does not end the others' wait
                await asyncio.shield(asyncio.wrap_future(each.ended))
            if request.if_running == "rollback":
                await self._roll_back(driver, cancelled)
            if await driver.open():
                return
            state = await hub.describe(execution_id)
            if state is not None and state.start_record is not None:
                cancelled.add(state.start_record.scope.run_id or "")
            await hub.cancel(execution_id, _REPLACED)
            await wait_for_end(hub, execution_id)

    async def _roll_back(self, driver: RunDriver, cancelled: set[str]) -> None:
        """Make a run begin with the state of its thread before the cancelled runs."""
        request, checkpointer = driver.request, driver.request.checkpointer
        if checkpointer is None or not cancelled:
            return
        before = await checkpoint_before(checkpointer, request.thread_id, cancelled)
        if before is None:
            await checkpointer.adelete_thread(request.thread_id)
        else:
            driver.begin_at(before)
        driver.run.rolled_back = frozenset(cancelled)

    def cancel_all_waiting(self, execution_id: str) -> None:
        """Cancel the runs that wait for the end of the open run of an execution, in all processes."""
        self._on_cancel_waiting({"execution_id": execution_id})
        self._publish_cancel(execution_id)

    def _publish_cancel(self, execution_id: str) -> None:
        if (fleet := self._hub.log.fleet) is not None:
            fleet.publish("cancel_waiting_runs", {"execution_id": execution_id})

    def _on_cancel_waiting(self, payload: Any) -> None:
        for driver in self._order.all():
            if driver.run.execution_id == payload["execution_id"] and driver.is_held:
                driver.request_cancel(_REPLACED)

    def cancel_waiting(self, run_id: str) -> None:
        """Cancel a run that waits for the end of an earlier one of its execution, in any process; others go on."""
        self._cancel_held(run_id)
        if (fleet := self._hub.log.fleet) is not None:
            fleet.publish("cancel_waiting_run", run_id)

    def _cancel_held(self, run_id: Any) -> None:
        for driver in self._order.all():
            if driver.run.run_id == run_id and driver.is_held:
                driver.request_cancel("cancelled")

    def _restore(self, record: StartRecord) -> GraphRun:
        for driver in self._order.all():
            if driver.run.run_id == record.run_id:
                return driver.run
        return RestoredRun(self._hub, record)

    # --- runs of other processes ----------------------------------------------------------------------------

    async def recover(self, execution_id: str) -> GraphRun | None:
        """Take up the run of an execution whose process is gone; return its handle, or None if there is nothing to do.

        With a log of several processes this happens by itself. With a memory log it happens when a reader or an answer
        comes for a run that waits for a human. A run that was at work goes on only with this method, and with
        ``on_abandoned="resume"``: check that no other process still works on the thread.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        self.recovery.start()
        await self.recovery.recover(execution_id, working=True)
        return self.get(execution_id)

    def _take_up(self, takeover: Takeover) -> RunDriver:
        record = takeover.record
        request = RunRequest(
            graph=takeover.graph,
            graph_name=record.graph,
            input=None,
            execution_id=record.execution_id,
            thread_id=record.thread_id,
            owner=record.owner,
            config=cast("RunnableConfig", record.config),
            context=record.context,
            metadata=record.metadata,
            on_disconnect=cast("OnDisconnect", record.on_disconnect),
            deadline=None if record.deadline is None else max(0.0, record.deadline - time.time()),
            call_options=record.call_options,
            is_registered=True,
            on_abandoned=record.on_abandoned,
            takeover=takeover,
        )
        context = detached_context()
        driver = self._make_driver(request, takeover.run_id, context)
        self._order.enter_open(driver)
        driver.take_up()
        self._run_task(driver, context)
        return driver

    def _find(self, execution_id: str) -> RunDriver | None:
        driver = self._order.first(execution_id)
        return driver if driver is not None and not driver.is_held else None

    # --- tasks ----------------------------------------------------------------------------------------------

    def _run_task(self, driver: RunDriver, context: contextvars.Context) -> None:
        if driver.request.on_disconnect == "cancel":
            self._disconnects.add(driver)
        driver.task = task = asyncio.create_task(
            driver.drive(), name=f"lg-streaming run {driver.run.execution_id}", context=context
        )
        self._tasks.add(task)
        task.add_done_callback(lambda task: self._ended(driver, task))

    def _leave(self, driver: RunDriver) -> None:
        self._disconnects.remove(driver)
        if driver.is_open:
            self._remember(driver)
        self._order.leave(driver)

    def _ended(self, driver: RunDriver, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        driver.end_unstarted()
        if not task.cancelled():
            task.exception()

    async def aclose(self, reason: str = "shutdown", *, grace: float = 0.0) -> None:
        """Stop all runs; return after their ends. Starts are refused until then.

        Runs that wait for a human stay open in the log if their checkpointer outlives the process. So do those that
        another process resumes, after their present step. Runs in a queue are cancelled at once. Others have ``grace``
        seconds to end. Those with a checkpointer have half as long to finish their present step. The rest are
        cancelled, and have ``limits.cancel_grace`` seconds to end.

        Args:
            reason: Reason of the cancelled runs.
            grace: Seconds; 0 cancels all runs at once.
        """
        self._stopping = True
        try:
            cancel_grace = self._hub.settings.limits.cancel_grace
            await RunShutdown(self._order.all, reason, grace=grace, cancel_grace=cancel_grace).stop()
            here = asyncio.get_running_loop()
            tasks = [task for task in self._tasks if task.get_loop() is here]
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_LAST_WAIT)
            await self.recovery.aclose()
        finally:
            self._stopping = False


_REPLACED: Final = "replaced by another run"
