"""Count and time the connections of a server, from accept to close."""

from __future__ import annotations

import asyncio
import functools
from collections import OrderedDict
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Final, Protocol

from lg_streaming.errors import ServerFullError, TooManyConnectionsError
from lg_streaming.gateway.hooks.front_door import FrontDoor
from lg_streaming.gateway.limits.rates import address_key

__all__ = ["ConnectionGuard", "Entry", "Owner", "Timeouts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Time limits of callers, in seconds."""

    header: float = 10.0
    """For a TLS handshake or a header: from accept, or from the first byte of a later request."""
    body: float = 10.0
    """Interval at which the progress of a body is checked."""
    write: float = 30.0
    """For a peer to read something, and for the application to answer a WebSocket handshake."""
    close: float = 2.0
    """For a peer to read a refusal."""
    spare: float = 5.0
    """For a complete request over the limits, such as a health check of a full server."""
    evict_after: float = 1.0
    """Seconds after which a full server evicts a connection without a complete request, for a new one."""
    spare_evict_after: float = 0.25
    """The same as `evict_after`, for connections over the limits."""


MARGIN: Final = 16
"""Connections over each limit that reach the gateway, which refuses them with its error code."""
SPARES: Final = 64
"""Connections over all limits that are answered, with 503 or 429."""
SPARES_PER_ADDRESS: Final = 8
_TICK: Final = 0.5
_MAX_PER_STEP: Final = 200
"""Deadlines handled in one turn of the event loop."""


class Owner(Protocol):
    """Protocol that holds a connection."""

    def expire(self) -> None:
        """End the connection: its header took too long."""
        ...

    def drop(self) -> None:
        """Abort the connection."""
        ...

    def check_body(self) -> None:
        """End the connection if its body made no progress; else keep watching."""
        ...

    def check_writes(self) -> None:
        """End the connection if its peer read nothing; else keep watching."""
        ...


class Entry:
    """One connection. `error` is the response to a connection over the limits; None for others."""

    __slots__ = ("address", "counted", "error", "is_removed", "owner", "since")

    def __init__(self, owner: Owner, address: _Address) -> None:
        self.owner: Owner = owner
        self.address: _Address = address
        self.since: float = 0.0
        self.error: TooManyConnectionsError | None = None
        self.counted: bool = True
        self.is_removed: bool = False


class _Address:
    __slots__ = ("key", "open", "spare", "waiting")

    def __init__(self, key: str) -> None:
        self.key: str = key
        self.open: int = 0
        self.spare: int = 0
        self.waiting: OrderedDict[Entry, None] = OrderedDict()


class _Deadlines:
    """Entries in the order of their deadlines: all have the same time limit."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._since: OrderedDict[Entry, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._since)

    def add(self, entry: Entry, now: float) -> None:
        self._since.pop(entry, None)
        self._since[entry] = now

    def discard(self, entry: Entry) -> None:
        self._since.pop(entry, None)

    def oldest(self) -> tuple[Entry, float] | None:
        return next(iter(self._since.items()), None)

    def pop_due(self, now: float, limit: int) -> Generator[Entry]:
        """Remove and yield due entries, at most `limit`."""
        while limit and (first := self.oldest()) is not None and now - first[1] >= self._seconds:
            limit -= 1
            del self._since[first[0]]
            yield first[0]


_TIMES: Final = Timeouts()


class ConnectionGuard:
    """Counts connections by address, and ends those that take too long.

    A connection *waits* until its header is complete, and between requests. At a limit, a new connection evicts the
    connection that has waited longest: of the same address, or of all. If none has waited for `evict_after`, the new
    one becomes a *spare*. Spares are few, and receive 503 or 429, except for `/health`.

    Args:
        door: The limits.
        trusted: Returns whether the peer at an address is a proxy that may name its client's address.
        times: Time limits of callers.
    """

    def __init__(self, door: FrontDoor, trusted: Callable[[str], bool], times: Timeouts = _TIMES) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        """The server's event loop."""
        self._door = door
        self.is_trusted_proxy = trusted
        self._addresses: dict[str, _Address] = {}
        self.open = 0
        """Connections, without spares."""
        self.spares_allowed = SPARES
        self.times = times
        self._tick = min(_TICK, times.header / 4)
        self._waiting = _Deadlines(times.header)
        self._bodies = _Deadlines(times.body)
        self._writes = _Deadlines(times.write)
        self._closing = _Deadlines(times.close)
        self._spares = _Deadlines(times.spare)
        self._timer: asyncio.Handle | None = None

    @classmethod
    def for_server(cls, config: Any, server_state: Any, times: Timeouts = _TIMES) -> ConnectionGuard:
        """Return the guard of a uvicorn server; only the first call uses `times`."""
        guard = getattr(server_state, "lg_streaming_guard", None)
        if not isinstance(guard, cls) or guard.loop is not asyncio.get_running_loop():
            guard = cls(FrontDoor.from_server_state(server_state), _proxy_check(config), times)
            server_state.lg_streaming_guard = guard
        return guard

    # ------------------------------------------------------------ counting
    def enter(self, owner: Owner, address: str | None, *, low_descriptors: bool = False) -> Entry | None:
        """Count a new connection, which waits from now on.

        Args:
            owner: Protocol that holds the connection.
            address: The peer's address; None over a Unix socket.
            low_descriptors: Whether descriptors are running out.

        Returns:
            The entry; None if the server has no capacity even for a refusal.
        """
        now = self.loop.time()
        key = _address_key(address)
        counter = self._addresses.get(key)
        if counter is None:
            counter = self._addresses[key] = _Address(key)
        entry = Entry(owner, counter)
        entry.since = now
        entry.error = self._refusal(counter, now, low_descriptors=low_descriptors)
        if entry.error is None:
            self.open += 1
            counter.open += 1
            self.await_header(entry)
        elif self._admits_spare(counter, now):
            counter.spare += 1
            self._spares.add(entry, now)
        else:
            self._discard_unused(counter)
            return None
        self._start_timer()
        return entry

    def _refusal(self, address: _Address, now: float, *, low_descriptors: bool) -> TooManyConnectionsError | None:
        limit, per_address = self._door.connections, self._door.per_address
        if address.key and per_address is not None and address.open >= per_address + MARGIN:
            first = next(iter(address.waiting), None)
            if first is None or not self._evict(first, now):
                return TooManyConnectionsError(
                    f"an address may have {per_address} connections: close some first", retry_after=1.0
                )
        if low_descriptors or (limit is not None and self.open >= limit + MARGIN):
            oldest = self._waiting.oldest()
            if oldest is None or not self._evict(oldest[0], now):
                return ServerFullError(retry_after=1.0)
        return None

    def _evict(self, entry: Entry, now: float, grace: float | None = None) -> bool:
        if now - entry.since < (self.times.evict_after if grace is None else grace):
            return False
        self.leave(entry)
        entry.owner.drop()
        return True

    def _admits_spare(self, address: _Address, now: float) -> bool:
        if address.spare < SPARES_PER_ADDRESS and len(self._spares) < self.spares_allowed:
            return True
        oldest = self._spares.oldest()
        return (
            oldest is not None
            and self._evict(oldest[0], now, self.times.spare_evict_after)
            and address.spare < SPARES_PER_ADDRESS
        )

    def evict_oldest(self) -> bool:
        """End the connection that has waited longest; return whether there was one."""
        oldest = self._waiting.oldest()
        return oldest is not None and self._evict(oldest[0], self.loop.time(), self.times.spare_evict_after)

    def leave(self, entry: Entry) -> None:
        """Remove a connection from the count. Idempotent."""
        if entry.is_removed:
            return
        entry.is_removed = True
        for deadlines in (self._waiting, self._bodies, self._writes, self._closing, self._spares):
            deadlines.discard(entry)
        address = entry.address
        address.waiting.pop(entry, None)
        if entry.error is not None:
            address.spare -= 1
        else:
            self.open -= 1
            if entry.counted:
                address.open -= 1
        self._discard_unused(address)

    def exempt_proxy(self, entry: Entry) -> None:
        """Exempt a proxy's connection from the limit of its address: it carries requests of other clients."""
        if entry.counted and entry.error is None and not entry.is_removed:
            entry.counted = False
            entry.address.open -= 1

    def _discard_unused(self, address: _Address) -> None:
        if not address.open and not address.spare and not address.waiting:
            self._addresses.pop(address.key, None)

    # ------------------------------------------------------------ deadlines
    def await_header(self, entry: Entry) -> None:
        """Start the time limit of a header."""
        if entry.is_removed or entry.error is not None:
            return
        entry.since = self.loop.time()
        self._waiting.add(entry, entry.since)
        entry.address.waiting.pop(entry, None)
        entry.address.waiting[entry] = None

    def header_complete(self, entry: Entry) -> None:
        """Stop the time limit of the header, which is complete."""
        self._waiting.discard(entry)
        entry.address.waiting.pop(entry, None)

    def watch_body(self, entry: Entry) -> None:
        """Check the progress of the body after `Timeouts.body`."""
        if not entry.is_removed:
            self._bodies.add(entry, self.loop.time())

    def body_complete(self, entry: Entry) -> None:
        """Stop the checks of the body."""
        self._bodies.discard(entry)

    def watch_writes(self, entry: Entry) -> None:
        """Check after `Timeouts.write` whether the peer reads."""
        if not entry.is_removed:
            self._writes.add(entry, self.loop.time())

    def writes_resumed(self, entry: Entry) -> None:
        """Stop the check of the peer."""
        self._writes.discard(entry)

    def close_soon(self, entry: Entry) -> None:
        """Abort the connection after `Timeouts.close`."""
        self.header_complete(entry)
        if not entry.is_removed:
            self._closing.add(entry, self.loop.time())

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._tick, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self.loop.time()
        handled = 0
        for entry in self._waiting.pop_due(now, _MAX_PER_STEP):
            entry.address.waiting.pop(entry, None)
            entry.owner.expire()
            handled += 1
        for deadlines in (self._closing, self._spares):
            for entry in deadlines.pop_due(now, _MAX_PER_STEP):
                entry.owner.drop()
                handled += 1
        for entry in self._bodies.pop_due(now, _MAX_PER_STEP):
            entry.owner.check_body()
            handled += 1
        for entry in self._writes.pop_due(now, _MAX_PER_STEP):
            entry.owner.check_writes()
            handled += 1
        if handled >= _MAX_PER_STEP:
            self._timer = self.loop.call_soon(self._sweep)
        elif self.open or len(self._spares):
            self._start_timer()


@functools.lru_cache(maxsize=4_096)
def _address_key(address: str | None) -> str:
    return address_key(address) if address else ""


def _proxy_check(config: Any) -> Callable[[str], bool]:
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware  # noqa: PLC0415 (only a server needs it)

    if not getattr(config, "proxy_headers", False):
        return lambda _: False
    trusted = ProxyHeadersMiddleware(config.app, config.forwarded_allow_ips).trusted_hosts
    return lambda address: address in trusted
