"""The reading side of a hub: who subscribes to what, and how they are woken."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal, get_args

from typing_extensions import Unpack

from lg_streaming.deadline import check_timeout
from lg_streaming.errors import BadRequestError, HubClosedError, SubscriberLimitError
from lg_streaming.events import Position, check_execution_id
from lg_streaming.filters import ALL, INTERRUPTED, FilterOptions, UpdateFilter, validate_names
from lg_streaming.fork import bury, new_lock
from lg_streaming.hub.notifier import Notifier
from lg_streaming.hub.observe import Observers
from lg_streaming.hub.statistics import ReaderLag
from lg_streaming.hub.subscription import OnGap, Subscription

if TYPE_CHECKING:
    from collections.abc import Iterable

    from reactivex import Observable

    from lg_streaming.events import StreamUpdate
    from lg_streaming.log.base import EventLog, LogState

__all__ = ["Readers"]


class Readers:
    """Everything that reads: see `StreamHub`, which adds the producers.

    Args:
        log: Where executions are.
        max_per_execution: Subscriptions one execution may have; None for no limit.
    """

    def __init__(self, log: EventLog, max_per_execution: int | None) -> None:
        self._source = log
        self._max_per_execution = max_per_execution
        self._signals: dict[str, Notifier] = {}
        self._subscriptions: set[Subscription] = set()
        self._following: Counter[str] = Counter()  # by execution: readers that are not counted against its limit
        self._delivered_before = 0  # to subscriptions that are closed
        self._readers_lock = new_lock()
        self._reading_is_over = False
        self._leaving = Notifier()  # told of every subscription that closes
        self._observers = Observers()
        self._stop_listening = log.listen(self._on_append)

    def _forget_readers(self) -> None:
        """Forget the parent's subscriptions, which go on there."""
        bury(self._signals, self._subscriptions)
        self._delivered_before += sum(each.delivered for each in self._subscriptions)
        self._signals, self._subscriptions = {}, set()
        self._following = Counter()
        self._leaving = Notifier()

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
        **wanted: Unpack[FilterOptions],
    ) -> Subscription:
        """A reader of an execution: history first, then live. Allowed before the execution starts.

        Args:
            execution_id: The execution to read.
            after: Read what follows this position; ``"latest"`` for what comes from now on; None from the start.
            filter: What to let through; or give ``types`` and ``wanted``.
            types: Exact types and globs.
            follow: Stay after a run's final update and go on with the next run.
            on_gap: What to do when updates after ``after`` are gone: go on at the ``"oldest"`` that is kept, at the
                ``"tail"``, or ``"fail"`` with `GapError`. The first two give the reader a ``gap``.
            timeout: Seconds in all, from the first wait for an update to the end; None: no limit. After them a loop
                over the subscription raises TimeoutError.
            wanted: ``events``, ``node_ids``, ``agent_types``, ``namespaces``, ``categories``, ``min_priority``,
                ``since`` and ``until``, see `FilterOptions`. With ``until="interrupted"`` reading also ends after the
                next ``workflow_interrupted``, so that a run which waits for a human does not hold its reader. Where
                the filter leaves that update out, reading ends at the same place.

        Raises:
            BadRequestError: The id, the filter, ``on_gap`` or ``timeout`` cannot be used.
            BadPositionError: ``after`` is not a position.
            SubscriberLimitError: ``limits.max_subscribers_per_execution`` are reading.
            HubClosedError: The hub was closed.
        """
        check_execution_id(execution_id)
        if on_gap not in get_args(OnGap):
            raise BadRequestError(f"on_gap is one of {', '.join(get_args(OnGap))}, not {on_gap!r:.80}")
        start = after if isinstance(after, Position) or after is None or after == "latest" else Position.parse(after)
        check_timeout(timeout)
        until_interrupted = wanted.get("until") == INTERRUPTED
        return self._subscribe(
            execution_id,
            after="latest" if start == "latest" else start,
            filter=_filter_of(filter, types, wanted),
            follow=follow,
            on_gap=on_gap,
            until_interrupted=until_interrupted,
            timeout=timeout,
        )

    def follow(self, execution_id: str, *, after: Position | None, filter: UpdateFilter) -> Subscription:
        """Open a subscription for a reader of many executions: it stays after a run's final update.

        It does not count against ``limits.max_subscribers_per_execution``: whoever reads many would use up what is the
        execution's own. Its maker bounds how many it has.

        Raises:
            HubClosedError: The hub was closed.
        """
        return self._subscribe(execution_id, after=after, filter=filter, follow=True, on_gap="oldest", counts=False)

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
    ) -> Subscription:
        self._before_reading()
        limit = self._max_per_execution
        with self._readers_lock:
            if self._reading_is_over:
                raise HubClosedError
            signal = self._signals.get(execution_id)
            if signal is None:
                signal = self._signals[execution_id] = Notifier()
            elif counts and limit is not None and signal.readers - self._following[execution_id] >= limit:
                raise SubscriberLimitError(execution_id=execution_id, details={"limit": limit})
            signal.readers += 1
            if not counts:
                self._following[execution_id] += 1
            subscription = Subscription(
                execution_id,
                log=self._source,
                signal=signal,
                after=after,
                filter=ALL if filter == ALL else filter,
                follow=follow,
                on_gap=on_gap,
                on_close=self._unsubscribe if counts else self._unfollow,
                until_interrupted=until_interrupted,
                timeout=timeout,
            )
            self._subscriptions.add(subscription)
        return subscription

    def _before_reading(self) -> None:
        """Runs before each subscription: the hub forgets what is past its time."""

    def _unsubscribe(self, subscription: Subscription, *, counts: bool = True) -> None:
        execution_id = subscription.execution_id
        with self._readers_lock:
            if subscription not in self._subscriptions:
                return  # another thread closed it at the same moment
            self._subscriptions.remove(subscription)
            self._delivered_before += subscription.delivered
            signal = self._signals[execution_id]
            signal.readers -= 1
            if signal.readers == 0:
                del self._signals[execution_id]
            if not counts:
                self._following[execution_id] -= 1
                if not self._following[execution_id]:
                    del self._following[execution_id]
        signal.notify()
        self._leaving.notify()

    def _unfollow(self, subscription: Subscription) -> None:
        self._unsubscribe(subscription, counts=False)

    def observe(
        self,
        execution_id: str,
        *,
        after: Position | str | None = None,
        filter: UpdateFilter | None = None,
        types: Iterable[str] | None = None,
        follow: bool = False,
        on_gap: OnGap = "oldest",
        timeout: float | None = None,
        in_thread: bool = False,
        **wanted: Unpack[FilterOptions],
    ) -> Observable[StreamUpdate]:
        """The execution as a reactivex ``Observable``; the arguments are those of `subscribe`.

        They are checked when somebody subscribes to it. A ``timeout`` ends it with TimeoutError.

        Each subscriber reads at its own pace, so a slow or raising one disturbs nobody; one that raises is
        detached and logged. Called on an event loop, it gets its updates on that loop; elsewhere, or with
        ``in_thread``, on a thread of its own. It completes after the final update.
        """
        return self._observers.observable(
            lambda: self.subscribe(
                execution_id,
                after=after,
                filter=filter,
                types=types,
                follow=follow,
                on_gap=on_gap,
                timeout=timeout,
                **wanted,
            ),
            in_thread=in_thread,
        )

    async def describe(self, execution_id: str) -> LogState | None:
        """State, owner and positions of an execution, or None when it is not known.

        Raises:
            LogUnavailableError: The log cannot be reached.
        """
        return await self._source.state(execution_id)

    async def lag(self) -> ReaderLag:
        """How far all readers together are behind. It asks the log once for each execution that is read.

        Raises:
            LogUnavailableError: The log cannot be reached.
        """
        by_execution: dict[str, list[Subscription]] = {}
        for subscription in list(self._subscriptions):
            by_execution.setdefault(subscription.execution_id, []).append(subscription)
        readers, most, total = 0, 0, 0
        for execution_id, subscriptions in by_execution.items():
            state = await self._source.state(execution_id)
            behind = [each.behind(state) for each in subscriptions] if state is not None else [0] * len(subscriptions)
            readers, most, total = readers + len(behind), max(most, *behind), total + sum(behind)
        return ReaderLag(readers=readers, most=most, total=total)

    def _delivered(self) -> int:
        """Updates that readers took so far."""
        with self._readers_lock:
            return self._delivered_before + sum(each.delivered for each in self._subscriptions)

    def _on_append(self, execution_id: str) -> None:
        signal = self._signals.get(execution_id)
        if signal is not None:
            signal.notify()

    def _read_again(self) -> None:
        """Takes subscriptions again. See `StreamHub.restart`."""
        with self._readers_lock:
            self._reading_is_over = False
            self._stop_listening = self._source.listen(self._on_append)

    async def _let_finish(self, patience: float) -> None:
        """Ends all subscriptions once they have read what there is; returns when they have, or patience is over."""
        with self._readers_lock:
            self._reading_is_over = True
        for subscription in list(self._subscriptions):
            subscription.finish()
        await self._leaving.until(lambda: not self._subscriptions, patience)

    async def _stop_reading(self) -> None:
        """Ends all subscriptions; observers get what is in the log first, for up to a second."""
        await self._let_finish(0.0)
        await self._observers.aclose()
        for subscription in list(self._subscriptions):
            subscription.close()
        self._stop_listening()


def _filter_of(filter: UpdateFilter | None, types: Iterable[str] | None, wanted: FilterOptions) -> UpdateFilter:
    """The filter that was given, or one of the conditions that were."""
    validate_names(wanted)
    conditions = {name: value for name, value in wanted.items() if value is not None}
    if conditions.get("until") == INTERRUPTED:
        del conditions["until"]
    if filter is None:
        return UpdateFilter.of(types=types, **conditions)  # pyright: ignore[reportArgumentType]
    if types is not None or conditions:
        given = ", ".join([*(["types"] if types is not None else []), *conditions])
        raise BadRequestError(f"give a filter, or {given} to make one of, not both")
    return filter
