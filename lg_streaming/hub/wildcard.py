"""Wildcard subscriptions: to all executions whose ids match a pattern, from a moment on (`subscribe_events`).

The cost of a start does not depend on the number of executions. A subscription opens an execution when that has a new
update; the log's notification has the position before it.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from lg_streaming.errors import ForbiddenError, LogUnavailableError, StreamingError, TooManySubscriptionsError
from lg_streaming.globs import Globs
from lg_streaming.hub.carry import DEFAULT_LIMIT, read_when_available
from lg_streaming.hub.denials import Denials
from lg_streaming.hub.page import Page
from lg_streaming.hub.vetting import Vetting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from lg_streaming.events import Position, StreamUpdate
    from lg_streaming.filters import UpdateFilter
    from lg_streaming.hub.subscription import Subscription
    from lg_streaming.hub.wildcard_notifier import WildcardNotifier
    from lg_streaming.log.base import LogState

__all__ = ["Executions", "WildcardPage", "WildcardSubscription"]

_MAX_POSITIONS: Final = 10_000
"""Positions of executions without unread updates that a subscription keeps; the least recently used are evicted."""
_MAX_PENDING: Final = 10_000
"""The default of `max_pending`."""
_MAX_LOOKS: Final = 50
"""Executions that are checked before other tasks of the event loop may run."""
_MAX_OPEN: Final = 128


class Executions(Protocol):
    """The source of executions. `SubscriptionRegistry` implements it."""

    def follow(self, execution_id: str, *, after: Position | None, filter: UpdateFilter) -> Subscription:
        """Open a subscription that stays after a run's final update, and that the execution's limit does not count."""
        ...

    def describe(self, execution_id: str) -> Awaitable[LogState | None]:
        """Return state, owner and positions of an execution; None when it does not exist."""
        ...


class WildcardPage(NamedTuple):
    """A page of one execution of a wildcard subscription."""

    subscription: Subscription | None
    """The subscription of the execution; None after the end."""
    page: Page

    @property
    def ended(self) -> bool:
        """True at the end: no page of any execution follows."""
        return self.subscription is None

    def updates(self) -> list[StreamUpdate]:
        """Return the updates of the page, decoded; see `Page.updates`."""
        return [] if self.subscription is None else self.page.updates(self.subscription.execution_id)


_END: Final = WildcardPage(None, Page((), None, ended=True))


class WildcardSubscription:
    """A page source over every execution that matches and may be read, each from its position at the start.

    The executions it opens count against its own limit, and not against those of the executions. It has `max_open` of
    them open at a time, and keeps only a position of the others. Use it on one event loop.

    Args:
        executions: The source of executions.
        notifier: The source of notifications about new updates.
        globs: Patterns of execution ids: `*` within a `/` segment, `**` across.
        filter: The updates to read.
        allows: The check of rights: whether an execution may be read. Called when the execution has a new update, when
            it gets another owner or begins anew, and again after :meth:`reauthorize`. None: all may be read.
        skips: The check whether an execution is read elsewhere at the moment. None: no execution is.
        clock: Seconds, monotonic.
        max_open: The most executions that are open at a time.
        max_pending: The most executions with unread updates that may wait for the reader.
    """

    def __init__(
        self,
        executions: Executions,
        notifier: WildcardNotifier,
        *,
        globs: Sequence[str],
        filter: UpdateFilter,
        allows: Callable[[str], Awaitable[bool]] | None = None,
        skips: Callable[[str], bool] | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_open: int = _MAX_OPEN,
        max_pending: float = _MAX_PENDING,
    ) -> None:
        self.globs: tuple[str, ...] = tuple(globs)
        self.filter: UpdateFilter = filter
        self.closed: bool = False
        self._globs = Globs(self.globs)
        self._executions = executions
        self._notifier = notifier
        self._allows = allows or _allow
        self._skips = skips or _skip_nothing
        self._max_open = max(1, max_open)
        self._max_pending = max_pending
        self._pending: OrderedDict[str, None] = OrderedDict()
        self._wakeup = asyncio.Event()
        self._starts: OrderedDict[str, Position | None] = OrderedDict()
        """Positions before the unread updates of executions; None: their beginning."""
        self._read_elsewhere: OrderedDict[str, Position] = OrderedDict()
        self._denials = Denials(clock, self._ask_again)
        self._open: OrderedDict[str, Subscription] = OrderedDict()
        self._authorizations = 0
        self._overrun = False
        self._finishing = False
        self._looks = 0
        self._unlisten: Callable[[], None] | None = None

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Start to record new updates, on the running event loop or on `loop`, which may start later."""
        self._unlisten = self._notifier.listen(self._on_update, loop)

    def finish(self) -> None:
        """End the subscription once it has read to the end of the log; for a hub that closes."""
        self._finishing = True
        self._wakeup.set()

    def close(self) -> None:
        """End the subscription and wake its reader. Harmless when repeated."""
        self.closed = True
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        for subscription in self._open.values():
            subscription.close()
        self._open.clear()
        self._pending.clear()
        self._starts.clear()
        self._read_elsewhere.clear()
        self._denials.close()
        self._wakeup.set()

    @property
    def waiting(self) -> int:
        """The number of executions that may have unread updates."""
        return len(self._pending)

    # --- the source, see `PageSource` ---------------------------------------------------------------------------

    async def ready(self) -> None:
        """Wait until an execution may have updates, or the subscription was closed."""
        if not (self._pending or self._overrun or self._finishing or self.closed):
            self._wakeup.clear()
            await self._wakeup.wait()

    async def poll(self, limit: int = DEFAULT_LIMIT) -> WildcardPage | None:
        """Return the next page of the next execution; None if that has no update for the reader.

        Raises:
            TooManySubscriptionsError: If more executions have unread updates than may wait.
            LogUnavailableError: If the log cannot be reached. No update is lost: call again later.
        """
        if self._overrun:
            count = self._max_pending
            raise TooManySubscriptionsError(f"{count} executions have updates that wait: subscribe to fewer")
        if self.closed:
            return _END
        self._looks += 1
        if not self._looks % _MAX_LOOKS:
            await asyncio.sleep(0)
        if not self._pending:
            if self._finishing:
                self.close()
            return None
        execution_id, _ = self._pending.popitem(last=False)
        try:
            return await self._page_of(execution_id, limit)
        except LogUnavailableError:
            self._enqueue(execution_id)
            raise
        except ForbiddenError:
            self._leave(execution_id)
            self._deny(execution_id)
        except StreamingError:  # a limit of the reader: the next update of the execution tries again
            self._leave(execution_id)
        return None

    async def _page_of(self, execution_id: str, limit: int) -> WildcardPage | None:
        subscription = await self._subscription(execution_id)
        if subscription is None or self.closed or subscription.closed:
            return None
        page = await subscription.poll(limit)
        if subscription.closed:  # left during the read: its position is before the page, which is read again
            return None
        if page is None:
            state = await self._executions.describe(execution_id)
            if state is None or state.ended:
                self._leave(execution_id)
            return None
        if page.ended:  # the hub closes
            self._leave(execution_id)
        else:  # after the others, so that an execution without end does not keep them waiting
            self._enqueue(execution_id)
        return WildcardPage(subscription, page)

    async def may_send(self, subscription: Subscription) -> bool:
        """Return whether a page of `subscription` may still be sent; check again if rights may have changed."""
        if subscription.closed and not self.closed:
            return await read_when_available(self._allows, subscription.execution_id) and not self.closed
        return not self.closed

    # --- changes while it is read -------------------------------------------------------------------------------

    def read_from_start(self, execution_id: str) -> None:
        """Read an execution from the beginning of its log, including updates that were read before."""
        self._leave(execution_id)
        self._remember(execution_id, None)
        self._enqueue(execution_id)

    def skip_to(self, execution_id: str, position: Position | None) -> None:
        """Continue after `position`, up to which the connection has read `execution_id` by another subscription.

        The position never decreases: updates that were read before that other subscription began are not repeated.
        """
        self._leave(execution_id)
        if execution_id not in self._starts:
            # No new update was noted. The next one brings its position along, which may be before this one.
            if position is not None and self._globs.matches(execution_id):
                self._read_elsewhere[execution_id] = position
                self._evict(self._read_elsewhere)
            return
        start = self._starts[execution_id]
        if position is not None and (start is None or start.epoch != position.epoch or start.seq < position.seq):
            self._remember(execution_id, position)
        self._enqueue(execution_id)

    def narrow(self, filter: UpdateFilter) -> None:
        """Continue with a narrower filter; no update that passes it is lost."""
        self.filter = filter
        self._reopen()

    def reauthorize(self) -> None:
        """Check the rights to every execution again."""
        self._authorizations += 1
        self._reopen()
        self._denials.expire_all()

    def _reopen(self) -> None:
        for execution_id in tuple(self._open):
            self._leave(execution_id)
            self._enqueue(execution_id)

    # --- executions ---------------------------------------------------------------------------------------------

    async def _subscription(self, execution_id: str) -> Subscription | None:
        """Return the subscription of an execution, and open it if the execution may be read."""
        if self._skips(execution_id):
            return None
        existing = self._open.get(execution_id)
        if existing is not None:
            self._open.move_to_end(execution_id)
            return existing
        if self._denials.holds(execution_id):
            return None
        authorizations = self._authorizations
        state = await self._executions.describe(execution_id)
        allowed = await self._allows(execution_id)
        if authorizations != self._authorizations:  # the answer is about former rights
            self._enqueue(execution_id)
        elif not allowed:
            self._deny(execution_id)
        elif not self.closed:
            self._enter(execution_id, state)
        return self._open.get(execution_id)

    def _enter(self, execution_id: str, state: LogState | None) -> None:
        """Open an execution; above the maximum, close the executions that were idle for longest."""
        while len(self._open) >= self._max_open:
            self._leave(next(iter(self._open)))
        subscription = self._executions.follow(execution_id, after=self._starts.get(execution_id), filter=self.filter)
        subscription.vetting = Vetting(execution_id, state, self._allows_next)
        self._open[execution_id] = subscription

    async def _allows_next(self, execution_id: str, _owner: str | None, _now: LogState) -> bool:
        return await self._allows(execution_id)

    def _leave(self, execution_id: str) -> None:
        """Close an execution, and keep only its position."""
        subscription = self._open.pop(execution_id, None)
        if subscription is not None:
            if subscription.position is not None:
                self._remember(execution_id, subscription.position)
            subscription.close()

    def _deny(self, execution_id: str) -> None:
        self._denials.add(execution_id, self._starts.pop(execution_id, None))

    def _ask_again(self, execution_id: str, start: Position | None) -> None:
        """Check again an execution whose denial has expired and that has new updates."""
        self._remember(execution_id, _later(start, self._read_elsewhere.pop(execution_id, None)))
        self._enqueue(execution_id)

    def _remember(self, execution_id: str, position: Position | None) -> None:
        self._starts[execution_id] = position
        self._starts.move_to_end(execution_id)
        self._evict(self._starts)

    def _evict(self, positions: OrderedDict[str, Any]) -> None:
        while len(positions) > _MAX_POSITIONS + len(self._pending):
            positions.popitem(last=False)

    def _on_update(self, execution_id: str, before: Position | None) -> None:
        """Record that an execution has new updates after `before`; None: from its beginning."""
        if self.closed or self._denials.holds(execution_id):
            return
        if execution_id not in self._open:
            if not self._globs.matches(execution_id):
                return
            if execution_id in self._starts:
                self._starts.move_to_end(execution_id)  # it is needed: without it, reading would begin at the start
            else:
                self._remember(execution_id, _later(before, self._read_elsewhere.pop(execution_id, None)))
        self._enqueue(execution_id)

    def _enqueue(self, execution_id: str) -> None:
        if self.closed:
            return
        self._pending[execution_id] = None
        if len(self._pending) > self._max_pending:
            self._overrun = True
            self._pending.clear()
        self._wakeup.set()


async def _allow(execution_id: str) -> bool:  # noqa: ARG001 (part of the type)
    return True


def _skip_nothing(execution_id: str) -> bool:  # noqa: ARG001 (part of the type)
    return False


def _later(before: Position | None, read: Position | None) -> Position | None:
    """Return the later of two positions: before new updates, and after read ones. Across epochs, return `before`."""
    if read is None or (before is not None and (before.epoch != read.epoch or before.seq > read.seq)):
        return before
    return read
