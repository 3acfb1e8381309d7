"""Subscriptions of executions: open, wake, limit, drain and close them."""

from __future__ import annotations

import functools
import math
import time
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Final, Literal, get_args

from typing_extensions import Unpack

from lg_streaming.deadline import check_timeout
from lg_streaming.errors import BadRequestError, HubClosedError, SubscriberLimitError
from lg_streaming.events import Position, check_execution_id
from lg_streaming.filters import ALL, INTERRUPTED, FilterOptions, UpdateFilter, validate_names
from lg_streaming.fork import bury, new_lock, restart_after_fork
from lg_streaming.hub.notifier import Notifier
from lg_streaming.hub.observe import Observers
from lg_streaming.hub.options import SubscribeOptions
from lg_streaming.hub.page import OnGap
from lg_streaming.hub.statistics import ReaderLag
from lg_streaming.hub.subscription import Subscription
from lg_streaming.hub.wildcard import WildcardSubscription
from lg_streaming.hub.wildcard_notifier import WildcardNotifier
from lg_streaming.log.base import latest_state

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Iterable

    from reactivex import Observable

    from lg_streaming.events import StreamUpdate
    from lg_streaming.log.base import EventLog, LogState

__all__ = ["SubscriptionRegistry"]

_MAX_LEFT: Final = 10_000
"""Executions whose last reader's end is remembered."""


