"""Reading all executions whose ids match, from a moment on: what `subscribe_events` asks for.

Beginning costs the same however many executions there are: a follower looks at an execution when it has something new,
and the log says then where it was before. What may not be read is asked about now and then, and keeps little memory.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from lg_streaming.errors import ForbiddenError, LogUnavailableError, StreamingError, TooManySubscriptionsError
from lg_streaming.fork import bury, new_lock, restart_after_fork
from lg_streaming.gateway.delivery.denials import Denials
from lg_streaming.globs import Globs
from lg_streaming.hub import Vetting

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from lg_streaming.events import Position
    from lg_streaming.filters import UpdateFilter
    from lg_streaming.hub import Page, StreamHub, Subscription
    from lg_streaming.log.base import LogState, PositionListener

__all__ = ["WildcardNotifier", "WildcardSubscription"]

_REMEMBERED: Final = 10_000
"""Positions of a follower in executions; the ones it read least recently are forgotten."""
_MOST_NEW: Final = 10_000
"""Executions with something new that may wait for a reader."""
_WAKES_AT_ONCE: Final = 1_000
_LOOKS_AT_ONCE: Final = 50
"""Executions that are looked at before the event loop gets its turn."""
_PATIENCE: Final = 0.5
"""Seconds until an execution that could not be read is tried again."""
_OPEN: Final = 128


class _Batch(NamedTuple):
    """What is new, and those who followed when it came."""

    wakes: tuple[PositionListener, ...]
    new: OrderedDict[str, Position | None]


class WildcardNotifier:
    """Tells followers which executions have something new, on their event loop and once for many appends.

    The log is listened to only while somebody follows.
    """

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub
        self._wakes: dict[PositionListener, None] = {}
        self._lock = new_lock()
        self._stop: Callable[[], None] | None = None
        self._reset()
        restart_after_fork(self)

    def _reset(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._new: OrderedDict[str, Position | None] = OrderedDict()
        self._batches: deque[_Batch] = deque()
        self._scheduled = False

    def after_fork(self) -> None:
        """Forget the parent's followers and event loop."""
        bury(self._wakes, self._loop)
        if self._stop is not None:
            self._stop()
        self._wakes, self._stop = {}, None
        self._reset()

    def listen(self, wake: PositionListener) -> Callable[[], None]:
        """Call `wake` for each execution that gets an update from now on; returns what stops that."""
        with self._lock:
            if self._stop is None:
                self._reset()  # state of a former event loop has no owner
                self._loop = asyncio.get_running_loop()
            else:
                self._close_batch()
            self._wakes[wake] = None
        if self._stop is None:
            self._stop = self._hub.log.listen_positions(self._note)

        def unlisten() -> None:
            self._wakes.pop(wake, None)
            if not self._wakes and self._stop is not None:
                self._stop()
                self._stop = None

        return unlisten

    def _close_batch(self) -> None:
        """What came until now is for those who follow now. With the lock."""
        if self._new:
            self._batches.append(_Batch(tuple(self._wakes), self._new))
            self._new = OrderedDict()

    def _note(self, execution_id: str, before: Position | None) -> None:
        """From any thread."""
        loop = self._loop
        with self._lock:
            self._new.setdefault(execution_id, before)
            schedules = not self._scheduled and loop is not None and not loop.is_closed()
            self._scheduled = self._scheduled or schedules
        if schedules and loop is not None:
            loop.call_soon_threadsafe(self._wake_all)

    def _wake_all(self) -> None:
        """Wakes followers, not too many at a time."""
        with self._lock:
            if not self._batches:
                self._close_batch()
        left = _WAKES_AT_ONCE
        while self._batches and left > 0:
            wakes, new = self._batches[0]
            while new and left > 0:
                execution_id, before = new.popitem(last=False)
                for wake in wakes:
                    wake(execution_id, before)
                left -= max(1, len(wakes))
            if not new:
                self._batches.popleft()
        with self._lock:
            self._scheduled = bool(self._batches or self._new)
            again = self._scheduled
        if again:
            asyncio.get_running_loop().call_soon(self._wake_all)


