"""The way out into Rx: an execution as a reactivex ``Observable``."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import TYPE_CHECKING

import reactivex
from reactivex.disposable import Disposable

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import Observable
    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

    from lg_streaming.events import StreamUpdate
    from lg_streaming.hub.subscription import Subscription

__all__ = ["Observers"]

logger: logging.Logger = logging.getLogger(__name__)

_PATIENCE = 1.0
_PACE = 0.002
"""Seconds between two batches to one observer. The first update comes at once; what follows closely shares a batch,
and a long history does not hold up the loop."""


class Observers:
    """Runs the observers of one hub: on the event loop they subscribed from, else on a thread of their own."""

    def __init__(self) -> None:
        self.errors: int = 0
        """Observers that raised and were detached."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._threads: set[threading.Thread] = set()

    def observable(self, subscribe: Callable[[], Subscription], *, in_thread: bool) -> Observable[StreamUpdate]:
        """A cold observable: each subscriber gets a subscription of its own, from the position on."""

        def on_subscribe(
            observer: ObserverBase[StreamUpdate],
            scheduler: SchedulerBase | None = None,  # noqa: ARG001 (part of the Rx signature; the loop schedules)
        ) -> DisposableBase:
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
        try:
            on_next = observer.on_next
            async for batch in subscription.batches():
                for update in batch:
                    on_next(update)
                    if subscription.closed:
                        return
                await asyncio.sleep(_PACE)
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
        """Waits for up to a second until all observers have ended; their subscriptions were closed before."""
        loop = asyncio.get_running_loop()
        if tasks := [task for task in self._tasks if task.get_loop() is loop]:
            await asyncio.wait(tasks, timeout=_PATIENCE)
            for task in tasks:
                task.cancel()
        for thread in list(self._threads):
            await asyncio.to_thread(thread.join, _PATIENCE)
