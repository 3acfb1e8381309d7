"""Carry pages of updates from a source to a sink: one loop for every reader that is served.

Readers that pull (`Subscription.next_page`, the long poll of HTTP) have no sink and do not come here.
"""

from __future__ import annotations

import asyncio
import math
import random
from typing import TYPE_CHECKING, Final, Protocol, TypeVar, TypeVarTuple

from lg_streaming.backoff import LOG_BACKOFF
from lg_streaming.errors import LogUnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["DEFAULT_LIMIT", "Every", "EveryRound", "Pace", "PageReceiver", "PageSource", "carry", "read_when_available"]

DEFAULT_LIMIT: Final = 500
"""The most updates of one page."""


class _Ending(Protocol):
    @property
    def ended(self) -> bool: ...


P = TypeVar("P", bound=_Ending)
P_co = TypeVar("P_co", bound=_Ending, covariant=True)
P_contra = TypeVar("P_contra", bound=_Ending, contravariant=True)
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class PageSource(Protocol[P_co]):
    """A cursor over updates: a `Subscription`, or a `WildcardSubscription`."""

    def ready(self) -> Awaitable[None]:
        """Wait until there may be new updates since the last successful `poll`."""
        ...

    def poll(self, limit: int) -> Awaitable[P_co | None]:
        """Return the present page, of up to `limit` updates; None without an update to send.

        Raises:
            LogUnavailableError: If the log cannot be reached. The position is kept.
        """
        ...


class PageReceiver(Protocol[P_contra]):
    """The receiver of a source's pages."""

    def wait_writable(self) -> Awaitable[bool]:
        """Wait until a page may be sent (back-pressure); return whether that took a wait. Called before `poll`."""
        ...

    def send(self, page: P_contra, *, waited: bool) -> Awaitable[None]:
        """Send one page. `waited` is the result of the last `wait_writable`."""
        ...

    def log_unavailable(self, error: LogUnavailableError) -> Awaitable[None]:
        """Handle the first failure of an outage of the log."""
        ...


class Pace(Protocol):
    """Delays between pages."""

    def turn(self, sent_at: float) -> Awaitable[None]:
        """Wait until the next page may be read.

        `sent_at` is the time of the last page, by the loop's clock; minus infinity before the first.
        """
        ...


class Every:
    """At most one page in an interval. It lets the event loop run before each page.

    Args:
        interval: Seconds from the end of one page to the next.
    """

    def __init__(self, interval: float) -> None:
        self._interval = interval

    async def turn(self, sent_at: float) -> None:
        """See `Pace.turn`."""
        await asyncio.sleep(max(0.0, sent_at + self._interval - asyncio.get_running_loop().time()))


class EveryRound:
    """One page of each waiting execution, then a pause: at most one round in an interval.

    It lets the event loop run before each page. So the delay of an execution does not grow by an interval for each
    other execution, and updates that follow closely share a page.

    Args:
        interval: Seconds from the last page of a round to the first of the next.
        waiting: Returns the number of executions with unread updates.
    """

    def __init__(self, interval: float, waiting: Callable[[], int]) -> None:
        self._pause = Every(interval)
        self._waiting = waiting
        self._left = 0

    async def turn(self, sent_at: float) -> None:
        """See `Pace.turn`."""
        if self._left:
            self._left -= 1
            await asyncio.sleep(0)
        else:
            await self._pause.turn(sent_at)
            self._left = max(0, self._waiting() - 1)


async def carry(
    pages: PageSource[P], sink: PageReceiver[P], *, pace: Pace | None = None, limit: int = DEFAULT_LIMIT
) -> P:
    """Send the pages of a source to a sink until one has `ended`; return that page.

    The order matters. A reader that kept the server waiting gets, after the wait, everything that came during it.
    While the log is unavailable, `LOG_BACKOFF` sets the pauses, and the sink is notified once for each outage.

    Args:
        pages: Where pages are read.
        sink: Where pages go.
        pace: Delays between pages; None: no delay, as for a sink that sets its own pace.
        limit: The most updates of one page.

    Raises:
        StreamingError: If nothing more can be read; see `PageSource.poll`.
    """
    now = asyncio.get_running_loop().time
    sent_at = -math.inf
    while True:
        await pages.ready()
        if pace is not None:
            await pace.turn(sent_at)
        waited = await sink.wait_writable()
        try:
            page = await pages.poll(limit)
        except LogUnavailableError as error:
            await sink.log_unavailable(error)
            page = await read_when_available(pages.poll, limit, failures=1)
        if page is None:
            continue
        await sink.send(page, waited=waited)
        if page.ended:
            return page
        sent_at = now()


async def read_when_available(read: Callable[[*Ts], Awaitable[T]], *arguments: *Ts, failures: int = 0) -> T:
    """Return `read(*arguments)`; while the log is unavailable, wait for `LOG_BACKOFF` and try again.

    Args:
        read: A read of the log.
        arguments: The arguments of the read.
        failures: The number of reads that have failed before.
    """
    while True:
        if failures:
            await asyncio.sleep(LOG_BACKOFF.seconds(failures - 1, random.random))
        try:
            return await read(*arguments)
        except LogUnavailableError:
            failures += 1
