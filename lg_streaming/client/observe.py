"""A subscription as a reactivex `Observable`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import reactivex
from reactivex.disposable import Disposable

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import Observable
    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

    from lg_streaming.client.subscription import ClientSubscription
    from lg_streaming.events import StreamUpdate

__all__ = ["observable"]

logger: logging.Logger = logging.getLogger(__name__)


def observable(subscribe: Callable[[], ClientSubscription]) -> Observable[StreamUpdate]:
    """A cold observable: each subscriber gets a subscription of its own, read by a task of the running event loop."""

    def on_subscribe(
        observer: ObserverBase[StreamUpdate],
        scheduler: SchedulerBase | None = None,  # noqa: ARG001 (part of the Rx signature; the loop schedules)
    ) -> DisposableBase:
        loop = asyncio.get_running_loop()
        subscription = subscribe()
        task = loop.create_task(
            _pump(observer, subscription), name=f"lg-streaming observer of {subscription.execution_id}"
        )
        return Disposable(lambda: _stop(loop, task))

    return reactivex.create(on_subscribe)


def _stop(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    with contextlib.suppress(RuntimeError):  # reactivex may dispose once more when the loop is closed
        loop.call_soon_threadsafe(task.cancel)


async def _pump(observer: ObserverBase[StreamUpdate], subscription: ClientSubscription) -> None:
    async with subscription:
        try:
            async for update in subscription:
                observer.on_next(update)
        except Exception as error:  # noqa: BLE001 (the subscription's, or the observer's own)
            with contextlib.suppress(Exception):  # without a handler of its own, reactivex raises the error again
                observer.on_error(error)
            return
        observer.on_completed()
