"""Start, answer and cancel runs."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.errors import (
    ExecutionExistsError,
    ExecutionNotFoundError,
    ForbiddenError,
    PromptError,
    StreamingError,
    TransitionError,
)
from lg_streaming.events import FINAL_TYPES, Position
from lg_streaming.filters import UpdateFilter
from lg_streaming.gateway.dialects.langgraph.event_shapes import members
from lg_streaming.gateway.dialects.langgraph.records import RunRecord
from lg_streaming.gateway.dialects.langgraph.refusals import BUSY, RefusedError, no_thread
from lg_streaming.gateway.dialects.langgraph.threads import wait_for_run
from lg_streaming.gateway.session.starting import start_graph
from lg_streaming.runs import RemoteCommand, RemoteConfig, RemoteStart

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from lg_streaming.gateway.dialects.langgraph.assistants import Assistants
    from lg_streaming.gateway.dialects.langgraph.bodies import CommandBody, ConfigBody, RunBody
    from lg_streaming.gateway.dialects.langgraph.lookup import RunLookup
    from lg_streaming.gateway.dialects.langgraph.pending import PendingRuns
    from lg_streaming.gateway.dialects.langgraph.records import RunRecords
    from lg_streaming.gateway.dialects.langgraph.segments import SegmentIndex, SegmentTable
    from lg_streaming.gateway.dialects.langgraph.threads import Threads, ThreadView
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.runs import GraphRun
    from lg_streaming.runs.request import IfRunning

__all__ = ["RunStarter", "StartedRun"]

_STRATEGIES: Final[Mapping[str, IfRunning]] = {
    "reject": "reject",
    "enqueue": "enqueue",
    "interrupt": "cancel",
    "rollback": "rollback",
}
_OWN_KEYS: Final = frozenset({"thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map"})
"""Keys of ``configurable`` that the wire itself sets."""
_KEPT_INPUT: Final = 16_384
"""Most bytes of an input that a record keeps."""
_ANSWERS: Final = UpdateFilter.of(types=["human_response", *sorted(FINAL_TYPES)])
_ANSWERS_TIMEOUT: Final = 5.0
_BREAKPOINT: Final = "breakpoint-"
_NO_INTERRUPT: Final = "no interrupt of this thread waits for an answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartedRun:
    """A run that a request has started."""

    record: RunRecord
    run: GraphRun | None = None
    """The run's handle; None for one that goes on after an interrupt."""
    waiting: tuple[Mapping[str, Any], ...] = ()
    """Interrupts that still wait for answers: the run has ended at once."""


