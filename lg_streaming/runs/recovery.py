"""Take up runs whose process is gone: those that wait for a human, and those that go on from the last checkpoint."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from lg_streaming.errors import LogUnavailableError, RunRefusedError, StreamingError
from lg_streaming.eventloop import running_loop
from lg_streaming.fork import restart_after_fork
from lg_streaming.log.fleet import RUN_RELEASED
from lg_streaming.runs.attempts import attempts_of
from lg_streaming.runs.records import RecordStore, RunRecord, json_value
from lg_streaming.runs.takeover import Takeover, at_breakpoint, persistent_checkpointer
from lg_streaming.titles import title_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Coroutine, Iterable, Mapping

    from langgraph.types import StateSnapshot

    from lg_streaming.hub import StreamHub
    from lg_streaming.log.base import LogState
    from lg_streaming.runs.registry import AnyGraph, GraphRegistry

__all__ = ["RunRecovery", "TakenRun"]

T = TypeVar("T")

logger: logging.Logger = logging.getLogger(__name__)

_OPEN: Final = frozenset({"running", "interrupted"})
_SCAN_INTERVAL: Final = 30.0
"""Seconds between two looks for runs without a process, of which no message has arrived."""


class TakenRun(Protocol):
    """Driver of a run, as far as the recovery uses it."""

    record: RunRecord | None
    task: asyncio.Task[None] | None

    @property
    def is_left(self) -> bool:
        """True if the run goes on elsewhere."""
        ...

    async def settled(self) -> bool:
        """Wait until the prompts of a run that was taken up are open; return whether it had to wait."""
        ...


class RunRecovery:
    """Recovery of runs. Use it on the event loop of `start`, except for `recover`.

    With a log of several processes, each open run of a registered graph has a record in the fleet's values. Another
    process takes the run over in the log, which refuses the former holder from then on, and goes on under the same id.
    Without the execution in the log, as after the end of a memory log, the thread's checkpoints have the record; a new
    run begins then.

    Args:
        hub: The hub.
        graphs: The graphs that are started by name.
        launch: Function that drives a run that was taken up; returns its driver.
        find: Function that returns the driver of the open run of an execution in this process, or None.
        drivers: Function that returns the drivers of all open runs of this process.
    """

    def __init__(
        self,
        hub: StreamHub,
        graphs: GraphRegistry,
        *,
        launch: Callable[[Takeover], TakenRun],
        find: Callable[[str], TakenRun | None],
        drivers: Callable[[], Iterable[TakenRun]],
    ) -> None:
        self._hub = hub
        self._graphs = graphs
        self._launch = launch
        self._find = find
        self._drivers = drivers
        self._fleet = hub.log.fleet
        ttl = hub.settings.retention.record_ttl
        self.records: RecordStore | None = RecordStore(self._fleet, ttl) if self._fleet is not None else None
        self._start_empty()
        restart_after_fork(self)

    def _start_empty(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stops: list[Callable[[], None]] = []
        self._scans = False
        self._attempts: dict[str, asyncio.Task[bool]] = {}
        self._jobs: set[asyncio.Task[Any]] = set()

    def after_fork(self) -> None:
        """Drop the runs of the parent process, which go on there."""
        if self._fleet is not None:
            self.records = RecordStore(self._fleet, self._hub.settings.retention.record_ttl)
        self._start_empty()

    # --- the process --------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Take up runs on the running event loop from now on. Repeated calls do nothing."""
        if self._loop is not None and self._loop.is_running():
            return
        self.stop()
        self._loop = asyncio.get_running_loop()
        self._hub.control.recover = self.recover
        self._hub.control.look_up = self.look_up
        if self._fleet is not None:
            self._stops = [
                self._fleet.on_message(RUN_RELEASED, lambda payload: self.begin(payload["execution_id"])),
                self._fleet.on_lease_lost(lambda _: self._on_loop(self._lose_lease)),
            ]
            self._graphs.on_register = self._start_scan
            self._start_scan()

    def _start_scan(self) -> None:
        """Look for runs without a process, from the first graph on: a process that has none need not connect."""
        if self._fleet is not None and self._loop is not None and self._graphs and not self._scans:
            self._scans = True
            scanning = _Scan(self._scan)
            self._stops.append(scanning.stop)
            self._fleet.spawn(scanning.run)

    def stop(self) -> None:
        """Take up no more runs."""
        if self._loop is None:
            return
        self._loop = None
        self._hub.control.recover = self._hub.control.look_up = None
        stops, self._stops, self._scans = self._stops, [], False
        for stop in stops:
            stop()

    async def aclose(self) -> None:
        """Take up no more runs, and wait until the records are stored."""
        self.stop()
        here = asyncio.get_running_loop()
        jobs = [job for job in (*self._attempts.values(), *self._jobs) if job.get_loop() is here]
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        if self.records is not None:
            await self.records.aclose()

    def _on_loop(self, call: Callable[..., object], *arguments: object) -> None:
        """Call a function on the event loop of `start`, at once if that is running here."""
        loop = self._loop
        if loop is running_loop() and loop is not None:
            call(*arguments)
        elif loop is not None and loop.is_running():
            try:
                loop.call_soon_threadsafe(call, *arguments)
            except RuntimeError:
                logger.debug("the event loop of the runs is closed")

    async def _at_home(self, job: Coroutine[Any, Any, T], otherwise: T) -> T:
        """Await a coroutine on the event loop of `start`; return ``otherwise`` if that does not run."""
        loop = self._loop
        if loop is asyncio.get_running_loop():
            return await job
        if loop is None or not loop.is_running():
            job.close()
            return otherwise
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(job, loop))

    def begin(self, execution_id: str) -> None:
        """Take up a run in the background, from any thread."""
        self._on_loop(lambda: self._spawn(self._try(execution_id)))

    def _spawn(self, job: Any) -> None:
        task = asyncio.get_running_loop().create_task(job)
        self._jobs.add(task)
        task.add_done_callback(self._jobs.discard)

    async def _try(self, execution_id: str) -> None:
        """Take up a run, in an attempt that begins now: one in progress may have read the state before the release."""
        try:
            present = self._attempts.get(execution_id)
            if present is not None:
                await asyncio.wait([present])
            await self.recover(execution_id)
        except StreamingError as error:
            logger.warning("the run of execution %r is not taken up yet: %s", execution_id, error)
        except Exception:
            logger.exception("the run of execution %r cannot be taken up", execution_id)

    async def _scan(self) -> None:
        """Take up runs whose process is not alive, on the fleet's event loop."""
        if self.records is None or self._fleet is None:
            return
        live = {each.process_id for each in await self._fleet.processes()}
        for record in await self.records.all():
            if record.process_id not in live:
                self.begin(record.execution_id)

    def _lose_lease(self) -> None:
        """Stop the runs that others may take up, because this process was declared dead; take up what is left."""
        error = RunRefusedError("this process was paused for longer than its lease: another one may go on with the run")
        for driver in list(self._drivers()):
            record = driver.record
            if record is not None:
                refused = RunRefusedError(error.message, execution_id=record.execution_id)
                self._hub.control.refuse(record.execution_id, record.run_id, refused)
                self._spawn(self._take_back(driver, record.execution_id))

    async def _take_back(self, driver: TakenRun, execution_id: str) -> None:
        if driver.task is not None:
            await asyncio.wait([driver.task])
        await self._try(execution_id)

    # --- records --------------------------------------------------------------------------------------------------

    def opened(self, driver: TakenRun) -> None:
        """Store the record of a run that was opened or taken up here."""
        record = driver.record
        if record is not None and self.records is not None and self._fleet is not None:
            self._on_loop(self.records.put, replace(record, process_id=self._fleet.process_id))
            if record.on_abandoned == "resume":
                self._on_loop(lambda: self._spawn(self._keep_open(record)))

    async def _keep_open(self, record: RunRecord) -> None:
        if self.records is not None:
            await self.records.flush()  # a run that stays open without a process has a record
        await self._hub.writer.flush()
        try:
            if not await self._hub.log.keep_open(record.execution_id):
                logger.debug("the run of execution %r has ended, or another process holds it", record.execution_id)
        except LogUnavailableError as error:
            logger.warning("the run of execution %r ends with this process: %s", record.execution_id, error)

    def ended(self, driver: TakenRun) -> None:
        """Remove the record of a run that has ended; leave that of a run that goes on elsewhere."""
        record = driver.record
        if record is not None and self.records is not None:
            self._on_loop(self.records.release if driver.is_left else self.records.remove, record)

    def note_answers(self, record: RunRecord, answers: Mapping[str, Any]) -> None:
        """Store answers to some of the prompts at which a run waits. Those that are no JSON values are left out."""
        if self.records is not None and self._fleet is not None:
            kept = {
                name: answer for name, answer in answers.items() if answer is None or json_value(answer) is not None
            }
            self._on_loop(self.records.put, replace(record, answers=kept, process_id=self._fleet.process_id))

    async def forget_answers(self, record: RunRecord) -> None:
        """Remove the stored answers before the graph uses them: a later prompt may have the id of an earlier one."""
        self.note_answers(record, {})
        if self.records is not None:
            await self._at_home(self.records.flush(), None)

    # --- one run ------------------------------------------------------------------------------------------------

    async def recover(self, execution_id: str, *, working: bool = False) -> bool:
        """Take up the run of an execution that no process has; return whether a repeated request may succeed.

        Callers at the same time share one attempt. From any event loop.

        Args:
            execution_id: The execution.
            working: Whether to take up also a run of which the log has nothing, and which did not wait for a human.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        return await self._at_home(self._share(execution_id, working=working), otherwise=False)

    async def look_up(self, execution_id: str) -> None:
        """Read the thread of an execution for nothing, so that a refusal takes as long as for an unknown execution."""
        with contextlib.suppress(Exception):  # of the checkpointer
            await self._at_home(self._pretend(execution_id), None)

    async def _pretend(self, execution_id: str) -> None:
        await self._hub.log.state(execution_id)
        await self._read_record(execution_id)

    async def _share(self, execution_id: str, *, working: bool) -> bool:
        task = self._attempts.get(execution_id)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._attempt(execution_id, working=working))
            self._attempts[execution_id] = task
            task.add_done_callback(functools.partial(self._end_attempt, execution_id))
        return await asyncio.shield(task)

    def _end_attempt(self, execution_id: str, task: asyncio.Task[bool]) -> None:
        self._attempts.pop(execution_id, None)
        if not task.cancelled():
            task.exception()

    async def _attempt(self, execution_id: str, *, working: bool) -> bool:
        driver = self._find(execution_id)
        if driver is not None:
            return await driver.settled()
        state = await self._hub.log.state(execution_id)
        if state is None:
            return await self._begin_anew(execution_id, working=working)
        if self.records is None or self._fleet is None:
            return False
        record = await self.records.get(execution_id)
        if record is None or not await self._is_open(record, state):
            return False
        holder = state.process
        if holder is not None and holder != self._fleet.process_id:
            # A dead holder loses its runs when another process has found it dead for sure.
            return any(each.process_id == holder for each in await self._fleet.processes())
        return await self._take_over(record, state)

    async def _is_open(self, record: RunRecord, state: LogState) -> bool:
        """Return whether the run of a record is open in the log. Remove the record if no run is."""
        if state.state not in _OPEN:
            if self.records is not None:
                await self.records.drop(record)
            return False
        return state.start_record is not None and state.start_record.scope.run_id == record.run_id

    async def _take_over(self, record: RunRecord, state: LogState) -> bool:
        """Take over a run that is open in the log, without a process."""
        execution_id, run_id, runs = record.execution_id, record.run_id, self._hub.runs
        graph = self._graph_of(record)
        owner, metadata = state.owner or record.owner, record.metadata
        if graph is None or not runs.opener.adopt(execution_id, run_id, owner=owner, metadata=metadata):
            return False
        taken = False
        try:
            taken = await self._hub.log.take_over(execution_id, state.process) == run_id
        finally:
            if not taken:
                runs.disown_run(execution_id, run_id)
        if not taken:
            return True  # another process has it
        runs.count_attempts(execution_id, await attempts_of(self._hub.log, execution_id, run_id))
        logger.info("the run of execution %r is taken over from process %s", execution_id, record.process_id)
        interrupted = state.state == "interrupted"
        driver = self._launch(Takeover(record=record, graph=graph, run_id=run_id, interrupted=interrupted))
        await driver.settled()
        return True

    async def _begin_anew(self, execution_id: str, *, working: bool) -> bool:
        """Begin a run that continues the one that the thread's checkpoints name."""
        found = await self._read_thread(execution_id)
        if found is None:
            return False
        record, graph, snapshot = found
        interrupted = bool(snapshot.interrupts) or at_breakpoint(graph, snapshot, record.call_options)
        if not (interrupted or (working and snapshot.next and record.on_abandoned == "resume")):
            return False
        claim = f"run {execution_id}"
        if self._fleet is not None and not await self._fleet.claim(claim):
            return True
        try:
            if self._fleet is not None and await self._hub.log.state(execution_id) is not None:
                return True
            run_id = self._hub.runs.begin_run(
                execution_id,
                owner=record.owner,
                name=record.graph,
                graph=record.graph,
                title=title_of(snapshot.values),
                metadata=record.metadata,
                resumed_from=record.run_id,
            )
            if run_id is None:
                return True
            await self._hub.writer.flush()
        finally:
            if self._fleet is not None:
                self._fleet.release(claim)
        logger.info("execution %r goes on from its checkpoints", execution_id)
        record = replace(record, run_id=run_id, resumed_from=record.run_id)
        driver = self._launch(Takeover(record=record, graph=graph, run_id=run_id, interrupted=interrupted))
        await driver.settled()
        return True

    async def _read_thread(self, execution_id: str) -> tuple[RunRecord, AnyGraph, StateSnapshot] | None:
        """Return the record in the newest checkpoint of the execution's thread, the graph and the thread's state."""
        try:
            record = await self._read_record(execution_id)
            graph = self._graph_of(record) if record is not None else None
            if record is None or graph is None:
                return None
            return record, graph, await graph.aget_state({"configurable": {"thread_id": execution_id}})
        except Exception:
            logger.exception("the checkpoints of execution %r cannot be read", execution_id)
            return None

    async def _read_record(self, execution_id: str) -> RunRecord | None:
        config: Any = {"configurable": {"thread_id": execution_id, "checkpoint_ns": ""}}
        checkpointers = {id(each): each for graph in self._graphs.values() if (each := persistent_checkpointer(graph))}
        for checkpointer in checkpointers.values():
            newest = await checkpointer.aget_tuple(config)
            record = RunRecord.from_checkpoint(dict(newest.metadata)) if newest is not None else None
            if record is not None and (record.execution_id, record.thread_id) == (execution_id, execution_id):
                return record
        return None

    def _graph_of(self, record: RunRecord) -> AnyGraph | None:
        graph = self._graphs.get(record.graph)
        if graph is None or persistent_checkpointer(graph) is None:
            logger.debug("a run of graph %r is left to other processes: it is not registered here", record.graph)
            return None
        return graph


class _Scan:
    """Job that is repeated until it is stopped."""

    def __init__(self, job: Callable[[], Awaitable[None]]) -> None:
        self._job = job
        self._stopped = False

    async def run(self) -> None:
        while not self._stopped:
            try:
                await self._job()
            except LogUnavailableError as error:
                logger.debug("the records of runs were not read: %s", error)
            await asyncio.sleep(_SCAN_INTERVAL)

    def stop(self) -> None:
        self._stopped = True
