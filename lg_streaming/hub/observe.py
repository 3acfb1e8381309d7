"""Executions as reactivex observables."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic

import reactivex
from reactivex.disposable import Disposable

from lg_streaming.deadline import Deadline
from lg_streaming.eventloop import forbid_blocking_run, running_loop
from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.hub.carry import Every, EveryRound, P, carry
from lg_streaming.hub.wildcard import WildcardPage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reactivex import Observable
    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

    from lg_streaming.errors import LogUnavailableError
    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub.carry import Pace, PageSource
    from lg_streaming.hub.page import Page
    from lg_streaming.hub.subscription import Subscription
    from lg_streaming.hub.wildcard import WildcardSubscription

__all__ = ["Observers"]

logger: logging.Logger = logging.getLogger(__name__)

_JOIN_TIMEOUT: Final = 1.0
_INTERVAL: Final = 0.002
"""Seconds between two batches to one observer. The first update comes at once. Updates that follow closely share a
batch, and a long history does not block the event loop."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Observed(Generic[P]):
    """The source of one observer's updates."""

    pages: PageSource[P]
    pace: Pace
    name: str
    decode: Callable[[P], Iterable[StreamUpdate]]
    is_closed: Callable[[], bool]
    close: Callable[[], None]
    """End it now. From any thread."""
    finish: Callable[[], None]
    """End it once it has read to the end of the log. From any thread."""
    timeout: float | None = None
    completes: bool = True


class Observers:
    """The running observers of one hub: on the event loop they subscribed from, else on a thread each."""

    def __init__(self) -> None:
        self.errors: int = 0
        """Observers that raised and were detached."""
        self._observed: set[_Observed[Any]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: set[threading.Thread] = set()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the observers of the parent process, which continue there."""
        bury(self._observed, self._tasks)
        self._observed, self._tasks, self._threads = set(), set(), set()

    def observable(self, subscribe: Callable[[], Subscription], *, in_thread: bool) -> Observable[StreamUpdate]:
        """Return a cold observable of one execution: `subscribe` is called for each subscriber."""

        def observed(_: asyncio.AbstractEventLoop) -> _Observed[Page]:
            subscription = subscribe()
            execution_id = subscription.execution_id
            return _Observed(
                pages=subscription,
                pace=Every(_INTERVAL),
                name=f"execution {execution_id!r}",
                decode=lambda page: page.updates(execution_id),
                is_closed=lambda: subscription.closed,
                close=subscription.close,
                finish=subscription.finish,
                timeout=subscription.timeout,
            )

        return self._observable(observed, in_thread=in_thread)

    def observable_of_all(
        self, subscribe: Callable[[asyncio.AbstractEventLoop], WildcardSubscription]
    ) -> Observable[StreamUpdate]:
        """Return a cold observable of many executions, which never completes: `subscribe` is called like above."""

        def observed(loop: asyncio.AbstractEventLoop) -> _Observed[WildcardPage]:
            subscription = subscribe(loop)

            def on_loop(call: Callable[[], None]) -> Callable[[], None]:
                def schedule() -> None:
                    with contextlib.suppress(RuntimeError):  # the loop is closed, and its tasks with it
                        loop.call_soon_threadsafe(call)

                return schedule

            return _Observed(
                pages=subscription,
                pace=EveryRound(_INTERVAL, lambda: subscription.waiting),
                name="all executions",
                decode=WildcardPage.updates,
                is_closed=lambda: subscription.closed,
                close=on_loop(subscription.close),
                finish=on_loop(subscription.finish),
                completes=False,
            )

        return self._observable(observed, in_thread=False)

    def _observable(
        self, observe: Callable[[asyncio.AbstractEventLoop], _Observed[P]], *, in_thread: bool
    ) -> Observable[StreamUpdate]:
        def on_subscribe(
            observer: ObserverBase[StreamUpdate],
            scheduler: SchedulerBase | None = None,  # noqa: ARG001 (part of the Rx signature; the loop schedules)
        ) -> DisposableBase:
            if not in_thread:
                forbid_blocking_run()
            running = None if in_thread else running_loop()
            loop = running or asyncio.new_event_loop()
            try:
                observed = observe(loop)
            except BaseException:
                if running is None:
                    loop.close()
                raise
            self._start(observer, observed, loop, is_running=running is not None)
            return Disposable(observed.close)

        return reactivex.create(on_subscribe)

    def _start(
        self,
        observer: ObserverBase[StreamUpdate],
        observed: _Observed[P],
        loop: asyncio.AbstractEventLoop,
        *,
        is_running: bool,
    ) -> None:
        """Run the pump of an observer as a task of a running loop, or on a thread that runs the loop."""
        pump = self._pump(observer, observed)
        self._observed.add(observed)
        if is_running:

            def done(task: asyncio.Task[None]) -> None:
                self._tasks.discard(task)
                self._observed.discard(observed)

            task = loop.create_task(pump, name=f"lg-streaming observer of {observed.name}")
            self._tasks.add(task)
            task.add_done_callback(done)
            return

        def run() -> None:
            try:
                with asyncio.Runner(loop_factory=lambda: loop) as runner:
                    runner.run(pump)
            finally:
                self._threads.discard(thread)
                self._observed.discard(observed)

        thread = threading.Thread(target=run, name="lg-streaming-observer", daemon=True)
        self._threads.add(thread)
        thread.start()

    async def _pump(self, observer: ObserverBase[StreamUpdate], observed: _Observed[P]) -> None:
        sink = _ObserverSink(observer, observed)
        try:
            async with Deadline(observed.timeout, observed.name):
                await carry(observed.pages, sink, pace=observed.pace)
            if observed.completes and not sink.interrupted:
                observer.on_completed()
        except Exception as error:  # noqa: BLE001 (a gap asked to fail, or the observer's own)
            self._failed(observer, observed.name, error)
        finally:
            observed.close()

    def _failed(self, observer: ObserverBase[StreamUpdate], name: str, error: Exception) -> None:
        self.errors += 1
        logger.warning("an observer of %s is detached after an error: %r", name, error, exc_info=error)
        with contextlib.suppress(Exception):  # where the observer has no handler, reactivex raises the error again
            observer.on_error(error)

    async def aclose(self) -> None:
        """Wait for up to a second until all observers have read to the end of the log."""
        for observed in list(self._observed):
            observed.finish()
        loop = asyncio.get_running_loop()
        if tasks := [task for task in self._tasks if task.get_loop() is loop]:
            await asyncio.wait(tasks, timeout=_JOIN_TIMEOUT)
            for task in tasks:
                task.cancel()
        for thread in list(self._threads):
            await asyncio.to_thread(thread.join, _JOIN_TIMEOUT)


class _ObserverSink(Generic[P]):
    """One observer as the receiver of pages."""

    def __init__(self, observer: ObserverBase[StreamUpdate], observed: _Observed[P]) -> None:
        self._observer = observer
        self._observed = observed
        self.interrupted = False
        """True when the source was closed in the middle of a page, by the observer or another thread."""

    async def wait_writable(self) -> bool:
        return False

    async def send(self, page: P, *, waited: bool) -> None:  # noqa: ARG002 (part of the protocol)
        on_next, is_closed = self._observer.on_next, self._observed.is_closed
        for update in self._observed.decode(page):
            on_next(update)
            if is_closed():
                self.interrupted = True
                return

    async def log_unavailable(self, error: LogUnavailableError) -> None:
        """Wait for the log without a notice."""
