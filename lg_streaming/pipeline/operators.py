"""Operators the pipelines share, and the safe way to call what a user gave."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from reactivex import Observable
from reactivex.disposable import CompositeDisposable, Disposable

from lg_streaming.errors import describe_error, describe_without_message
from lg_streaming.fork import new_lock, new_rlock

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

    from lg_streaming.emitter import Emitter

__all__ = ["SafeCallable", "Source", "Window", "hold"]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_EARLY: Final = timedelta(milliseconds=1)
"""A timer that rings this much too early, by rounding, counts as in time."""
_RETRY: Final = 0.005


def _ignore(*_: object) -> None:
    """Takes what nothing is subscribed to."""


class Source(Observable[T]):
    """The beginning of a chain of operators: gives its items to its one subscriber.

    A ``reactivex.Subject`` serves any number of subscribers, and pays for that with two locks an item. Here whoever
    gives the items sees to it that they come one at a time.
    """

    def __init__(self) -> None:
        self.on_next: Callable[[T], None] = _ignore
        """Gives an item; a no-op without a subscriber."""
        self.on_completed: Callable[[], None] = _ignore
        """Ends the chain; a no-op without a subscriber."""
        super().__init__(self._begin)

    def connect(self, on_next: Callable[[T], None], on_completed: Callable[[], None] = _ignore) -> DisposableBase:
        """Give the items to an operator directly: `subscribe` puts an observer of its own between the two."""
        self.on_next, self.on_completed = on_next, on_completed
        return Disposable(self._end)

    def _begin(self, observer: ObserverBase[T], _: SchedulerBase | None = None) -> DisposableBase:
        return self.connect(observer.on_next, observer.on_completed)

    def _end(self) -> None:
        self.on_next = self.on_completed = _ignore


class Window(Protocol):
    """How much `hold` holds, and for how long. Read anew for each item, so it may change."""

    @property
    def size(self) -> int:
        """Items; with this many, all leave."""
        ...

    @property
    def interval(self) -> float:
        """Seconds the first item is held at most. 0: nothing is held."""
        ...


def hold(
    window: Window,
    *,
    urgent: Callable[[T], bool],
    flush: Observable[Any],
    scheduler: SchedulerBase,
    lock: threading.RLock | None = None,
) -> Callable[[Observable[T]], Observable[list[T]]]:
    """Holds items and lets them go together, in order, as lists.

    All that is held leaves when there are ``window.size`` items, when the first has been held for
    ``window.interval`` seconds, with an item that is ``urgent``, when ``flush`` emits, and at the end. Nothing is
    dropped, and no list is empty. Items may come from several threads; lists leave one at a time.

    Args:
        window: How much is held, and for how long.
        urgent: Whether an item leaves at once, together with what is held.
        flush: Whatever it emits lets go of what is held.
        scheduler: Times ``window.interval``; at most one action waits on it for each subscription.
        lock: The lock that the giver of the items holds while it gives one; None: each item takes a lock.
    """

    def operator(source: Observable[T]) -> Observable[list[T]]:
        def subscribe(observer: ObserverBase[list[T]], scheduler_: SchedulerBase | None = None) -> DisposableBase:
            holder = _Holder(observer, window, urgent, scheduler, lock or new_rlock())
            on_next = holder.on_next if lock is None else holder.on_next_locked
            if isinstance(flush, Source):
                flushes = flush.connect(holder.flush)
            else:
                flushes = flush.subscribe(holder.flush, scheduler=scheduler_)
            if isinstance(source, Source):
                items = source.connect(on_next, holder.on_completed)
            else:
                items = source.subscribe(on_next, observer.on_error, holder.on_completed, scheduler=scheduler_)
            return CompositeDisposable(flushes, items, Disposable(holder.stop))

        return Observable(subscribe)

    return operator


class _Holder(Generic[T]):
    def __init__(
        self,
        observer: ObserverBase[list[T]],
        window: Window,
        urgent: Callable[[T], bool],
        scheduler: SchedulerBase,
        lock: threading.RLock,
    ) -> None:
        self._observer = observer
        self._window = window
        self._urgent = urgent
        self._scheduler = scheduler
        # held while a list leaves, so that lists keep their order; whoever publishes may come back in
        self._lock = lock
        self._held: list[T] = []
        self._due = scheduler.now
        self._timer: DisposableBase | None = None

    def on_next(self, item: T) -> None:
        with self._lock:
            self.on_next_locked(item)

    def on_next_locked(self, item: T) -> None:
        window, held = self._window, self._held
        held.append(item)
        if self._urgent(item) or len(held) >= window.size or window.interval <= 0:
            self._let_go()
        elif len(held) == 1:
            self._wait(window.interval)

    def _wait(self, interval: float) -> None:
        """Sees to it that what is held leaves in time. A timer that rings earlier than that is wound up again."""
        self._due = self._scheduler.now + timedelta(seconds=interval)
        if self._timer is None:
            self._timer = self._scheduler.schedule_relative(interval, self._ring)

    def _ring(self, scheduler: SchedulerBase, state: object = None) -> None:  # noqa: ARG002 (Rx's signature)
        if not self._lock.acquire(blocking=False):  # one stuck stream must not hold up the timer of all
            self._timer = scheduler.schedule_relative(_RETRY, self._ring)
            return
        try:
            self._timer = None
            if not self._held:
                return
            early = self._due - scheduler.now
            if early > _EARLY:
                self._timer = scheduler.schedule_relative(early.total_seconds(), self._ring)
            else:
                self._let_go()
        finally:
            self._lock.release()

    def _let_go(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._observer.on_next(held)

    def flush(self, _: object = None) -> None:
        with self._lock:
            self._let_go()
            self._stop_timer()

    def on_completed(self) -> None:
        with self._lock:
            self._let_go()
            self._stop_timer()
            self._observer.on_completed()

    def stop(self) -> None:
        with self._lock:
            self._stop_timer()
            self._held.clear()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.dispose()


class SafeCallable:
    """Calls what a user gave to a node's decorator; what it raises never reaches the node.

    The first failure of an option in a try of a node is one ``error`` update, ``{message, type, code, option,
    node_id}``, and is logged. Later ones are counted, and the count is told in one more at the end.
    """

    __slots__ = ("_emitter", "_failures", "_lock")

    def __init__(self, emitter: Emitter) -> None:
        self._emitter = emitter
        self._failures: dict[str, int] = {}
        self._lock = new_lock()

    @property
    def failures(self) -> int:
        """Calls that failed, of all options."""
        return sum(self._failures.values())

    def call(self, option: str, function: Callable[..., R], *arguments: object, instead: R) -> R:
        """``function(*arguments)``; ``instead`` when it raises."""
        try:
            return function(*arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (it is the user's and may raise anything)
            self.failed(option, error)
            return instead

    def failed(self, option: str, error: BaseException) -> None:
        """Notes that the call of an option failed."""
        with self._lock:
            count = self._failures[option] = self._failures.get(option, 0) + 1
        self._emitter.note_failure()
        if count == 1:
            node_id = self._emitter.scope.node_id
            if option == "redact":  # its error may hold what it was to take out
                logger.warning(
                    "redact of node %r raised, the data is withheld: %s", node_id, describe_without_message(error)
                )
                self._say(option, {"message": "redact failed: the data is withheld", "type": type(error).__name__})
                return
            logger.warning("%s of node %r raised; what it was given passes as it was", option, node_id, exc_info=error)
            self._say(option, describe_error(error))

    def close(self) -> None:
        """Tells how often options failed that failed more than once."""
        with self._lock:
            again = {option: count for option, count in self._failures.items() if count > 1}
        for option, count in again.items():
            self._say(option, {"message": f"{option} failed {count} times", "count": count})

    def _say(self, option: str, details: dict[str, Any]) -> None:
        scope = self._emitter.scope
        data = {**details, "code": f"{option}_failed", "option": option, "node_id": scope.node_id}
        self._emitter.send("error", data, scope, priority="high")
