"""Open runs that this process holds, and the ends of runs whose process is gone."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from lg_streaming.codec import Codec
from lg_streaming.events import ROOM_PREFIX, Scope
from lg_streaming.log.base import Batch, PendingUpdate
from lg_streaming.log.redis.batches import APPENDED, last_change
from lg_streaming.log.redis.scripts import APPEND

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lg_streaming.log.redis.batches import AppendCalls
    from lg_streaming.log.redis.fleet import RedisFleet
    from lg_streaming.log.redis.keys import Keys
    from lg_streaming.log.redis.store import Store

__all__ = ["OpenRuns"]


class OpenRuns:
    """Open runs that this process holds. Redis has them too, so that another process can end them.

    Args:
        store: Commands of Redis.
        keys: Names of the keys.
        calls: Arguments of ``append.lua``.
        fleet: The processes.
        clock: Seconds since 1970, for timestamps.
        add_to_index: Function that adds an execution, and its owner, to the index.
    """

    def __init__(
        self,
        store: Store,
        keys: Keys,
        calls: AppendCalls,
        fleet: RedisFleet,
        *,
        clock: Callable[[], float],
        add_to_index: Callable[[str, str | None], Awaitable[None]],
    ) -> None:
        self._store = store
        self._keys = keys
        self._calls = calls
        self._fleet = fleet
        self._clock = clock
        self._add_to_index = add_to_index
        self._open: dict[str, str] = {}
        """Id of the open run of each execution."""

    @property
    def executions(self) -> Sequence[str]:
        """Executions whose open runs this process holds."""
        return tuple(self._open)

    def forget(self, execution_id: str, run_id: str | None = None) -> None:
        """Forget the run of an execution, if it is that of ``run_id``; None: any run."""
        if run_id is None or self._open.get(execution_id) == run_id:
            self._open.pop(execution_id, None)

    def forget_all(self) -> Sequence[str]:
        """Forget all runs; return their executions."""
        runs, self._open = tuple(self._open), {}
        return runs

    def record(self, batches: Sequence[Batch], process_id: str) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
        """Record the runs that batches begin and end; return the commands for before the batches, and for after."""
        begun: list[tuple[str, ...]] = []
        ended: list[tuple[str, ...]] = []
        for batch in batches:
            execution_id, change = batch.execution_id, last_change(batch.updates)
            if change is None or execution_id.startswith(ROOM_PREFIX):
                continue
            if change.type == "workflow_start":
                self._open[execution_id] = change.scope.run_id or ""
                begun.append(self._fleet.add_run(execution_id, process_id))
            else:
                self._open.pop(execution_id, None)
                ended.append(self._fleet.remove_run(execution_id, process_id))
        return begun, ended

    async def restore(self) -> None:
        """Begin executions anew that Redis has lost during a run, so that readers get a gap at once."""
        process_id = self._fleet.process_id
        producer, number = f"{process_id}-reopen", round(time.time() * 1000)
        for execution_id, run_id in tuple(self._open.items()):
            if execution_id not in self._open:
                continue  # it was dropped, or has ended
            known = self._calls.acknowledged.get(execution_id)
            owner = known.owner if known is not None else None
            keys, arguments = self._calls.call(Batch(execution_id, [], producer, number, owner), process_id)
            await self._store.run(APPEND, keys, *arguments, 0, "", "", run_id, "")
            await self._add_to_index(execution_id, owner)

    async def end(
        self,
        execution_id: str,
        process_id: str | None,
        make_update: Callable[[str], PendingUpdate],
        *,
        release: bool = False,
        live: Sequence[str] = ("-",),
    ) -> bool:
        """Append the final update of a run whose process is gone; return whether that process held the run.

        Args:
            execution_id: The execution.
            process_id: Process that has to hold the open run; None for an interrupted run that no process holds.
            make_update: Returns the final update of the run of an id.
            release: Whether an interrupted run stays open, without a process, so that another may resume it.
            live: Processes with a lease. A run in which one of them takes part goes on.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        run: bytes | None = await self._store.command("HGET", self._keys.execution(execution_id).state, "r")
        if not run:
            return False
        batch = Batch(execution_id, [make_update(run.decode())], f"end-{secrets.token_hex(8)}", 1)
        mode = "release" if release else "end"
        answer = await self._run(batch, self._fleet.process_id, mode, process_id, live)
        if release and answer[0] == APPENDED and not answer[6]:
            self._fleet.announce_released(execution_id)
        return answer[0] == APPENDED

    async def _run(
        self, batch: Batch, me: str, mode: str, process_id: str | None, live: Sequence[str] = ()
    ) -> Sequence[Any]:
        keys, arguments = self._calls.call(batch, me, mode=mode, holder=process_id or "", live=",".join(live))
        return await self._store.run(APPEND, keys, *arguments)

    async def keep_open(self, execution_id: str) -> bool:
        """See `EventLog.keep_open`."""
        me = self._fleet.process_id
        return (await self._run(Batch(execution_id, [], "", 0), me, "keep", me))[0] == APPENDED

    async def take_over(self, execution_id: str, process_id: str | None) -> str | None:
        """See `EventLog.take_over`."""
        me = self._fleet.process_id
        await self._store.command(*self._fleet.add_run(execution_id, me))  # before: this process may die in between
        answer = await self._run(Batch(execution_id, [], "", 0), me, "take", process_id)
        if answer[0] != APPENDED:
            if self._open.get(execution_id) is None:
                await self._store.command(*self._fleet.remove_run(execution_id, me))
            return None
        self._open[execution_id] = run_id = answer[5].decode()
        if me != self._fleet.process_id:  # this process was declared dead since
            await self.abandon(execution_id, me)
            return None
        return run_id

    async def abandon(self, execution_id: str, process_id: str) -> None:
        """End the run of a process that is gone, or of this one that leaves.

        One that waits for a human, or that is kept, stays open without a process, and all processes are notified.
        """
        codec = Codec()

        def make_update(run_id: str) -> PendingUpdate:
            scope, now = Scope(run_id=run_id), self._clock()
            leaves = process_id == self._fleet.process_id
            data = {"reason": "process_stopped" if leaves else "process_lost", "process_id": process_id}
            body = codec.encode(execution_id, "workflow_abandoned", data, scope, "high", now)
            return PendingUpdate("workflow_abandoned", scope, "high", now, body)

        await self.end(execution_id, process_id, make_update, release=True, live=tuple(self._fleet.live))

    async def abandon_all(self, execution_ids: Sequence[str], process_id: str) -> None:
        """Call `abandon` for each execution."""
        for execution_id in execution_ids:
            await self.abandon(execution_id, process_id)
