"""Reading all executions whose ids match, from a moment on: what `subscribe_events` asks for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import LogUnavailableError, StreamingError
from lg_streaming.events import Position
from lg_streaming.fork import bury, new_lock, restart_after_fork
from lg_streaming.globs import Globs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from lg_streaming.filters import UpdateFilter
    from lg_streaming.hub import Page, StreamHub, Subscription

__all__ = ["Follower", "Patterns"]

_REMEMBERED: Final = 10_000
"""Executions of which a follower knows where it stands; it forgets the ones it has not heard of for longest."""
_DENIAL_LIFETIME: Final = 5.0
"""Seconds until it is asked again whether an execution may be read after all."""
_AT_ONCE: Final = 100
"""Executions that are looked at before the event loop gets its turn."""
_PATIENCE: Final = 0.5
"""Seconds until an execution that could not be read is tried again."""


class Patterns:
    """Tells followers which executions have something new, on their event loop and once for many appends.

    The log is listened to only while somebody follows.
    """

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub
        self._wakes: dict[Callable[[str], None], None] = {}
        self._new: dict[str, None] = {}  # in the order they came
        self._lock = new_lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: Callable[[], None] | None = None
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's followers and event loop."""
        bury(self._wakes, self._loop)
        if self._stop is not None:
            self._stop()
        self._wakes, self._new, self._loop, self._stop = {}, {}, None, None

    def listen(self, wake: Callable[[str], None]) -> Callable[[], None]:
        """Calls `wake` with the id of each execution that got an update from now on; returns what stops that."""
        self._wakes[wake] = None
        if self._stop is None:
            self._loop = asyncio.get_running_loop()
            self._new.clear()  # what was left of a former event loop would never be told
            self._stop = self._hub.log.listen(self._note)

        def unlisten() -> None:
            self._wakes.pop(wake, None)
            if not self._wakes and self._stop is not None:
                self._stop()
                self._stop = None

        return unlisten

    def _note(self, execution_id: str) -> None:
        """From any thread."""
        loop = self._loop
        with self._lock:
            first = not self._new
            self._new[execution_id] = None
        if first and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        with self._lock:
            new, self._new = self._new, {}
        for wake in tuple(self._wakes):
            for execution_id in new:
                wake(execution_id)


