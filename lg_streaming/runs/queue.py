"""Bounded concurrency of runs, fair by owner."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from lg_streaming.errors import ExecutionLimitError
from lg_streaming.fork import new_lock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["RunQueue"]


class _Waiter:
    """Place of a run in the queue."""

    __slots__ = ("loop", "owner", "turn")

    def __init__(self, owner: str | None) -> None:
        self.owner = owner
        self.loop = asyncio.get_running_loop()
        self.turn: asyncio.Future[None] = self.loop.create_future()

    def admit(self) -> None:
        """Begin the turn. Thread-safe."""
        self.loop.call_soon_threadsafe(self._admit)

    def _admit(self) -> None:
        if not self.turn.done():
            self.turn.set_result(None)


class RunQueue:
    """Queue of runs: at most ``max_concurrent`` have a turn at once, and owners take turns with each other.

    An owner with a thousand runs delays another owner's run by one turn. The runs of an owner keep their order. A run
    that waits for a human has no turn.

    Args:
        max_concurrent: Most runs with a turn; None for no limit.
        max_queued: Most runs that wait for one; None for no limit.
    """

    def __init__(self, max_concurrent: int | None, max_queued: int | None) -> None:
        self._max_concurrent = max_concurrent
        self._max_queued = max_queued
        self._lock = new_lock()
        self._start_empty()
        restart_after_fork(self)

    def _start_empty(self) -> None:
        self.running: int = 0
        """Number of runs with a turn."""
        self._waiting: OrderedDict[str | None, deque[_Waiter]] = OrderedDict()
        """Waiting runs by owner; the first owner is the next to get a turn."""

    def after_fork(self) -> None:
        """Drop the runs of the parent process."""
        self._start_empty()

    @property
    def queued(self) -> int:
        """Number of runs that wait for a turn."""
        with self._lock:
            return sum(len(each) for each in self._waiting.values())

    def ensure_room(self) -> None:
        """Check that a run may wait.

        Raises:
            ExecutionLimitError: If ``max_queued`` runs wait.
        """
        limit = self._max_queued
        if limit is not None and self._is_full and self.queued >= limit:
            raise ExecutionLimitError(
                f"runs.max_queued allows {limit} waiting runs: try again later", details={"limit": limit}
            )

    @property
    def _is_full(self) -> bool:
        return self._max_concurrent is not None and self.running >= self._max_concurrent

    @asynccontextmanager
    async def turn(self, waiter: _Waiter) -> AsyncGenerator[None]:
        """Wait for the turn of a run, and end it with the block."""
        try:
            await waiter.turn
        except BaseException:
            self._give_up(waiter)
            raise
        try:
            yield
        finally:
            self._release()

    def enter(self, owner: str | None) -> tuple[_Waiter, int | None]:
        """Join the queue; return the run's place holder for `turn`, and its place from 1; None with a turn at once."""
        waiter = _Waiter(owner)
        with self._lock:
            if not self._is_full and not self._waiting:
                self.running += 1
                waiter.turn.set_result(None)
                return waiter, None
            self._waiting.setdefault(owner, deque()).append(waiter)
        return waiter, self.place(waiter)

    def place(self, waiter: _Waiter) -> int | None:
        """Return the place of a run, from 1, if no other run joins; None for a run that does not wait."""
        with self._lock:
            own = self._waiting.get(waiter.owner)
            if own is None or waiter not in own:
                return None
            before = own.index(waiter)
            others = list(self._waiting)
            ahead = others.index(waiter.owner)
            place = before + 1
            for position, owner in enumerate(others):
                if owner != waiter.owner:  # each owner in front has one turn more before this run
                    place += min(len(self._waiting[owner]), before + (position < ahead))
            return place

    def _give_up(self, waiter: _Waiter) -> None:
        with self._lock:
            own = self._waiting.get(waiter.owner)
            if own is not None and waiter in own:
                own.remove(waiter)
                if not own:
                    del self._waiting[waiter.owner]
                return
        self._release()  # it had its turn just now

    def _release(self) -> None:
        with self._lock:
            self.running -= 1
            self._admit_next()

    def _admit_next(self) -> None:
        while self._waiting and not self._is_full:
            owner, own = next(iter(self._waiting.items()))
            waiter = own.popleft()
            if own:
                self._waiting.move_to_end(owner)
            else:
                del self._waiting[owner]
            self.running += 1
            try:
                waiter.admit()
            except RuntimeError:  # its event loop was closed, and its run with it
                self.running -= 1