class RunStarter:
    """Starter of runs for the callers of the wire.

    Args:
        context: Hub, graphs and rules of access.
        threads: The threads.
        records: Records of runs.
        lookup: Look-up of runs.
        index: Segments of runs.
        assistants: The graphs, as assistants.
        pending: Streams of runs that wait for their turn.
        delete_after: Deletes the thread of a run after its end.
    """

    def __init__(
        self,
        context: GatewayContext,
        *,
        threads: Threads,
        records: RunRecords,
        lookup: RunLookup,
        index: SegmentIndex,
        assistants: Assistants,
        pending: PendingRuns,
        delete_after: Callable[[GraphRun, str], None],
    ) -> None:
        self._context = context
        self._threads = threads
        self._records = records
        self._lookup = lookup
        self._index = index
        self._assistants = assistants
        self._pending = pending
        self._delete_after = delete_after

    async def start(self, session: Session, body: RunBody, thread_id: str | None = None) -> StartedRun:
        """Start a run, or answer the interrupts of the thread's run.

        Args:
            session: The caller's session.
            body: The request.
            thread_id: The thread; None for a run with a new thread, which is deleted at the end.

        Raises:
            RefusedError: If the request does not fit the thread or the graph.
            StreamingError: If `start_graph` raises it.
        """
        _check_supported(body)
        graph = await self._assistants.graph(session, body.assistant_id)
        if thread_id is None:
            return await self._begin(session, body, graph, str(uuid.uuid4()), None, stateless=True)
        view = await self._threads.look(session, thread_id)
        if view is None and body.if_not_exists != "create":
            raise no_thread(thread_id)
        if view is not None and view.waits and view.table is not None:
            answers = _answers(body, view.table)
            if answers is not None:
                return await self._answer(session, body, view, view.table, answers)
        elif body.command is not None and body.command.resumes:
            await self._check_resumable(view)
        return await self._begin(session, body, graph, thread_id, view)

    async def _check_resumable(self, view: ThreadView | None) -> None:
        """Check that the thread of no open run has interrupts, which a program has left.

        Raises:
            RefusedError: If it has none.
        """
        snapshot = None if view is None or view.is_busy else await self._threads.snapshot(view)
        if snapshot is None or not snapshot["interrupts"]:
            raise RefusedError(409, _NO_INTERRUPT)

    # --- new runs -------------------------------------------------------------------------------------------

    async def _begin(
        self,
        session: Session,
        body: RunBody,
        graph: str,
        thread_id: str,
        view: ThreadView | None,
        *,
        stateless: bool = False,
    ) -> StartedRun:
        hub = session.hub
        record: dict[str, Any] = (view.record if view is not None else None) or {}
        own = stateless or bool(record and record["owner"] == session.principal.subject)
        if record and not own and view is not None and view.state is None:
            raise no_thread(thread_id)
        strategy = body.multitask_strategy or "enqueue"
        request = RemoteStart(
            graph=graph,
            input=body.input,
            execution_id=thread_id,
            thread_id=thread_id,
            config=_config(body.config),
            context=body.context or None,
            metadata=body.metadata,
            if_running="cancel" if view is not None and view.waits else _STRATEGIES[strategy],
            checkpoint_id=body.fork,
            goes_on=view is not None,
            command=self._command(session, body.command, view, thread_id),
            call_options=body.calls,
        )
        try:
            run = await start_graph(session, request, own_ids=[thread_id] if own else [])
        except ExecutionExistsError:
            raise RefusedError(409, BUSY) from None
        except ForbiddenError:
            raise no_thread(thread_id) from None
        await self._forget_runs(thread_id, run.rolled_back)
        after = run.after
        if not run.is_open:
            state = await hub.describe(thread_id)
            after = None if state is None else Position(state.epoch, state.head)
        started = self._record(session, body, graph=graph, thread_id=thread_id, own_run=run.run_id, after=after)
        started.queued = not run.is_open
        if run.done and await self._records.is_deleted(thread_id, run.run_id):  # a later start has taken it back
            started.status = "deleted"
        await self._threads.remember(session, thread_id, graph=graph)
        await self._records.put(started, stateless=stateless)
        if stateless and body.on_completion != "keep":
            self._delete_after(run, thread_id)
        return StartedRun(record=started, run=run)

    def _command(
        self, session: Session, command: CommandBody | None, view: ThreadView | None, thread_id: str
    ) -> RemoteCommand | None:
        if command is None or not (command.resumes or command.update is not None or command.goto):
            return None
        only_input = self._only_owns(session, view, thread_id)
        if command.goto and only_input:
            raise RefusedError(403, "command.goto needs a grant of the action control")
        return RemoteCommand(
            resume=command.resume, update=command.update, goto=command.goto or None, only_input=only_input
        )

    def _only_owns(self, session: Session, view: ThreadView | None, thread_id: str) -> bool:
        """Return whether the caller may change the state only as the owner of the thread."""
        owner = session.principal.subject
        if view is not None and view.state is not None:
            owner = view.state.owner
        return session.policy.only_owns(session.principal, "control", thread_id, owner)

    def _record(
        self, session: Session, body: RunBody, *, graph: str, thread_id: str, own_run: str, after: Position | None
    ) -> RunRecord:
        fleet = session.hub.log.fleet
        kwargs = body.model_dump(mode="json", exclude_unset=True, exclude={"input", "metadata", "assistant_id"})
        kwargs["stream_mode"] = list(body.stream_mode)
        for name, given in (("input", body.input), ("command", kwargs.pop("command", None))):
            if given is None:
                continue
            shown = session.hub.publisher.redact("state", {"values": given})
            if len(orjson.dumps(shown, default=str)) <= _KEPT_INPUT:
                kwargs[name] = cast("dict[str, Any]", shown).get("values") if isinstance(shown, dict) else None
        return RunRecord(
            run_id=own_run,
            thread_id=thread_id,
            own_run=own_run,
            graph=graph,
            created_at=session.context.clock.wall(),
            epoch="" if after is None else after.epoch,
            begin=0 if after is None else after.seq,
            metadata=dict(body.metadata or {}),
            kwargs=kwargs,
            strategy=body.multitask_strategy or "enqueue",
            process=None if fleet is None else fleet.process_id,
        )

    # --- answers --------------------------------------------------------------------------------------------

    async def _answer(
        self, session: Session, body: RunBody, view: ThreadView, table: SegmentTable, answers: Mapping[str, Any]
    ) -> StartedRun:
        """Answer prompts of the open run: it goes on as another run."""
        last, run_id = table.last, table.next_id
        if last is None or run_id is None:
            raise RefusedError(409, _NO_INTERRUPT)
        epoch, begin = table.epoch, table.interrupted_at
        await self.answer(session, view, answers, update=body.command.update if body.command is not None else None)
        record = self._record(
            session,
            body,
            graph=view.graph or last.graph or "",
            thread_id=view.thread_id,
            own_run=last.own_run,
            after=Position(epoch, begin),
        )
        record.run_id, record.resumed = run_id, True
        await self._wait_for_answers(view.thread_id, Position(epoch, begin), set(answers))
        found = await self._index.load(view.thread_id)  # others may have answered at the same time
        still_waits = found is not None and found[0].next_id == run_id
        rest = tuple(found[0].prompts.values()) if found is not None and still_waits else ()
        record.partial = bool(rest)
        await self._threads.remember(session, view.thread_id, graph=record.graph)
        known = await self._records.get(view.thread_id, run_id) if rest else None
        if known is None or known.partial:
            await self._records.put(record)
        return StartedRun(record=record, waiting=rest)

    async def _wait_for_answers(self, thread_id: str, after: Position, answers: set[str]) -> None:
        """Wait until readers of this process get the answers, and so all that came before them."""
        following = self._context.hub.readers.follow(thread_id, after=after, filter=_ANSWERS)
        with suppress(TimeoutError):
            async with asyncio.timeout(_ANSWERS_TIMEOUT), following as updates:
                async for update in updates:
                    answers.discard(str(members(update.data).get("prompt_id")))
                    if not answers or update.type in FINAL_TYPES:
                        return

    async def answer(
        self, session: Session, view: ThreadView, answers: Mapping[str, Any], *, update: object = None
    ) -> None:
        """Answer prompts of a thread's run; the first valid answer to each wins.

        Args:
            session: The caller's session.
            view: The thread.
            answers: Answers by prompt, which is the interrupt.
            update: Update of the state, which is made first; None for none.

        Raises:
            RefusedError: If the caller may not, or an interrupt waits for no answer.
            StreamingError: If an answer does not fit its prompt.
        """
        thread_id = view.thread_id
        try:
            await session.check("control", thread_id)
        except ForbiddenError:
            raise no_thread(thread_id) from None
        if update is not None:
            await self._inject(session, view, update)
        for prompt_id, value in answers.items():
            try:
                await session.hub.respond(thread_id, prompt_id, value, responder=session.principal.subject)
            except PromptError:
                raise RefusedError(409, _NO_INTERRUPT) from None

    async def _inject(self, session: Session, view: ThreadView, update: object) -> None:
        runner = session.context.remote_runner
        if runner is None:
            return
        only_input = self._only_owns(session, view, view.thread_id)
        try:
            await runner.runner.inject(view.thread_id, update, only_input=only_input)
        except (ExecutionNotFoundError, TransitionError):
            raise RefusedError(409, "the run takes no update of its state now") from None

    # --- cancel ---------------------------------------------------------------------------------------------

    async def cancel(
        self,
        session: Session,
        view: ThreadView,
        run_id: str,
        *,
        rollback: bool = False,
        wait: bool = False,
        reason: str | None = None,
    ) -> None:
        """Cancel a run that waits for its turn, or works.

        Args:
            session: The caller's session.
            view: The thread.
            run_id: The run's id on the wire.
            rollback: Whether the run is deleted, and what it changed is taken back.
            wait: Whether to return after the end of the run.
            reason: The reason, for readers.

        Raises:
            RefusedError: If there is no such run, or it has ended, or the caller may not cancel it.
        """
        try:
            await session.check("control", view.thread_id)
        except ForbiddenError:
            raise no_thread(view.thread_id) from None
        record = await self._lookup.run_of(view, run_id)
        status = record.status_in(view.table, view.state)
        if status not in {"pending", "running"}:
            raise RefusedError(404, f"No matching runs to cancel: the run {run_id:.100} has ended")
        await self.stop(record, pending=status == "pending", reason=reason or "cancelled")
        if status == "pending":
            record.status = "deleted" if rollback else "interrupted"
            await self._records.put(record)
        elif wait or rollback:
            await wait_for_run(session.hub, view.thread_id)
        if rollback and status == "running":
            await self._take_back(view, record)

    async def stop(self, record: RunRecord, *, pending: bool, reason: str) -> None:
        """End a run that waits for its turn, or works. No rights are checked."""
        runner = self._context.remote_runner
        if pending and runner is not None:
            runner.runner.cancel_waiting(record.own_run)
            self._pending.close(record.run_id)
        else:
            await self._context.hub.cancel(record.thread_id, reason, run_id=record.own_run)

    async def stop_if_active(self, record: RunRecord, reason: str) -> None:
        """End a run whose reader has left, if it has not ended."""
        found = await self._index.load(record.thread_id)
        table, state = found if found is not None else (None, None)
        status = record.status_in(table, state)
        if status in {"pending", "running"}:
            await self.stop(record, pending=status == "pending", reason=reason)

    async def _take_back(self, view: ThreadView, record: RunRecord) -> None:
        runner = self._context.remote_runner
        if runner is not None:
            try:
                await runner.threads.take_back(record.graph, view.thread_id, record.own_run)
            except StreamingError as error:
                raise RefusedError(409, error.message) from None
        await self._forget_runs(view.thread_id, {record.own_run})

    async def _forget_runs(self, thread_id: str, own_runs: Collection[str]) -> None:
        """Mark runs of the log as deleted: the log still has them."""
        found = await self._index.load(thread_id) if own_runs else None
        for own_run in own_runs:
            segments = found[0].of_run(own_run) if found is not None else []
            for each in segments:
                record = await self._records.get(thread_id, each.run_id) or RunRecord.of(thread_id, each)
                record.status = "deleted"
                await self._records.put(record)


