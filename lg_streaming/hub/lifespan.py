"""Shut down, close, reopen and restart a hub, part by part."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from lg_streaming.publisher import publishers

if TYPE_CHECKING:
    from lg_streaming.hub.attachments import SinkManager
    from lg_streaming.hub.callbacks import CallbackRunner
    from lg_streaming.hub.cancellation import RunCanceller
    from lg_streaming.hub.publisher import HubPublisher
    from lg_streaming.hub.readers import SubscriptionRegistry

__all__ = ["HubLifespan"]

_CLOSE_TIMEOUT: Final = 5.0
_READ_TIMEOUT: Final = 1.0


class HubLifespan:
    """Shutdown, close and restart of a hub's parts, in order. It counts the hub as a publisher of the process.

    Args:
        publisher: The publisher, with its runs, their registry and their writer.
        readers: The subscriptions.
        sinks: The attached sinks.
        canceller: Cancels open runs at a shutdown.
        callbacks: The handlers that are running.
    """

    def __init__(
        self,
        publisher: HubPublisher,
        readers: SubscriptionRegistry,
        sinks: SinkManager,
        canceller: RunCanceller,
        callbacks: CallbackRunner,
    ) -> None:
        self._publisher = publisher
        self._runs = publisher.runs
        self._registry = publisher.runs.registry
        self._writer = publisher.runs.writer
        self._readers = readers
        self._sinks = sinks
        self._canceller = canceller
        self._callbacks = callbacks
        publishers.count += 1

    async def shutdown(self, reason: str = "shutdown") -> None:
        """End all open runs, then close the hub. See `StreamHub.shutdown`."""
        if not self._registry.closed:
            await self._canceller.cancel_all(reason)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._writer.flush(), _CLOSE_TIMEOUT)
            await self._readers.drain(_READ_TIMEOUT)
        await self.aclose()

    async def restart(self) -> None:
        """Close the hub as `aclose` does, then open it again without executions, as in a new process.

        Settings, `redact`, tracing, statistics and activations stay. A hub that was closed before is opened. Late
        updates of earlier runs are dropped.
        """
        owners = publishers.owners(self._publisher)
        await self.aclose()
        left = len(publishers.owners(self._publisher))
        self.reopen()
        for owner in owners[left:]:
            publishers.activate(self._publisher, owner)

    def reopen(self) -> None:
        """Open a closed hub again, without executions; a no-op while it is open."""
        if not self._registry.closed:
            return
        self._runs.reopen()
        self._writer.reopen()
        self._registry.reopen()
        self._readers.reopen()
        self._sinks.reopen()
        publishers.count += 1

    async def aclose(self) -> None:
        """Append the buffered updates, end all readers, and free all resources. See `StreamHub.aclose`."""
        registry = self._registry
        registry.run_listeners.close()
        with registry.lock:
            if registry.closed:
                return
            registry.closed = True
            publishers.count -= 1
        self._runs.close()
        publishers.deactivate(self._publisher)
        await self._callbacks.aclose()
        await self._writer.aclose(_CLOSE_TIMEOUT)
        await self._sinks.aclose()
        await self._readers.aclose()
        await registry.log.aclose()
