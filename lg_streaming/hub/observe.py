"""Executions as reactivex observables."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING, Final

import reactivex
from reactivex.disposable import Disposable

from lg_streaming.deadline import Deadline
from lg_streaming.eventloop import forbid_blocking_run
from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.hub.carry import Every, carry

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import Observable
    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

    from lg_streaming.errors import LogUnavailableError
    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub.page import Page
    from lg_streaming.hub.subscription import Subscription

__all__ = ["Observers"]

logger: logging.Logger = logging.getLogger(__name__)

_JOIN_TIMEOUT: Final = 1.0
_INTERVAL: Final = 0.002
"""Seconds between two batches to one observer. The first update comes at once. Updates that follow closely share a
batch, and a long history does not block the event loop."""


class Observers:
    """The running observers of one hub: on the event loop they subscribed from, else on a thread each."""

    def __init__(self) -> None:
        self.errors: int = 0
        """Observers that raised and were detached."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: set[threading.Thread] = set()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's observers, which go on there."""
        bury(self._tasks)
        self._tasks, self._threads = set(), set()

    def observable(self, subscribe: Callable[[], Subscription], *, in_thread: bool) -> Observable[StreamUpdate]:
        """Return a cold observable: `subscribe` is called for each subscriber."""

        def on_subscribe(
            observer: ObserverBase[StreamUpdate],
            scheduler: SchedulerBase | None = None,  # noqa: ARG001 (part of the Rx signature; the loop schedules)
        ) -> DisposableBase:
            if not in_thread:
                forbid_blocking_run()
            subscription = subscribe()
            self._start(observer, subscription, in_thread=in_thread)
            return Disposable(subscription.close)

        return reactivex.create(on_subscribe)

    def _start(self, observer: ObserverBase[StreamUpdate], subscription: Subscription, *, in_thread: bool) -> None:
        loop = None
        if not in_thread:
            with contextlib.suppress(RuntimeError):
                loop = asyncio.get_running_loop()
        pump = self._pump(observer, subscription)
        if loop is not None:
            task = loop.create_task(pump, name=f"lg-streaming observer of {subscription.execution_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return

        def run() -> None:
            try:
                asyncio.run(pump)
            finally:
                self._threads.discard(thread)

        thread = threading.Thread(target=run, name="lg-streaming-observer", daemon=True)
        self._threads.add(thread)
        thread.start()

    async def _pump(self, observer: ObserverBase[StreamUpdate], subscription: Subscription) -> None:
        sink = _ObserverSink(observer, subscription)
        try:
            async with Deadline(subscription.timeout, f"execution {subscription.execution_id!r}"):
                await carry(subscription, sink, pace=Every(_INTERVAL))
            if not sink.interrupted:
                observer.on_completed()
        except Exception as error:  # noqa: BLE001 (a gap asked to fail, or the observer's own)
            self._failed(observer, subscription, error)
        finally:
            subscription.close()

    def _failed(self, observer: ObserverBase[StreamUpdate], subscription: Subscription, error: Exception) -> None:
        self.errors += 1
        logger.warning(
            "an observer of execution %r is detached after an error: %r",
            subscription.execution_id,
            error,
            exc_info=error,
        )
        with contextlib.suppress(Exception):  # without a handler of its own, reactivex raises the error again
            observer.on_error(error)

    async def aclose(self) -> None:
        """Wait for up to a second until all observers have ended; their subscriptions were closed before."""
        loop = asyncio.get_running_loop()
        if tasks := [task for task in self._tasks if task.get_loop() is loop]:
            await asyncio.wait(tasks, timeout=_JOIN_TIMEOUT)
            for task in tasks:
                task.cancel()
        for thread in list(self._threads):
            await asyncio.to_thread(thread.join, _JOIN_TIMEOUT)


class _ObserverSink:
    """One observer as the sink of its subscription."""

    def __init__(self, observer: ObserverBase[StreamUpdate], subscription: Subscription) -> None:
        self._observer = observer
        self._subscription = subscription
        self.interrupted = False
        """Whether the subscription was closed in the middle of a page, by the observer or another thread."""

    async def wait_writable(self) -> bool:
        return False

    async def send(self, page: Page, *, waited: bool) -> None:  # noqa: ARG002 (part of the protocol)
        on_next, subscription = self._observer.on_next, self._subscription
        for update in page.updates(subscription.execution_id):
            on_next(update)
            if subscription.closed:
                self.interrupted = True
                return

    async def log_unavailable(self, error: LogUnavailableError) -> None:
        """Wait for the log without a notice."""