class SubscriptionRegistry:
    """The subscriptions of one hub, and their observers.

    Args:
        log: The log that subscriptions read.
        max_per_execution: The most subscriptions of one execution; None for no limit.
        before_subscribe: Called before each subscription is opened.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        max_per_execution: int | None = None,
        before_subscribe: Callable[[], None] = lambda: None,
    ) -> None:
        self.log = log
        self._max_per_execution = max_per_execution
        self._before_subscribe = before_subscribe
        self._signals: dict[str, Notifier] = {}
        self._unwatch: dict[str, Callable[[], None]] = {}
        self._subscriptions: set[Subscription] = set()
        self._following: Counter[str] = Counter()  # subscriptions of an execution that its limit does not count
        self._reading: Counter[str] = Counter()  # subscriptions of an execution without sinks, and without those
        self._left: OrderedDict[str, float] = OrderedDict()  # times at which the last of these was closed
        self._delivered_before = 0  # to subscriptions that are closed
        self._lock = new_lock()
        self._closing = False
        self._closed_one = Notifier()  # notified of each subscription that closes
        self._observers = Observers()
        self._stop_listening = log.listen(self._on_append)
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the subscriptions of the parent process, which continue there."""
        bury(self._signals, self._subscriptions)
        for each in self._subscriptions:
            each.after_fork()
            self._delivered_before += each.delivered
        self._signals, self._subscriptions, self._unwatch = {}, set(), {}
        self._following, self._reading, self._left = Counter(), Counter(), OrderedDict()
        self._closed_one = Notifier()

    # --- counts -------------------------------------------------------------------------------------------

    @property
    def open(self) -> int:
        """The number of open subscriptions."""
        return len(self._subscriptions)

    def last_read(self, execution_id: str) -> float | None:
        """Return the seconds since the last reader of an execution has left; 0 while it is read.

        None: it had no reader, or its last one read a run to the end, or left before those of 10,000 other executions.
        Sinks and readers of all executions do not count.
        """
        with self._lock:
            if execution_id in self._reading:
                return 0.0
            left = self._left.get(execution_id)
        return None if left is None else time.monotonic() - left

    def count(self, execution_id: str) -> int:
        """Return the number of open subscriptions of an execution."""
        signal = self._signals.get(execution_id)
        return 0 if signal is None else signal.readers

    @property
    def delivered(self) -> int:
        """The number of updates that readers have taken."""
        with self._lock:
            return self._delivered_before + sum(each.delivered for each in self._subscriptions)

    @property
    def observer_errors(self) -> int:
        """The number of observers that raised and were detached."""
        return self._observers.errors

    async def lag(self) -> ReaderLag:
        """Return the lag of all readers together. It asks the log once for each execution that is read.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        by_execution: dict[str, list[Subscription]] = {}
        for subscription in list(self._subscriptions):
            by_execution.setdefault(subscription.execution_id, []).append(subscription)
        readers, most, total = 0, 0, 0
        for execution_id, subscriptions in by_execution.items():
            state = await self.log.state(execution_id)
            lags = [each.lag_at(state) for each in subscriptions] if state is not None else [0] * len(subscriptions)
            readers, most, total = readers + len(lags), max(most, *lags), total + sum(lags)
        return ReaderLag(readers=readers, most=most, total=total)

    # --- subscribing --------------------------------------------------------------------------------------

    def subscribe(
        self,
        execution_id: str,
        *,
        after: Position | str | None = None,
        filter: UpdateFilter | None = None,
        types: Iterable[str] | None = None,
        follow: bool = False,
        on_gap: OnGap = "oldest",
        timeout: float | None = None,
        for_sink: bool = False,
        **conditions: Unpack[FilterOptions],
    ) -> Subscription:
        """Open a subscription. See `StreamHub.subscribe`. One ``for_sink`` does not count in `last_read`."""
        check_execution_id(execution_id)
        if on_gap not in get_args(OnGap):
            raise BadRequestError(f"on_gap is one of {', '.join(get_args(OnGap))}, not {on_gap!r:.80}")
        start = after if isinstance(after, Position) or after is None or after == "latest" else Position.parse(after)
        check_timeout(timeout)
        until_interrupted = conditions.get("until") == INTERRUPTED
        return self._subscribe(
            execution_id,
            after="latest" if start == "latest" else start,
            filter=_to_filter(filter, types, conditions),
            follow=follow,
            on_gap=on_gap,
            until_interrupted=until_interrupted,
            timeout=timeout,
            reads=not for_sink,
        )

    def follow(self, execution_id: str, *, after: Position | None, filter: UpdateFilter) -> Subscription:
        """Open a subscription for a reader of many executions. It stays after a run's final update.

        ``limits.max_subscribers_per_execution`` does not count it: readers of many executions would use up the limit of
        each. The caller bounds the number of these subscriptions.

        Raises:
            HubClosedError: If the hub was closed.
        """
        return self._subscribe(
            execution_id, after=after, filter=filter, follow=True, on_gap="oldest", counts=False, reads=False
        )

    def _subscribe(
        self,
        execution_id: str,
        *,
        after: Position | Literal["latest"] | None,
        filter: UpdateFilter,
        follow: bool,
        on_gap: OnGap,
        until_interrupted: bool = False,
        timeout: float | None = None,
        counts: bool = True,
        reads: bool = True,
    ) -> Subscription:
        self._before_subscribe()
        limit = self._max_per_execution
        with self._lock:
            if self._closing:
                raise HubClosedError
            signal = self._signals.get(execution_id)
            if signal is None:
                self._unwatch[execution_id] = self.log.watch(execution_id)
                signal = self._signals[execution_id] = Notifier()
            elif counts and limit is not None and signal.readers - self._following[execution_id] >= limit:
                raise SubscriberLimitError(execution_id=execution_id, details={"limit": limit})
            signal.readers += 1
            if not counts:
                self._following[execution_id] += 1
            if reads:
                self._reading[execution_id] += 1
                self._left.pop(execution_id, None)
            subscription = Subscription(
                execution_id,
                log=self.log,
                notifier=signal,
                after=after,
                filter=ALL if filter == ALL else filter,
                follow=follow,
                on_gap=on_gap,
                on_close=functools.partial(self._unsubscribe, counts=counts, reads=reads),
                until_interrupted=until_interrupted,
                timeout=timeout,
            )
            self._subscriptions.add(subscription)
        return subscription

    def _unsubscribe(self, subscription: Subscription, *, counts: bool, reads: bool) -> None:
        execution_id = subscription.execution_id
        with self._lock:
            if subscription not in self._subscriptions:
                return  # another thread closed it at the same moment
            self._subscriptions.remove(subscription)
            self._delivered_before += subscription.delivered
            signal = self._signals[execution_id]
            signal.readers -= 1
            if signal.readers == 0:
                del self._signals[execution_id]
                self._unwatch.pop(execution_id)()
            if not counts:
                self._following[execution_id] -= 1
                if not self._following[execution_id]:
                    del self._following[execution_id]
            if reads:
                self._stop_reading(subscription)
        signal.notify()
        self._closed_one.notify()

    def _stop_reading(self, subscription: Subscription) -> None:
        execution_id = subscription.execution_id
        self._reading[execution_id] -= 1
        if self._reading[execution_id]:
            return
        del self._reading[execution_id]
        if not subscription.read_to_end:  # no run is open that it could have left
            self._left[execution_id] = time.monotonic()
            if len(self._left) > _MAX_LEFT:
                self._left.popitem(last=False)

    def observe(
        self, execution_id: str, *, in_thread: bool = False, **options: Unpack[SubscribeOptions]
    ) -> Observable[StreamUpdate]:
        """Return the execution as a reactivex ``Observable``. See `StreamHub.observe`."""
        return self._observers.observable(lambda: self.subscribe(execution_id, **options), in_thread=in_thread)

    def observe_all(
        self, *, filter: UpdateFilter, from_start: Callable[[], Iterable[str]] = tuple
    ) -> Observable[StreamUpdate]:
        """Return the updates of all executions from now on as an observable, which never completes.

        Updates of one execution are in order; between executions there is no order. Called on an event loop, it calls
        its subscribers on that loop; elsewhere, on a thread each.

        Args:
            filter: The updates to read.
            from_start: Called at each subscribe: the executions to read from the beginning of their logs.
        """

        def subscribe(loop: AbstractEventLoop) -> WildcardSubscription:
            # Without a limit of what waits: an observer in this process cannot subscribe to less.
            subscription = WildcardSubscription(
                self, WildcardNotifier(self.log), globs=("**",), filter=filter, max_pending=math.inf
            )
            subscription.start(loop)
            for execution_id in from_start():
                subscription.read_from_start(execution_id)
            return subscription

        return self._observers.observable_of_all(subscribe)

    async def describe(self, execution_id: str, *, latest: bool = False) -> LogState | None:
        """Return state, owner and positions of an execution, or None. See `StreamHub.describe`."""
        return await (latest_state(self.log, execution_id) if latest else self.log.state(execution_id))

    def _on_append(self, execution_id: str) -> None:
        signal = self._signals.get(execution_id)
        if signal is not None:
            signal.notify()

    # --- closing ------------------------------------------------------------------------------------------

    def finish_all(self) -> None:
        """End all subscriptions once they have read to the end of the log. Return at once."""
        for subscription in list(self._subscriptions):
            subscription.finish()

    async def drain(self, at_most: float) -> None:
        """Wait up to ``at_most`` seconds until all subscriptions have read to the end of the log. No new one opens."""
        with self._lock:
            self._closing = True
        self.finish_all()
        await self._closed_one.wait_for(lambda: not self._subscriptions, at_most)

    async def aclose(self) -> None:
        """End all subscriptions. Observers first read to the end of the log, for up to a second."""
        await self.drain(0.0)
        await self._observers.aclose()
        for subscription in list(self._subscriptions):
            subscription.close()
        self._stop_listening()

    def reopen(self) -> None:
        """Allow subscriptions again."""
        with self._lock:
            self._closing = False
            self._stop_listening = self.log.listen(self._on_append)


def _to_filter(filter: UpdateFilter | None, types: Iterable[str] | None, conditions: FilterOptions) -> UpdateFilter:
    """Return the filter that was passed, or one of the conditions that were passed."""
    validate_names(conditions)
    used = {name: value for name, value in conditions.items() if value is not None}
    if used.get("until") == INTERRUPTED:
        del used["until"]
    if filter is None:
        return UpdateFilter.of(types=types, **used)  # pyright: ignore[reportArgumentType]
    if types is not None or used:
        names = ", ".join([*(["types"] if types is not None else []), *used])
        raise BadRequestError(f"give a filter, or {names} to make one of, not both")
    return filter
