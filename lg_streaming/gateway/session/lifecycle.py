"""Start, drain and stop a gateway with its server."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, Protocol

from lg_streaming.errors import ServerRestartError, StreamingConfigError
from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.gateway.hooks.listeners import EXPOSED, find_exposed_address
from lg_streaming.gateway.hooks.server import on_shutdown
from lg_streaming.gateway.hooks.shutdown_hooks import shutdown_hooks
from lg_streaming.observability.logs import log_event

if TYPE_CHECKING:
    from lg_streaming.gateway.auth.policy import Policy
    from lg_streaming.gateway.session.several_processes import SeveralProcesses

__all__ = ["Closable", "Lifecycle"]

logger: logging.Logger = logging.getLogger("lg_streaming.gateway")

_RETRY_MS: Final = (500, 3_000)


class Closable(Protocol):
    """The connections or event streams of a gateway."""

    def close_for_restart(self) -> None:
        """Send every client a time to reconnect and close, as the server stops. Never waits."""
        ...


class Lifecycle:
    """Start, drain and stop of a gateway with its server, which may start and stop more than once.

    Args:
        policy: Rules of access. Without authentication, a server that other machines reach may not start.
        processes: Processes of the server.
        jitter: Source of reconnect times, so that clients do not all return at once.
    """

    def __init__(self, policy: Policy, processes: SeveralProcesses, jitter: random.Random | None = None) -> None:
        self._policy = policy
        self._processes = processes
        self.jitter: random.Random = jitter or random.Random()  # noqa: S311 (no secret)
        self.draining: bool = False
        """Set while the server shuts down: no client is admitted."""
        self.loop: asyncio.AbstractEventLoop | None = None
        """The server's event loop, while it runs."""
        self.closables: list[Closable] = []
        """Closed first at each drain."""
        self.closers: list[Callable[[], Awaitable[None]]] = []
        """Awaited together at each drain, after `closables` were closed."""
        self.on_start: list[Callable[[], None]] = [processes.start]
        """Called on the server's event loop at each start."""
        self.on_stop: list[Callable[[], Awaitable[None]]] = [processes.stop]
        """Awaited at each stop, after all connections have closed."""
        self._unhook: Callable[[], None] | None = None
        self._stopped_on: asyncio.AbstractEventLoop | None = None  # the event loop whose lifespan has ended
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the server and the clients of the parent process, which stay there."""
        bury(self.loop, self._unhook)
        self.draining, self.loop, self._unhook = False, None, None

    def why_refused(self) -> str | None:
        """Return why the server may not start: it is exposed without authentication, or its processes share no log."""
        return self._why_exposed() or self._processes.refusal

    def _why_exposed(self) -> str | None:
        beyond = find_exposed_address() if self._policy.local_only else None
        return None if beyond is None else EXPOSED.format(address=beyond)

    def start(self) -> None:
        """Start with the application's lifespan, on the server's event loop. No effect after a start.

        Raises:
            StreamingConfigError: If authentication is not set up and the server listens beyond this machine. If
                ``lg-streaming serve`` runs several processes without a log that they share.
        """
        if not self._is_started():
            if (reason := self.why_refused()) is not None:
                raise StreamingConfigError(reason)
            self._begin(None)

    def wake(self) -> None:
        """Start with a request if no lifespan did, as in a mounted application or with `sse_response` alone.

        The gateway then stops with the server. No effect after a start, and after a lifespan that has ended.
        """
        if not (self._is_started() or self._stopped_on is asyncio.get_running_loop()):
            if (reason := self._why_exposed()) is not None and self._policy.exposed is None:
                self._policy.exposed = "this server listens beyond this machine"
                logger.error("%s", reason)
            # A server with hooks still serves when it runs them; uvicorn has ended when it calls what comes after.
            self._begin(self.stop if shutdown_hooks.get() is not None else self._end)
            _woken.difference_update([each for each in _woken if not each.has_open_loop()])
            _woken.add(self)

    def _is_started(self) -> bool:
        """Return whether a server runs with this gateway: on this event loop, or on another that still runs."""
        return self.loop is not None and (self.loop is asyncio.get_running_loop() or self.loop.is_running())

    def has_open_loop(self) -> bool:
        """Return whether requests of its server may still arrive, also after the end: those are refused."""
        loop = self.loop or self._stopped_on
        return loop is not None and not loop.is_closed()

    def _begin(self, after: Callable[[], Awaitable[None]] | None) -> None:
        self._forget_server()
        self.draining = False
        self.loop, self._stopped_on = asyncio.get_running_loop(), None
        for callback in self.on_start:
            callback()
        self._unhook = on_shutdown(self.drain, after)
        log_event(logger, logging.INFO, "gateway.started")

    def _forget_server(self) -> None:
        if self._unhook is not None:
            self._unhook()
            self._unhook = None

    async def drain(self) -> None:
        """Close all connections and event streams, within two seconds. Harmless when repeated."""
        self.draining = True
        for each in self.closables:
            each.close_for_restart()
        await asyncio.gather(*(close() for close in self.closers))

    async def stop(self) -> None:
        """Stop with the application's lifespan. Harmless when repeated."""
        self._stopped_on = self.loop or self._stopped_on
        await self._end()

    async def _end(self) -> None:
        await self.drain()
        started, self.loop = self.loop is not None, None
        if not self.has_open_loop():
            _woken.discard(self)
        self._forget_server()
        self._policy.close()
        if started:
            for callback in self.on_stop:
                await callback()
            log_event(logger, logging.INFO, "gateway.stopped")

    def ensure_open(self) -> None:
        """Check that the server does not shut down, before a client is admitted.

        Raises:
            ServerRestartError: If the server shuts down.
        """
        if self.draining:
            raise ServerRestartError(retry_after=self.retry_ms() / 1000)

    def retry_ms(self) -> int:
        """Return a reconnect time for one client, in milliseconds."""
        return self.jitter.randint(*_RETRY_MS)


_woken: Final[set[Lifecycle]] = set()
"""Gateways that a request started, because no `Gateway` refers to them. Each stays until the event loop of its server
is closed. So a request that arrives after the end is refused, and does not start another gateway."""
