"""Threads: their records, who may use them, and their description."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import BadRequestError, ForbiddenError, GraphNotFoundError
from lg_streaming.events import check_execution_id
from lg_streaming.gateway.auth.policy import GRAPH_PREFIX
from lg_streaming.gateway.dialects.langgraph.assistants import assistant_id
from lg_streaming.gateway.dialects.langgraph.refusals import RefusedError, no_thread
from lg_streaming.gateway.dialects.langgraph.states import state_of_log
from lg_streaming.gateway.session.session import format_time
from lg_streaming.gateway.session.starting import log_refusal
from lg_streaming.runs.opening import wait_for_end

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lg_streaming.gateway.auth.policy import Action
    from lg_streaming.gateway.dialects.langgraph.assistants import Assistants
    from lg_streaming.gateway.dialects.langgraph.bodies import CreateThread
    from lg_streaming.gateway.dialects.langgraph.records import RunRecords
    from lg_streaming.gateway.dialects.langgraph.segments import SegmentIndex, SegmentTable
    from lg_streaming.gateway.dialects.langgraph.store import RecordStore
    from lg_streaming.gateway.session.context import GatewayContext
    from lg_streaming.gateway.session.session import Session
    from lg_streaming.hub import StreamHub
    from lg_streaming.log.base import LogState

__all__ = ["ThreadView", "Threads", "as_it_waits", "wait_for_run"]

_END_TIMEOUT: Final = 30.0
_THREADS: Final = "langgraph_threads"
_RESERVED: Final = ("room:", GRAPH_PREFIX)
_NOT_YOURS: Final = "you may not create a thread of this id, or it is another's: leave the id out for a new one"


@dataclass(slots=True, kw_only=True)
class ThreadView:
    """A thread that the caller may use, at the time of a request."""

    thread_id: str
    record: dict[str, Any] | None
    """``{owner, metadata, created_at, updated_at, graph, deleted}``; None for one that was not made here."""
    state: LogState | None
    """State in the log; None without a run."""
    table: SegmentTable | None
    graph: str | None
    """Name of its graph; None if it is not known."""

    @property
    def is_busy(self) -> bool:
        """True while a run works, or is paused."""
        if self.state is None or self.state.state not in {"running", "interrupted"}:
            return False
        return self.state.state == "running" or not self.waits

    @property
    def waits(self) -> bool:
        """True while the run waits for people."""
        return self.table is not None and bool(self.table.prompts) and self.state is not None and not self.state.ended

    @property
    def status(self) -> str:
        """The status, as clients know it."""
        if self.waits:
            return "interrupted"
        if self.is_busy:
            return "busy"
        return "error" if self.state is not None and self.state.state in {"failed", "abandoned"} else "idle"


class Threads:
    """The threads of a gateway.

    Args:
        context: Hub, graphs and rules of access.
        store: Records of threads.
        index: Segments of runs.
        records: Records of runs.
        assistants: The graphs, as assistants.
    """

    def __init__(
        self,
        context: GatewayContext,
        store: RecordStore,
        index: SegmentIndex,
        records: RunRecords,
        assistants: Assistants,
    ) -> None:
        self._context = context
        self._store = store
        self._index = index
        self._records = records
        self._assistants = assistants

    # --- find -----------------------------------------------------------------------------------------------

    async def find(self, session: Session, thread_id: str, action: Action = "read") -> ThreadView:
        """Return a thread.

        Raises:
            RefusedError: If it does not exist, or the caller may not do this with it.
            LogUnavailableError: If the log cannot be reached.
        """
        found = await self.look(session, thread_id, action)
        if found is None:
            raise no_thread(thread_id)
        return found

    async def look(
        self, session: Session, thread_id: str, action: Action = "read", *, deleted: bool = False
    ) -> ThreadView | None:
        """Return a thread; None if it does not exist, or the caller may not do this with it.

        Args:
            session: The caller's session.
            thread_id: The thread.
            action: What the caller does with it.
            deleted: Whether a thread counts that was deleted after its run.
        """
        check_execution_id(thread_id)
        record = await self._store.get(_THREADS, thread_id)
        if record is not None and record["deleted"] and not deleted:
            return None
        state = await session.find(thread_id, latest=True)
        try:
            if state is None and record is not None:
                await session.policy.check(
                    session.principal, action, thread_id, record["owner"], address=session.peer.address
                )
            else:
                await session.check(action, thread_id)
        except ForbiddenError:
            return None
        found = await self._index.load(thread_id) if state is not None else None
        table, state = found if found is not None else (None, state)
        graph: str | None = _graph_of(state) or (record["graph"] if record is not None else None)
        if state is None and record is None:
            graph = await self._graph_with(session, thread_id)
            if graph is None:
                return None
        return ThreadView(thread_id=thread_id, record=record, state=state, table=table, graph=graph)

    async def _graph_with(self, session: Session, thread_id: str) -> str | None:
        """Return the graph whose checkpointer has the thread: the log forgets ended runs, a checkpointer does not."""
        runner = self._context.remote_runner
        for name in await self._assistants.allowed(session):
            if runner is not None and await runner.threads.state(name, thread_id) is not None:
                return name
        return None

    # --- change ---------------------------------------------------------------------------------------------

    async def create(self, session: Session, body: CreateThread) -> ThreadView:
        """Create a thread that the caller owns.

        Raises:
            RefusedError: If the thread exists, or the caller may not choose its id.
        """
        graphs = await self._assistants.allowed(session)
        if not graphs:
            log_refusal(session, "streaming.graphs has no graph that the caller may start")
            raise RefusedError(403, "you may start no graph")
        thread_id = str(uuid.uuid4())
        if body.thread_id is not None:
            thread_id = check_execution_id(body.thread_id)
            known = await self.look(session, thread_id)
            if known is not None and body.if_exists == "do_nothing":
                return known
            if known is not None:
                raise RefusedError(409, f"Thread with ID {thread_id} already exists")
            await self._check_new(session, graphs, thread_id)
        await self.remember(session, thread_id, graph=body.graph_id, metadata=body.metadata)
        return await self.find(session, thread_id)

    async def may_create(self, session: Session, thread_id: str) -> bool:
        """Return whether the caller may create a thread of this id, which no thread has."""
        try:
            await self._check_new(session, await self._assistants.allowed(session), thread_id)
        except RefusedError:
            return False
        return True

    async def _check_new(self, session: Session, graphs: list[str], thread_id: str) -> None:
        """Check that the caller may choose the id of a thread. Another's thread looks like a forbidden id."""
        if thread_id.startswith(_RESERVED):
            raise BadRequestError(f"a thread's id may not begin with {' or '.join(_RESERVED)}")
        record, state = await self._store.get(_THREADS, thread_id), await session.hub.describe(thread_id)
        owner: str | None = state.owner if state is not None else record["owner"] if record is not None else None
        free = record is None and state is None
        for name in graphs:
            if await session.policy.allows_start_in(
                session.principal, name, thread_id, owner, address=session.peer.address
            ):
                if free:
                    return
                break
        raise RefusedError(403, _NOT_YOURS)

    async def remember(
        self,
        session: Session,
        thread_id: str,
        *,
        graph: str | None,
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Keep the record of a thread, made anew or renewed."""
        now = session.context.clock.wall()
        known: dict[str, Any] = await self._store.get(_THREADS, thread_id) or {
            "owner": session.principal.subject,
            "metadata": {},
            "created_at": now,
            "graph": None,
            "deleted": False,
        }
        merged = {**known["metadata"], **(metadata or {})}
        record: dict[str, Any] = {**known, "metadata": merged, "graph": graph or known["graph"], "updated_at": now}
        await self._store.put(_THREADS, thread_id, record)
        await self._store.put(_owned(record["owner"]), thread_id, 1)

    async def retire(self, thread_id: str) -> None:
        """Delete the state of a thread, whose run can still be read."""
        record, runner = await self._store.get(_THREADS, thread_id), self._context.remote_runner
        if record is not None:
            await self._store.put(_THREADS, thread_id, {**record, "deleted": True})
            await self._store.remove(_owned(record["owner"]), thread_id)
        if runner is not None:
            await runner.threads.delete(thread_id)

    async def delete(self, view: ThreadView) -> None:
        """Delete a thread: its run, its updates, its state, its records."""
        hub, runner = self._context.hub, self._context.remote_runner
        await self.forget(view)
        if runner is not None:
            runner.runner.cancel_all_waiting(view.thread_id)
        if view.state is not None:
            await hub.cancel(view.thread_id, "the thread is deleted")
            await wait_for_run(hub, view.thread_id)
            await hub.writer.flush()
            await hub.log.drop(view.thread_id)
        if runner is not None:
            await runner.threads.delete(view.thread_id)

    async def forget(self, view: ThreadView) -> None:
        """Remove the records of a thread."""
        owner = (view.record or {}).get("owner")
        await self._store.remove(_THREADS, view.thread_id)
        await self._store.remove(_owned(owner), view.thread_id)
        await self._records.remove_all(view.thread_id)

    # --- describe -------------------------------------------------------------------------------------------

    async def snapshot(self, view: ThreadView) -> dict[str, Any] | None:
        """Return the newest state of a thread; None before its first checkpoint."""
        runner = self._context.remote_runner
        if runner is None or view.graph is None:
            return None
        try:
            found, keeps = await runner.threads.state(view.graph, view.thread_id), runner.threads.keeps(view.graph)
        except GraphNotFoundError:
            return None
        last = view.table.last if view.table is not None else None
        if not keeps and last is not None:
            found = await state_of_log(self._context.hub, view.thread_id, last.begin)
        return None if found is None else as_it_waits(found, view)

    async def describe(self, view: ThreadView, *, with_values: bool = True) -> dict[str, Any]:
        """Return a thread as clients know it."""
        snapshot = await self.snapshot(view) if with_values else None
        record: dict[str, Any] = view.record or {}
        state = view.state
        created = record.get("created_at") or (state.started_at if state is not None else self._context.clock.wall())
        updated = max(record.get("updated_at") or created, state.updated_at if state is not None else created)
        graph = {} if view.graph is None else {"graph_id": view.graph, "assistant_id": assistant_id(view.graph)}
        tasks = cast("list[dict[str, Any]]", snapshot["tasks"]) if snapshot is not None else []
        last = view.table.last if view.table is not None else None
        error = last.error if last is not None and view.status == "error" else None
        return {
            "thread_id": view.thread_id,
            "created_at": format_time(created),
            "updated_at": format_time(updated),
            "state_updated_at": format_time(updated),
            "metadata": {**graph, **record.get("metadata", {})},
            "status": view.status,
            "config": {},
            "values": None if snapshot is None else snapshot["values"],
            "interrupts": {each["id"]: each["interrupts"] for each in tasks if each["interrupts"]},
            **({"error": {"error": error.get("type") or "Error", "message": error.get("message")}} if error else {}),
        }

    async def owned(self, subject: str | None) -> list[str]:
        """Return the threads that were made here for an owner."""
        return list(await self._store.values(_owned(subject)))


async def wait_for_run(hub: StreamHub, thread_id: str) -> None:
    """Wait until the run of a thread has ended, after it was cancelled.

    Raises:
        RefusedError: If a node goes on in spite of that.
    """
    try:
        async with asyncio.timeout(_END_TIMEOUT):
            await wait_for_end(hub, thread_id)
    except TimeoutError:
        raise RefusedError(504, f"the run was cancelled and has not ended after {_END_TIMEOUT:.0f} seconds") from None


def _owned(owner: str | None) -> str:
    return f"langgraph_threads_of/{'' if owner is None else f'={owner}'}"


def as_it_waits(snapshot: dict[str, Any], view: ThreadView) -> dict[str, Any]:
    """Return the newest state without the interrupts that have answers: the run goes on when all have one."""
    if not view.waits:
        return snapshot
    prompts = view.table.prompts if view.table is not None else {}

    def left(interrupts: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [each for each in interrupts if each["id"] in prompts]

    tasks = [{**each, "interrupts": left(each["interrupts"])} for each in snapshot["tasks"]]
    return {**snapshot, "tasks": tasks, "interrupts": left(snapshot["interrupts"])}


def _graph_of(state: LogState | None) -> str | None:
    start = state.start_record if state is not None else None
    data: Any = start.update.data if start is not None else None
    name: object = cast("dict[str, Any]", data).get("name") if isinstance(data, dict) else None
    return name if isinstance(name, str) else None
