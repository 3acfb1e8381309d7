"""The buffer that flushes by time, by number of items, or on demand; also as an Rx operator."""

from __future__ import annotations

import asyncio
import contextlib
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Generic, Literal, NamedTuple, Protocol, TypeVar

from reactivex import Observable
from reactivex.disposable import CompositeDisposable, Disposable

from lg_streaming.eventloop import running_loop
from lg_streaming.fork import new_rlock
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable
    from datetime import datetime

    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

__all__ = ["BufferPolicy", "FixedWindow", "Source", "TimedBuffer", "Window", "buffer"]

T = TypeVar("T")

BufferPolicy = Literal["interval", "pause", "latest"]
"""The time of a flush: ``interval`` seconds after the first item, after the last one (``pause``), or after the flush
before (``latest``). Of items that wait, ``latest`` keeps the newest only."""

_EARLY: Final = timedelta(milliseconds=1)
"""Seconds by which a timer may fire early, because its times are rounded."""
_RETRY: Final = 0.005
"""Seconds until the timer tries a lock again that another thread holds."""


class Window(Protocol):
    """The bounds of a buffer. They are read anew for each item, so they may change."""

    @property
    def size(self) -> float:
        """The number of items at which the buffer flushes."""
        ...

    @property
    def interval(self) -> float:
        """Seconds, see `BufferPolicy`. 0: each item leaves at once."""
        ...


class FixedWindow(NamedTuple):
    """Bounds that do not change."""

    size: float
    interval: float


def _ignore(*_: object) -> None:
    """Ignore an item without a subscriber."""


def _never(_: object) -> bool:
    return False


class Source(Observable[T]):
    """The beginning of a chain of operators, with one subscriber.

    A ``reactivex.Subject`` serves any number of subscribers, at the price of two locks an item. The caller of a source
    gives its items one at a time.
    """

    def __init__(self) -> None:
        self.on_next: Callable[[T], None] = _ignore
        """Gives an item; a no-op without a subscriber."""
        self.on_completed: Callable[[], None] = _ignore
        """Ends the chain; a no-op without a subscriber."""
        super().__init__(self._begin)

    def connect(self, on_next: Callable[[T], None], on_completed: Callable[[], None] = _ignore) -> DisposableBase:
        """Give the items to an operator directly: `subscribe` puts an observer between the two."""
        self.on_next, self.on_completed = on_next, on_completed
        return Disposable(self._end)

    def _begin(self, observer: ObserverBase[T], _: SchedulerBase | None = None) -> DisposableBase:
        return self.connect(observer.on_next, observer.on_completed)

    def _end(self) -> None:
        self.on_next = self.on_completed = _ignore