class Follower:
    """Reads every execution that matches and may be read, each from where it stood when the follower began.

    Args:
        hub: Where executions are.
        patterns: Tells what is new.
        globs: Which executions: `*` within a `/` segment, `**` across.
        filter: Which of their updates.
        allows: Whether an execution may be read; asked when it is heard of, and again after :meth:`recheck`.
        skips: Whether an execution is none of its business at the moment.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        hub: StreamHub,
        patterns: Patterns,
        *,
        globs: Sequence[str],
        filter: UpdateFilter,
        allows: Callable[[str], Awaitable[bool]],
        skips: Callable[[str], bool],
        clock: Callable[[], float],
    ) -> None:
        self.globs: tuple[str, ...] = tuple(globs)
        self._globs = Globs(self.globs)
        self.filter: UpdateFilter = filter
        self._hub = hub
        self._patterns = patterns
        self._allows = allows
        self._skips = skips
        self._clock = clock
        self._new: OrderedDict[str, None] = OrderedDict()
        self._heard = asyncio.Event()
        self._starts: OrderedDict[str, Position] = OrderedDict()
        self._denied: OrderedDict[str, float] = OrderedDict()
        self._later: dict[str, asyncio.TimerHandle] = {}
        """Denied executions that had something new: asked about again when the denial is over."""
        self._open: dict[str, Subscription] = {}
        self._rechecks = 0
        self._unlisten: Callable[[], None] | None = None
        self.closed: bool = False

    async def start(self) -> None:
        """From now on nothing is missed. Raises LogUnavailableError when the log cannot be reached."""
        self._unlisten = self._patterns.listen(self._hear)
        try:
            for number, execution_id in enumerate(await self._hub.log.executions(), 1):
                if not number % _AT_ONCE:
                    await asyncio.sleep(0)
                state = await self._hub.describe(execution_id) if self._matches(execution_id) else None
                if state is not None:
                    self._remember(execution_id, Position(state.epoch, state.head))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stops. Harmless when repeated."""
        self.closed = True
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        for subscription in self._open.values():
            subscription.close()
        self._open.clear()
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()
        self._heard.set()

    def stand(self, execution_id: str, position: Position | None) -> None:
        """The connection has read `execution_id` up to `position` by another way: goes on from there.

        It never goes back: what was read before that other way began does not come again.
        """
        self._leave(execution_id)
        if position is not None and self._matches(execution_id):
            known = self._starts.get(execution_id)
            if known is None or known.epoch != position.epoch or known.seq < position.seq:
                self._remember(execution_id, position)
        self._hear(execution_id)

    def narrow(self, filter: UpdateFilter) -> None:
        """From now on less is wanted; nothing of what still is gets lost."""
        self.filter = filter
        for execution_id in (*self._open, *self._later):
            self._leave(execution_id)
            self._hear(execution_id)

    def recheck(self) -> None:
        """What may be read has changed: everything is asked again."""
        self._rechecks += 1
        self._denied.clear()
        for execution_id in (*self._open, *self._later):
            self._leave(execution_id)
            self._hear(execution_id)

    async def pages(self, ready: Callable[[], Awaitable[object]]) -> AsyncGenerator[tuple[Subscription, Page]]:
        """What comes: the subscription of an execution, and its next page. Ends when the follower is closed.

        Nothing is read before `ready`, so that what may no longer be read when that returns is not.
        """
        while not self.closed:
            if not self._new:
                self._heard.clear()
                await self._heard.wait()
                continue
            execution_id, _ = self._new.popitem(last=False)
            try:
                async for found in self._pages_of(execution_id, ready):
                    yield found
            except LogUnavailableError:
                await asyncio.sleep(_PATIENCE)
                self._hear(execution_id)
            except StreamingError:  # a limit of that execution: its next update tries again
                self._leave(execution_id)

    async def may_send(self, subscription: Subscription) -> bool:
        """Whether what was read from `subscription` may still be sent; asked again when that may have changed."""
        while subscription.closed and not self.closed:
            try:
                return await self._allows(subscription.execution_id)
            except LogUnavailableError:
                await asyncio.sleep(_PATIENCE)
        return not self.closed

    async def _pages_of(
        self, execution_id: str, ready: Callable[[], Awaitable[object]]
    ) -> AsyncGenerator[tuple[Subscription, Page]]:
        while True:
            await ready()
            subscription = await self._subscription(execution_id)
            if subscription is None or self.closed or subscription.closed:
                return
            page = await subscription.poll()
            if page is None:
                state = await self._hub.describe(execution_id)
                if state is None or state.ended:
                    self._leave(execution_id)
                return
            yield subscription, page
            if self._new:  # one that has no end must not keep the others waiting
                self._hear(execution_id)
                return

    async def _subscription(self, execution_id: str) -> Subscription | None:
        known = self._open.get(execution_id)
        if self._skips(execution_id):
            return None
        if known is not None:
            return known
        wait = self._denied.get(execution_id, 0.0) - self._clock()
        if wait > 0:
            self._hear_later(execution_id, wait)
            return None
        rechecks = self._rechecks
        allowed = await self._allows(execution_id)
        if rechecks != self._rechecks:  # the answer was about what might be read before
            self._hear(execution_id)
        elif not allowed:
            self._denied[execution_id] = self._clock() + _DENIAL_LIFETIME
            self._bound(self._denied)
        elif not self.closed:
            self._open[execution_id] = self._hub.subscribe(
                execution_id, after=self._starts.get(execution_id), filter=self.filter, follow=True
            )
        return self._open.get(execution_id)

    def _hear_later(self, execution_id: str, wait: float) -> None:
        def hear() -> None:
            del self._later[execution_id]
            self._hear(execution_id)

        if execution_id not in self._later:
            self._later[execution_id] = asyncio.get_running_loop().call_later(wait, hear)

    def _leave(self, execution_id: str) -> None:
        """The execution's run is over, or may not be read any more: only its place is kept."""
        subscription = self._open.pop(execution_id, None)
        if subscription is not None:
            if subscription.position is not None:
                self._remember(execution_id, subscription.position)
            subscription.close()

    def _remember(self, execution_id: str, position: Position) -> None:
        self._starts[execution_id] = position
        self._starts.move_to_end(execution_id)
        self._bound(self._starts)

    @staticmethod
    def _bound(memory: OrderedDict[str, Position] | OrderedDict[str, float]) -> None:
        while len(memory) > _REMEMBERED:
            memory.popitem(last=False)

    def _hear(self, execution_id: str) -> None:
        if execution_id in self._open or self._matches(execution_id):
            self._new[execution_id] = None
            self._heard.set()

    def _matches(self, execution_id: str) -> bool:
        return self._globs.fit(execution_id)
