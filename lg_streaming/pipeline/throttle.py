"""At most one item per interval, and never the last one lost: as an Rx operator, and by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from reactivex import Observable
from reactivex.disposable import CompositeDisposable, Disposable, SerialDisposable

from lg_streaming.pipeline.operators import Source
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from datetime import datetime

    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

__all__ = ["Throttle", "latest_per_interval"]

T = TypeVar("T")


def latest_per_interval(
    interval: Callable[[], float],
    *,
    urgent: Callable[[T], bool],
    lock: threading.RLock,
    scheduler: SchedulerBase,
) -> Callable[[Observable[T]], Observable[T]]:
    """At most one item per interval: the newest, as soon as it may leave.

    An item leaves at once when the interval since the item before is over. Otherwise it is held and leaves when
    the interval is over, unless a newer one took its place. An urgent item leaves at once, in place of the one
    that is held. What is held when the source completes leaves then.

    Args:
        interval: Seconds; asked for each item, so that it may change.
        urgent: Which items do not wait.
        lock: Held while an item leaves by time. The source calls under the same lock.
        scheduler: Gives the time, and runs what is due later.
    """

    def operator(source: Observable[T]) -> Observable[T]:
        def subscribe(observer: ObserverBase[T], _: SchedulerBase | None = None) -> DisposableBase:
            throttle = Throttle(interval, observer.on_next, urgent=urgent, lock=lock, scheduler=scheduler)

            def complete() -> None:
                throttle.flush()
                observer.on_completed()

            items = (
                source.connect(throttle.offer, complete)
                if isinstance(source, Source)
                else source.subscribe(throttle.offer, observer.on_error, complete)
            )
            return CompositeDisposable(items, Disposable(throttle.dispose))

        return Observable(subscribe)

    return operator


class Throttle(Generic[T]):
    """`latest_per_interval` of one source, by hand.

    Args:
        interval: Seconds; asked for each item, so that it may change.
        send: Where an item goes: on the caller's thread, or on the timer's when it leaves by time.
        lock: Held while an item leaves by time. The caller holds the same lock.
        urgent: Which items do not wait; none when not given.
        scheduler: Gives the time, and runs what is due later; the process's timer when not given.
    """

    def __init__(
        self,
        interval: Callable[[], float],
        send: Callable[[T], None],
        *,
        lock: threading.RLock,
        urgent: Callable[[T], bool] | None = None,
        scheduler: SchedulerBase | None = None,
    ) -> None:
        self._send = send
        self._interval = interval
        self._urgent = urgent
        self._lock = lock
        self._scheduler = scheduler or current_timer()
        self._held: list[T] = []
        self._left_at: datetime | None = None
        self._due: datetime | None = None
        self._timer = SerialDisposable()

    def offer(self, item: T) -> None:
        """A new item, in place of the one that is held."""
        now = self._scheduler.now
        due = None if self._left_at is None else self._left_at + self._scheduler.to_timedelta(self._interval())
        if due is None or due <= now or (self._urgent is not None and self._urgent(item)):
            self._leave(item, now)
            return
        self._held = [item]
        if self._due is None or due != self._due:
            self._due = due
            self._timer.disposable = self._scheduler.schedule_relative((due - now).total_seconds(), self._on_time)

    def flush(self) -> None:
        """The item that is held leaves now. A no-op where none is."""
        if self._held:
            self._leave(self._held[0], self._scheduler.now)

    def dispose(self) -> None:
        """Gives up the item that is held."""
        with self._lock:
            self._held = []
        self._timer.dispose()

    def _on_time(self, *_: object) -> None:
        with self._lock:
            self.flush()

    def _leave(self, item: T, now: datetime) -> None:
        self._held = []
        if self._due is not None:
            self._due = None
            self._timer.disposable = Disposable()
        self._left_at = now
        self._send(item)
