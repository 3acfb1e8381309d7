"""Bounded concurrency of runs, fair by owner."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import ExecutionLimitError
from lg_streaming.fork import new_lock, restart_after_fork
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

__all__ = ["RunQueue", "Waiter"]

_PLACES_INTERVAL: Final = 1.0
"""Least seconds between two notifications of places."""


class Waiter:
    """A run's wait for its turn, made by `RunQueue.enter`."""

    __slots__ = ("_loop", "_turn", "has_left", "on_place", "owner", "place", "shown")

    def __init__(self, owner: str | None, on_place: Callable[[int], object]) -> None:
        self.owner: str | None = owner
        self.on_place: Callable[[int], object] = on_place
        self.place: int | None = None
        """Place at the last count, from 1; None with a turn."""
        self.shown: int = 0
        """Place at the start, or that `on_place` was called with last."""
        self.has_left: bool = False
        """True after `RunQueue.leave`."""
        self._loop = asyncio.get_running_loop()
        self._turn: asyncio.Future[None] = self._loop.create_future()

    @property
    def has_turn(self) -> bool:
        """True if the turn has begun."""
        return self._turn.done()

    async def wait(self) -> None:
        """Wait for the turn."""
        await asyncio.shield(self._turn)

    def begin(self) -> None:
        """Begin the turn at once, on the waiter's event loop."""
        self.place = None
        if not self._turn.done():
            self._turn.set_result(None)

    def admit(self) -> None:
        """Begin the turn, from any thread. Raises RuntimeError if the event loop is closed."""
        self.place = None
        self._loop.call_soon_threadsafe(self.begin)


class RunQueue:
    """Queue of runs: at most ``max_concurrent`` have a turn at once, and owners take turns with each other.

    An owner with a thousand runs delays another owner's run by one turn. The runs of an owner keep their order, except
    that one which goes on after an answer is the next of its owner. A run that waits for a human has no turn. Runs
    without an owner share one place among the owners.

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
        self.queued: int = 0
        """Number of runs that wait for a turn."""
        self._held = 0  # runs that wait for the end of an earlier run of their execution
        self._waiting: OrderedDict[str | None, deque[Waiter]] = OrderedDict()
        """Waiting runs by owner; the first owner is the next to get a turn."""
        self._notifying = False

    def after_fork(self) -> None:
        """Drop the runs of the parent process."""
        self._start_empty()

    @property
    def held(self) -> int:
        """Number of runs that wait for the end of an earlier run of their execution."""
        return self._held

    @property
    def _is_full(self) -> bool:
        return self._max_concurrent is not None and self.running >= self._max_concurrent

    def _ensure_room(self) -> None:
        limit = self._max_queued
        if limit is not None and self.queued + self._held >= limit:
            raise ExecutionLimitError(
                f"runs.max_queued allows {limit} waiting runs: try again later", details={"limit": limit}
            )

    # --- entering -------------------------------------------------------------------------------------------

    def enter(
        self, owner: str | None, on_place: Callable[[int], object], *, first: bool = False, bounded: bool = True
    ) -> Waiter:
        """Join the queue on the running event loop; the turn begins at once if there is room.

        Args:
            owner: Owner of the run.
            on_place: Called with the run's place when it has changed by at least a tenth, at most once a second, on any
                thread.
            first: Whether the run is the next of its owner, such as one that goes on after an answer.
            bounded: Whether ``max_queued`` holds.

        Raises:
            ExecutionLimitError: If ``max_queued`` runs wait, and this one would wait too.
        """
        waiter = Waiter(owner, on_place)
        with self._lock:
            if not self._is_full and not self._waiting:
                self.running += 1
                waiter.begin()
                return waiter
            if bounded:
                self._ensure_room()
            own = self._waiting.setdefault(owner, deque())
            (own.appendleft if first else own.append)(waiter)
            self.queued += 1
            waiter.place = waiter.shown = self._place(waiter, before=0 if first else len(own) - 1)
        self._notify_later()
        return waiter

    def hold(self) -> None:
        """Count a run that waits for the end of an earlier run of its execution, until `unhold`.

        Raises:
            ExecutionLimitError: If ``max_queued`` runs wait.
        """
        with self._lock:
            self._ensure_room()
            self._held += 1

    def unhold(self) -> None:
        """Undo one `hold`."""
        with self._lock:
            self._held -= 1

    def lend_turn(self, waiter: Waiter) -> None:
        """Begin the turn of a waiting run at once, because another one with a turn awaits it. Harmless with a turn."""
        with self._lock:
            if waiter.place is None:
                return
            self._remove(waiter)
            self._admit(waiter)
        self._notify_later()

    # --- leaving --------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def turn(self, waiter: Waiter) -> AsyncGenerator[None]:
        """Wait for the turn of a run, and end it with the block."""
        try:
            await waiter.wait()
            yield
        finally:
            self.leave(waiter)

    def leave(self, waiter: Waiter) -> None:
        """End the turn of a run, or its wait. Harmless when repeated."""
        with self._lock:
            if waiter.has_left:
                return
            waiter.has_left = True
            if waiter.place is not None:
                self._remove(waiter)
            else:
                self.running -= 1
                self._admit_next()
        self._notify_later()

    def _remove(self, waiter: Waiter) -> None:
        own = self._waiting[waiter.owner]
        own.remove(waiter)
        self.queued -= 1
        if not own:
            del self._waiting[waiter.owner]

    def _admit_next(self) -> None:
        while self._waiting and not self._is_full:
            owner, own = next(iter(self._waiting.items()))
            waiter = own.popleft()
            if own:
                self._waiting.move_to_end(owner)
            else:
                del self._waiting[owner]
            self.queued -= 1
            self._admit(waiter)

    def _admit(self, waiter: Waiter) -> None:
        self.running += 1
        try:
            waiter.admit()
        except RuntimeError:  # its event loop was closed, and its run with it
            waiter.has_left = True
            self.running -= 1

    # --- places ---------------------------------------------------------------------------------------------

    def _place(self, waiter: Waiter, before: int) -> int:
        """Return the place of a run, from 1, with so many runs of its owner before it. Requires the lock."""
        place, is_ahead = before + 1, True
        for owner, others in self._waiting.items():
            if owner == waiter.owner:
                is_ahead = False
            else:  # each owner in front has one turn more before this run
                place += min(len(others), before + is_ahead)
        return place

    def _in_order(self) -> Iterator[Waiter]:
        """Yield the waiting runs in the order of their turns. Requires the lock."""
        owners = [deque(own) for own in self._waiting.values()]
        while owners:
            for own in owners:
                yield own.popleft()
            owners = [own for own in owners if own]

    def _notify_later(self) -> None:
        with self._lock:
            if self._notifying or not self._waiting:
                return
            self._notifying = True
        current_timer().schedule_relative(_PLACES_INTERVAL, self._notify)

    def _notify(self, *_: object) -> None:
        with self._lock:
            self._notifying = False
        self.notify_places()

    def notify_places(self) -> None:
        """Notify runs of their places, where these have changed by a tenth."""
        changed: list[tuple[Waiter, int]] = []
        with self._lock:
            for place, waiter in enumerate(self._in_order(), 1):
                waiter.place = place
                change = abs(place - waiter.shown)
                if change and change >= min(place, waiter.shown) / 10:
                    waiter.shown = place
                    changed.append((waiter, place))
        for waiter, place in changed:
            waiter.on_place(place)
