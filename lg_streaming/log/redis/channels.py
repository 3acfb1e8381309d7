"""Subscriptions to channels that outlast their connection."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from lg_streaming.backoff import LOG_BACKOFF
from lg_streaming.errors import LogUnavailableError
from lg_streaming.log.redis.notifications import Notifications

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.log.redis.connection import AsyncClient

__all__ = ["ChannelHandler", "Channels", "Subscribe"]

logger: logging.Logger = logging.getLogger(__name__)


class ChannelHandler(Protocol):
    """Function that gets the messages of a channel, on the thread of the connections."""

    def __call__(self, payload: bytes | None, /) -> None:
        """Handle a message; None if messages may be lost, as after each subscription."""
        ...


class Subscribe(Protocol):
    """Function that subscribes to a channel of ``PUBLISH`` until its result is called."""

    def __call__(self, channel: str, handler: ChannelHandler, /) -> Callable[[], None]:
        """Subscribe at once and after each lost connection, and call ``handler(None)`` each time Redis confirms."""
        ...


class Channels:
    """Channels of one connection for notifications, which is opened anew when it is lost.

    Use it on one event loop. `subscribe` is a `Subscribe`.
    """

    def __init__(self, client: Callable[[], AsyncClient]) -> None:
        self._client = client
        self._handlers: dict[str, ChannelHandler] = {}
        self._notifications: Notifications | None = None
        self._pending: set[asyncio.Task[None]] = set()

    def subscribe(self, channel: str, handler: ChannelHandler) -> Callable[[], None]:
        """See `Subscribe`."""
        self._handlers[channel] = handler
        if self._notifications is not None:
            task = asyncio.get_running_loop().create_task(self._confirm(self._notifications, channel))
            self._pending.add(task)
            task.add_done_callback(self._pending.discard)

        def unsubscribe() -> None:  # the subscription ends with its connection
            if self._handlers.get(channel) is handler:
                del self._handlers[channel]

        return unsubscribe

    async def run(self) -> None:
        """Receive messages, until it is cancelled."""
        attempt = 0
        while True:
            notifications = Notifications(self._client())
            try:
                await notifications.connect()
                self._notifications = notifications
                for channel in list(self._handlers):
                    await self._confirm(notifications, channel)
                attempt = 0
                async for channel, payload in notifications.messages():
                    self._handle(channel, payload)
            except LogUnavailableError:
                pass
            except Exception:
                if attempt == 0:
                    logger.exception("the channels of the fleet cannot be read")
            finally:
                self._notifications = None
                await notifications.aclose()
            await asyncio.sleep(LOG_BACKOFF.seconds(attempt, random.random))
            attempt += 1

    async def _confirm(self, notifications: Notifications, channel: str) -> None:
        with suppress(LogUnavailableError):  # `run` gets it too
            await notifications.subscribe(channel)
            self._handle(channel, None)

    def _handle(self, channel: str, payload: bytes | None) -> None:
        handler = self._handlers.get(channel)
        if handler is None:
            return
        try:
            handler(payload)
        except Exception:
            logger.exception("a message on %r could not be handled", channel)
