"""A subscription as a reactivex `Observable`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING

import reactivex
from reactivex.disposable import Disposable

from lg_streaming.errors import StreamingConfigError
from lg_streaming.eventloop import forbid_blocking_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from reactivex import Observable
    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

    from lg_streaming.client.subscription import ClientSubscription
    from lg_streaming.events import StreamUpdate

__all__ = ["observable"]

logger: logging.Logger = logging.getLogger(__name__)


def observable(subscribe: Callable[[], ClientSubscription]) -> Observable[StreamUpdate]:
    """Return a cold observable. A task of the running event loop reads each subscriber's subscription."""

    def on_subscribe(
        observer: ObserverBase[StreamUpdate],
        scheduler: SchedulerBase | None = None,  # noqa: ARG001 (part of the Rx signature; the loop schedules)
    ) -> DisposableBase:
        forbid_blocking_run()
        loop = _running_loop()
        subscription = subscribe()
        task = loop.create_task(
            _pump(observer, subscription), name=f"lg-streaming observer of {subscription.execution_id}"
        )
        return Disposable(lambda: _stop(loop, task))

    return reactivex.create(on_subscribe)


def _running_loop() -> asyncio.AbstractEventLoop:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        raise StreamingConfigError(
            "observe() of a client is subscribed on a running event loop: use SyncClient, or run it with asyncio"
        ) from None


def _stop(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> None:
    with contextlib.suppress(RuntimeError):  # reactivex may dispose once more when the loop is closed
        loop.call_soon_threadsafe(task.cancel)


async def _pump(observer: ObserverBase[StreamUpdate], subscription: ClientSubscription) -> None:
    async with subscription:
        try:
            async for update in subscription:
                observer.on_next(update)
        except Exception as error:  # noqa: BLE001 (of the subscription or of the observer)
            with contextlib.suppress(Exception):  # without an error handler, reactivex raises the error again
                observer.on_error(error)
            return
        observer.on_completed()