class WildcardSubscription:
    """Reads every execution that matches and may be read, each from where it stood when the follower began.

    What it opens is charged to it, and not to the executions: it has `most_open` of them open at a time, and of the
    others only a place.

    Args:
        hub: Where executions are.
        patterns: Tells what is new.
        globs: Which executions: `*` within a `/` segment, `**` across.
        filter: Which of their updates.
        allows: Whether an execution may be read; asked when it has something new, when it gets another owner or begins
            anew, and again after :meth:`recheck`.
        skips: Whether an execution is none of its business at the moment.
        clock: Seconds, monotonic.
        most_open: How many executions it may have open at a time.
    """

    def __init__(
        self,
        hub: StreamHub,
        patterns: WildcardNotifier,
        *,
        globs: Sequence[str],
        filter: UpdateFilter,
        allows: Callable[[str], Awaitable[bool]],
        skips: Callable[[str], bool],
        clock: Callable[[], float],
        most_open: int = _OPEN,
    ) -> None:
        self.globs: tuple[str, ...] = tuple(globs)
        self._globs = Globs(self.globs)
        self.filter: UpdateFilter = filter
        self._hub = hub
        self._patterns = patterns
        self._allows = allows
        self._skips = skips
        self._most_open = max(1, most_open)
        self._new: OrderedDict[str, None] = OrderedDict()
        self._heard = asyncio.Event()
        self._starts: OrderedDict[str, Position | None] = OrderedDict()
        """Positions before the new updates of executions; None: their beginning."""
        self._read_elsewhere: OrderedDict[str, Position] = OrderedDict()
        self._denials = Denials(clock, self._ask_again)
        self._open: OrderedDict[str, Subscription] = OrderedDict()
        self._rechecks = 0
        self._overrun = False
        self._unlisten: Callable[[], None] | None = None
        self.closed: bool = False

    async def start(self) -> None:
        """Begin to note new updates. Its cost does not depend on the number of executions."""
        self._unlisten = self._patterns.listen(self._note)

    def close(self) -> None:
        """Stops. Harmless when repeated."""
        self.closed = True
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        for subscription in self._open.values():
            subscription.close()
        self._open.clear()
        self._new.clear()
        self._starts.clear()
        self._read_elsewhere.clear()
        self._denials.close()
        self._heard.set()

    def stand(self, execution_id: str, position: Position | None) -> None:
        """The connection has read `execution_id` up to `position` by another way: goes on from there.

        It never goes back: what was read before that other way began does not come again.
        """
        self._leave(execution_id)
        if execution_id not in self._starts:
            # Nothing new is known of. What comes brings its place along, which may be before this one.
            if position is not None and self._matches(execution_id):
                self._read_elsewhere[execution_id] = position
                _bound(self._read_elsewhere)
            return
        known = self._starts[execution_id]
        if position is not None and (known is None or known.epoch != position.epoch or known.seq < position.seq):
            self._remember(execution_id, position)
        self._hear(execution_id)

    def narrow(self, filter: UpdateFilter) -> None:
        """From now on less is wanted; nothing of what still is gets lost."""
        self.filter = filter
        for execution_id in tuple(self._open):
            self._leave(execution_id)
            self._hear(execution_id)

    def recheck(self) -> None:
        """What may be read has changed: everything is asked again."""
        self._rechecks += 1
        for execution_id in tuple(self._open):
            self._leave(execution_id)
            self._hear(execution_id)
        self._denials.forgive()

    async def pages(self, ready: Callable[[], Awaitable[object]]) -> AsyncGenerator[tuple[Subscription, Page]]:
        """What comes: the subscription of an execution, and its next page. Ends when the follower is closed.

        Nothing is read before `ready`, so that what may no longer be read when that returns is not.

        Raises:
            TooManySubscriptionsError: More executions have something new than may wait.
        """
        looks = 0
        while not self.closed:
            if self._overrun:
                raise TooManySubscriptionsError(f"{_MOST_NEW} executions have updates that wait: subscribe to fewer")
            if not self._new:
                self._heard.clear()
                await self._heard.wait()
                continue
            looks += 1
            if not looks % _LOOKS_AT_ONCE:
                await asyncio.sleep(0)
            execution_id, _ = self._new.popitem(last=False)
            try:
                async for found in self._pages_of(execution_id, ready):
                    yield found
            except LogUnavailableError:
                await asyncio.sleep(_PATIENCE)
                self._hear(execution_id)
            except ForbiddenError:
                self._leave(execution_id)
                self._deny(execution_id)
            except StreamingError:  # a limit of its caller: its next update tries again
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
        if self._skips(execution_id):
            return None
        known = self._open.get(execution_id)
        if known is not None:
            self._open.move_to_end(execution_id)
            return known
        if self._denials.holds(execution_id):
            return None
        rechecks = self._rechecks
        state = await self._hub.describe(execution_id)
        allowed = await self._allows(execution_id)
        if rechecks != self._rechecks:  # the answer was about what might be read before
            self._hear(execution_id)
        elif not allowed:
            self._deny(execution_id)
        elif not self.closed:
            self._enter(execution_id, state)
        return self._open.get(execution_id)

    def _enter(self, execution_id: str, state: LogState | None) -> None:
        """Opens an execution, and leaves the one that was quiet for longest where there are too many."""
        while len(self._open) >= self._most_open:
            self._leave(next(iter(self._open)))

        subscription = self._hub.readers.follow(execution_id, after=self._starts.get(execution_id), filter=self.filter)
        subscription.vetting = Vetting(execution_id, state, self._may_go_on)
        self._open[execution_id] = subscription

    async def _may_go_on(self, execution_id: str, _owner: str | None, _now: LogState) -> bool:
        return await self._allows(execution_id)

    def _deny(self, execution_id: str) -> None:
        self._denials.add(execution_id, self._starts.pop(execution_id, None))

    def _ask_again(self, execution_id: str, start: Position | None) -> None:
        """Ask again about an execution whose denial has expired and that has new updates."""
        self._remember(execution_id, start)
        self._hear(execution_id)

    def _leave(self, execution_id: str) -> None:
        """The execution's run is over, or may not be read any more: only its place is kept."""
        subscription = self._open.pop(execution_id, None)
        if subscription is not None:
            if subscription.position is not None:
                self._remember(execution_id, subscription.position)
            subscription.close()

    def _remember(self, execution_id: str, position: Position | None) -> None:
        self._starts[execution_id] = position
        self._starts.move_to_end(execution_id)
        _bound(self._starts)

    def _note(self, execution_id: str, before: Position | None) -> None:
        """An execution has something new, after `before`; None: from its beginning."""
        if self.closed or self._denials.holds(execution_id):
            return
        if execution_id not in self._open:
            if not self._matches(execution_id):
                return
            if execution_id not in self._starts:
                self._remember(execution_id, _later(before, self._read_elsewhere.pop(execution_id, None)))
        self._hear(execution_id)

    def _hear(self, execution_id: str) -> None:
        if self.closed:
            return
        self._new[execution_id] = None
        if len(self._new) > _MOST_NEW:
            self._overrun = True
            self._new.clear()
        self._heard.set()

    def _matches(self, execution_id: str) -> bool:
        return self._globs.fit(execution_id)


def _later(before: Position | None, read: Position | None) -> Position | None:
    """Where to begin with what came after `before`, when everything up to `read` has been read."""
    if read is None or (before is not None and (before.epoch != read.epoch or before.seq > read.seq)):
        return before
    return read


def _bound(memory: OrderedDict[str, Any]) -> None:
    while len(memory) > _REMEMBERED:
        memory.popitem(last=False)
