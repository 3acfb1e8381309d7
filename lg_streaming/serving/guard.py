"""The connections of a server from accept to close: how many there are, and how long each may take."""

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

__all__ = ["Entry", "Guard", "Owner", "Times"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """How long a caller may take, in seconds."""

    header: float = 10.0
    """For a complete header, or a TLS handshake: from accept, and from a later request's first byte."""
    body: float = 10.0
    """After this the progress of a body is looked at, each time."""
    write: float = 30.0
    """After this a peer that reads nothing is cut off, and a WebSocket handshake has to be answered."""
    close: float = 2.0
    """For a peer to read its refusal."""
    spare: float = 5.0
    """For a whole request over the limits, such as one for the health of a full server."""
    grace: float = 1.0
    """Seconds after which a connection without a complete request gives its place to a new one on a full server."""
    spare_grace: float = 0.25
    """The same for connections over the limits."""


MARGIN: Final = 16
"""Connections over each limit that may still ask, so that the gateway can refuse them by its own code."""
SPARES: Final = 64
"""Connections over all limits that are answered, though with 503 or 429 only."""
SPARES_PER_ADDRESS: Final = 8
_TICK: Final = 0.5
_SLICE: Final = 200
"""Deadlines handled in one step of the event loop."""


class Owner(Protocol):
    """The part of the server that holds a connection."""

    def expire(self) -> None:
        """End it: its header took too long."""
        ...

    def drop(self) -> None:
        """End it at once, without a word."""
        ...

    def check_body(self) -> None:
        """End it when its body made no progress; else watch on."""
        ...

    def check_writes(self) -> None:
        """End it when its peer read nothing; else watch on."""
        ...


class Entry:
    """One connection. `error` is what a connection over the limits is answered; None for all others."""

    __slots__ = ("address", "counted", "error", "left", "owner", "since")

    def __init__(self, owner: Owner, address: _Address) -> None:
        self.owner: Owner = owner
        self.address: _Address = address
        self.since: float = 0.0
        self.error: TooManyConnectionsError | None = None
        self.counted: bool = True
        self.left: bool = False


class _Address:
    __slots__ = ("key", "open", "spare", "waiting")

    def __init__(self, key: str) -> None:
        self.key: str = key
        self.open: int = 0
        self.spare: int = 0
        self.waiting: OrderedDict[Entry, None] = OrderedDict()


class _Deadlines:
    """Entries by the time they were added: all have the same time to go."""

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

    def due(self, now: float, most: int) -> Generator[Entry]:
        """Take away what is due, at most so many."""
        while most and (first := self.oldest()) is not None and now - first[1] >= self._seconds:
            most -= 1
            del self._since[first[0]]
            yield first[0]


_TIMES: Final = Times()


class Guard:
    """Counts connections by address, and ends those that take too long.

    A connection *waits* until its header is complete, and between requests. Where there is no room for a new one, the
    connection that has waited longest makes room: of the same address, or of all. Where none has waited for a second,
    the new one is a *spare*: few of them, answered with 503 or 429, but for `/health`.

    Args:
        door: The limits.
        trusted: Whether the peer at an address may name the address it speaks for.
        times: How long callers may take.
    """

    def __init__(self, door: FrontDoor, trusted: Callable[[str], bool], times: Times = _TIMES) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        """The event loop it works on."""
        self._door = door
        self.trusts = trusted
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
    def of(cls, config: Any, server_state: Any, times: Times = _TIMES) -> Guard:
        """Return the guard of a uvicorn server; `times` counts for the first call."""
        guard = getattr(server_state, "lg_streaming_guard", None)
        if not isinstance(guard, cls) or guard.loop is not asyncio.get_running_loop():
            guard = cls(FrontDoor.from_server_state(server_state), _trust(config), times)
            server_state.lg_streaming_guard = guard
        return guard

    # ------------------------------------------------------------ counting
    def enter(self, owner: Owner, address: str | None, *, short: bool = False) -> Entry | None:
        """Count a connection, which waits from now on.

        Args:
            owner: What holds it.
            address: The peer's; None where it has none, as over a Unix socket.
            short: Whether descriptors are running out.

        Returns:
            None where there is no room, not even for a refusal.
        """
        now = self.loop.time()
        key = _key(address)
        known = self._addresses.get(key)
        if known is None:
            known = self._addresses[key] = _Address(key)
        entry = Entry(owner, known)
        entry.since = now
        entry.error = self._refusal(known, now, short=short)
        if entry.error is None:
            self.open += 1
            known.open += 1
            self.wait(entry)
        elif self._room_for_spare(known, now):
            known.spare += 1
            self._spares.add(entry, now)
        else:
            self._forget_unused(known)
            return None
        self._start_timer()
        return entry

    def _refusal(self, address: _Address, now: float, *, short: bool) -> TooManyConnectionsError | None:
        limit, per_address = self._door.connections, self._door.per_address
        if address.key and per_address is not None and address.open >= per_address + MARGIN:
            first = next(iter(address.waiting), None)
            if first is None or not self._evict(first, now):
                return TooManyConnectionsError(
                    f"an address may have {per_address} connections: close some first", retry_after=1.0
                )
        if short or (limit is not None and self.open >= limit + MARGIN):
            oldest = self._waiting.oldest()
            if oldest is None or not self._evict(oldest[0], now):
                return ServerFullError(retry_after=1.0)
        return None

    def _evict(self, entry: Entry, now: float, grace: float | None = None) -> bool:
        if now - entry.since < (self.times.grace if grace is None else grace):
            return False
        self.leave(entry)
        entry.owner.drop()
        return True

    def _room_for_spare(self, address: _Address, now: float) -> bool:
        if address.spare < SPARES_PER_ADDRESS and len(self._spares) < self.spares_allowed:
            return True
        oldest = self._spares.oldest()
        return (
            oldest is not None
            and self._evict(oldest[0], now, self.times.spare_grace)
            and address.spare < SPARES_PER_ADDRESS
        )

    def make_room(self) -> bool:
        """End the connection that has waited longest. Returns whether there was one."""
        oldest = self._waiting.oldest()
        return oldest is not None and self._evict(oldest[0], self.loop.time(), self.times.spare_grace)

    def leave(self, entry: Entry) -> None:
        """Count a connection no longer. Harmless when repeated."""
        if entry.left:
            return
        entry.left = True
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
        self._forget_unused(address)

    def speaks_for_another(self, entry: Entry) -> None:
        """Count a proxy's connection by its address no longer: it carries the requests of others."""
        if entry.counted and entry.error is None and not entry.left:
            entry.counted = False
            entry.address.open -= 1

    def _forget_unused(self, address: _Address) -> None:
        if not address.open and not address.spare and not address.waiting:
            self._addresses.pop(address.key, None)

    # ------------------------------------------------------------ deadlines
    def wait(self, entry: Entry) -> None:
        """Begin the time in which a header has to come."""
        if entry.left or entry.error is not None:
            return
        entry.since = self.loop.time()
        self._waiting.add(entry, entry.since)
        entry.address.waiting.pop(entry, None)
        entry.address.waiting[entry] = None

    def busy(self, entry: Entry) -> None:
        """End that time: the header is complete."""
        self._waiting.discard(entry)
        entry.address.waiting.pop(entry, None)

    def watch_body(self, entry: Entry) -> None:
        """Have its progress looked at in `Times.body`."""
        if not entry.left:
            self._bodies.add(entry, self.loop.time())

    def body_complete(self, entry: Entry) -> None:
        """Look no longer."""
        self._bodies.discard(entry)

    def watch_writes(self, entry: Entry) -> None:
        """Have it looked at in `Times.write` whether the peer reads."""
        if not entry.left:
            self._writes.add(entry, self.loop.time())

    def writes_flow(self, entry: Entry) -> None:
        """Look no longer."""
        self._writes.discard(entry)

    def close_soon(self, entry: Entry) -> None:
        """Cut the connection in `Times.close`."""
        self.busy(entry)
        if not entry.left:
            self._closing.add(entry, self.loop.time())

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = self.loop.call_later(self._tick, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self.loop.time()
        handled = 0
        for entry in self._waiting.due(now, _SLICE):
            entry.address.waiting.pop(entry, None)
            entry.owner.expire()
            handled += 1
        for deadlines in (self._closing, self._spares):
            for entry in deadlines.due(now, _SLICE):
                entry.owner.drop()
                handled += 1
        for entry in self._bodies.due(now, _SLICE):
            entry.owner.check_body()
            handled += 1
        for entry in self._writes.due(now, _SLICE):
            entry.owner.check_writes()
            handled += 1
        if handled >= _SLICE:
            self._timer = self.loop.call_soon(self._sweep)
        elif self.open or len(self._spares):
            self._start_timer()


@functools.lru_cache(maxsize=4_096)
def _key(address: str | None) -> str:
    return address_key(address) if address else ""


def _trust(config: Any) -> Callable[[str], bool]:
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware  # noqa: PLC0415 (only a server needs it)

    if not getattr(config, "proxy_headers", False):
        return lambda _: False
    trusted = ProxyHeadersMiddleware(config.app, config.forwarded_allow_ips).trusted_hosts
    return lambda address: address in trusted