class TimedBuffer(Generic[T]):
    """A buffer that passes its items to ``send`` as lists, in order, and never an empty list.

    It flushes when it has ``window.size`` items, when its time is due (see `BufferPolicy`), with an item that is
    ``urgent``, and on `flush`. Several threads may add items; lists are sent one at a time.

    Args:
        send: The destination of the lists: on the caller's thread, or on the timer's.
        window: The bounds, read anew for each item.
        policy: The rule for the time.
        urgent: Returns whether an item is sent at once, with the buffered ones. None: no item is urgent.
        lock: A lock that callers of `put_locked` hold; a new one when not given.
        scheduler: The timer, and its clock; the process's timer when not given. One action of a buffer waits on it.
        loop: The event loop on which lists are sent that are flushed by time.
    """

    __slots__ = (
        "_due",
        "_held",
        "_loop",
        "_policy",
        "_rings_at",
        "_scheduler",
        "_send",
        "_sent_at",
        "_timer",
        "_urgent",
        "_waits_with",
        "_window",
        "lock",
    )

    def __init__(
        self,
        send: Callable[[list[T]], object],
        window: Window,
        *,
        policy: BufferPolicy = "interval",
        urgent: Callable[[T], bool] | None = None,
        lock: threading.RLock | None = None,
        scheduler: SchedulerBase | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self._send = send
        self._window = window
        self._policy = policy
        self._waits_with: float = 1 if policy == "interval" else math.inf
        """The number of items up to which each new item schedules the flush."""
        self._urgent: Callable[[T], bool] = urgent or _never
        # held while a list leaves, so that lists keep their order; a publisher may come back in
        self.lock: threading.RLock = lock or new_rlock()
        self._scheduler = scheduler or current_timer()
        self._loop = loop
        self._held: list[T] = []
        self._sent_at: datetime | None = None
        self._due = self._rings_at = self._scheduler.now
        self._timer: DisposableBase | None = None

    def put(self, item: T) -> None:
        """Add an item."""
        with self.lock:
            self.put_locked(item)

    def put_locked(self, item: T) -> None:
        """Add an item, for a caller that holds the lock."""
        window = self._window
        held = self._held
        held.append(item)
        if window.interval <= 0 or self._urgent(item) or len(held) >= window.size:
            self._held = []
            if self._policy == "latest":
                self._note_sent(held)
            self._send(held)
        elif len(held) <= self._waits_with:
            self._wait(window.interval)

    def _note_sent(self, held: list[T]) -> None:
        self._sent_at = self._scheduler.now
        del held[:-1]

    def _wait(self, interval: float) -> None:
        """Schedule the flush. A timer that fires too early is scheduled again."""
        now = since = self._scheduler.now
        if self._policy == "latest":
            del self._held[:-1]
            since = self._sent_at
            if since is None or since + timedelta(seconds=interval) <= now:
                self._flush()
                return
        self._due = due = since + timedelta(seconds=interval)
        if self._timer is None or due < self._rings_at:
            self._stop_timer()
            self._schedule((due - now).total_seconds(), due)

    def _schedule(self, seconds: float, due: datetime) -> None:
        self._rings_at = due
        self._timer = self._scheduler.schedule_relative(seconds, self._on_timer)

    def _on_timer(self, scheduler: SchedulerBase, state: object = None) -> None:  # noqa: ARG002 (Rx's signature)
        if not self.lock.acquire(blocking=False):  # one stuck stream must not hold up the timer of all
            self._timer = scheduler.schedule_relative(_RETRY, self._on_timer)
            return
        try:
            self._timer = None
            if not self._held:
                return
            early = self._due - scheduler.now
            if early > _EARLY:
                self._schedule(early.total_seconds(), self._due)
            elif self._loop is None:
                self._flush()
            else:
                with contextlib.suppress(RuntimeError):  # the loop is closed, and its subscribers with it
                    self._loop.call_soon_threadsafe(self._flush_on_loop)
        finally:
            self.lock.release()

    def _flush_on_loop(self) -> None:
        with self.lock:
            if self._timer is None:
                self._flush()

    def _flush(self) -> None:
        held = self._held
        if held:
            self._held = []
            if self._policy == "latest":
                self._note_sent(held)
            self._send(held)

    def flush(self, _: object = None) -> None:
        """Send all buffered items. A no-op for an empty buffer."""
        with self.lock:
            self._flush()
            self._stop_timer()

    def stop(self) -> None:
        """Drop all buffered items."""
        with self.lock:
            self._stop_timer()
            self._held.clear()

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.dispose()


def buffer(
    window: Window,
    *,
    policy: BufferPolicy = "interval",
    urgent: Callable[[T], bool] | None = None,
    flush: Source[None] | None = None,
    scheduler: SchedulerBase | None = None,
    lock: threading.RLock | None = None,
    on_loop: bool = False,
) -> Callable[[Observable[T]], Observable[list[T]]]:
    """Return the operator that buffers items in a `TimedBuffer`. The end or an error of the source flushes it, too.

    Args:
        window: See `TimedBuffer`.
        policy: See `TimedBuffer`.
        urgent: See `TimedBuffer`.
        flush: Each of its items flushes the buffer.
        scheduler: See `TimedBuffer`; that of the subscription when not given.
        lock: The lock that the source's caller holds with each item; None: each item takes a lock.
        on_loop: Without a ``scheduler``, send lists that are flushed by time on the event loop of the subscriber.
    """

    def operator(source: Observable[T]) -> Observable[list[T]]:
        def subscribe(observer: ObserverBase[list[T]], scheduler_: SchedulerBase | None = None) -> DisposableBase:
            loop = running_loop() if on_loop and scheduler is None else None
            items = TimedBuffer(
                observer.on_next,
                window,
                policy=policy,
                urgent=urgent,
                lock=lock,
                scheduler=scheduler or scheduler_,
                loop=loop,
            )

            def complete() -> None:
                with items.lock:
                    items.flush()
                    observer.on_completed()

            def fail(error: Exception) -> None:
                with items.lock:
                    items.flush()
                    observer.on_error(error)

            put = items.put if lock is None else items.put_locked
            if isinstance(source, Source):
                given = source.connect(put, complete)
            else:
                given = source.subscribe(put, fail, complete, scheduler=scheduler_)
            flushes = Disposable() if flush is None else flush.connect(items.flush)
            return CompositeDisposable(flushes, given, Disposable(items.stop))

        return Observable(subscribe)

    return operator