def _check_supported(body: RunBody) -> None:
    if body.webhook is not None:
        raise RefusedError(422, "webhook: this server calls no addresses of callers; use its own sinks")
    if body.after_seconds:
        raise RefusedError(422, "after_seconds: this server starts runs at once")


def _answers(body: RunBody, table: SegmentTable) -> dict[str, Any] | None:
    """Return the answers of a request to the prompts of a run that waits; None if it answers none.

    Raises:
        RefusedError: If several interrupts wait, and the request does not name them.
    """
    prompts, command = table.prompts, body.command
    if command is None or not command.resumes:
        only_breaks = all(each.startswith(_BREAKPOINT) for each in prompts)
        goes_on = body.input is None and command is None and body.fork is None
        return dict.fromkeys(prompts, True) if only_breaks and goes_on else None
    resume: Any = command.resume
    if isinstance(resume, dict) and resume and prompts.keys() >= resume.keys():
        return cast("dict[str, Any]", resume)
    if len(prompts) > 1:
        raise RefusedError(
            422, "several interrupts wait: command.resume has to be an object of answers by interrupt id"
        )
    return {each: True if each.startswith(_BREAKPOINT) else resume for each in prompts}


def _config(config: ConfigBody | None) -> RemoteConfig | None:
    if config is None:
        return None
    return RemoteConfig(
        configurable={name: each for name, each in (config.configurable or {}).items() if name not in _OWN_KEYS},
        recursion_limit=config.recursion_limit,
        tags=tuple(config.tags or ()),
        metadata=config.metadata or {},
    )
