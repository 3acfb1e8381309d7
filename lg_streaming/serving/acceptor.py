"""Accepts connections one by one, so that each is counted before anything is read of it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
import socket
import ssl
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any, Final, cast

from lg_streaming.errors import ServerFullError
from lg_streaming.serving.guard import Entry, Guard
from lg_streaming.serving.http import refusal

try:
    import resource
except ImportError:  # Windows: descriptors are not numbered, and do not run out like that
    resource = None

__all__ = ["Acceptor", "raise_descriptor_limit"]

logger: logging.Logger = logging.getLogger("lg_streaming.serving")

_AT_ONCE: Final = 64
"""Connections taken before what came on the others is looked at."""
_REFUSED_AT_ONCE: Final = 512
"""Connections taken or refused before: a refusal costs little, and those behind it in the kernel's queue wait."""
_OPENED_AT_ONCE: Final = 4
"""Connections that begin in one turn of the event loop. A connection from another address waits for these at most."""
_MOST_DESCRIPTORS: Final = 65_536
_SECONDS_TO_SHUT_DOWN: Final = 5.0
_PAUSE: Final = 0.1
"""Seconds without accepting when descriptors have run out all the same."""
_ROOM_AT_ONCE: Final = 16
_SECONDS_BETWEEN_LINES: Final = 60.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FULL: Final = refusal(503, ServerFullError(retry_after=1.0))


class Acceptor:
    """Accepts on a listening socket for a uvicorn server, in place of the event loop's own server.

    Connections begin a few at a time, in turns of their addresses: a crowd from one address does not delay the others.

    Some descriptors are kept back: connections that would take them are answered `/health` or 503, and closed.

    Args:
        make: Makes the protocol of a connection with the given entry.
        listener: A bound socket.
        guard: Counts connections.
        context: For TLS.
        backlog: Connections that wait in the kernel.
    """

    def __init__(
        self,
        make: Callable[[Entry], asyncio.Protocol],
        listener: socket.socket,
        guard: Guard,
        *,
        context: ssl.SSLContext | None,
        backlog: int,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._make = make
        self._listener = listener
        self._guard = guard
        self._context = context
        self._opening: set[asyncio.Task[None]] = set()
        self._waiting: OrderedDict[str | None, deque[tuple[socket.socket, Entry]]] = OrderedDict()
        self._beginning: asyncio.Handle | None = None
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        self._closed = False
        self._most = _free_descriptors(guard)
        self._complained = -_SECONDS_BETWEEN_LINES
        self._resume: asyncio.Handle | None = None
        listener.listen(backlog)
        listener.setblocking(False)  # noqa: FBT003
        self._loop.add_reader(listener.fileno(), self._accept)

    # ------------------------------------------------------------ as uvicorn uses a server
    def close(self) -> None:
        """Accept no more. Harmless when repeated."""
        if not self._closed:
            self._closed = True
            if self._resume is not None:
                self._resume.cancel()
            self._loop.remove_reader(self._listener.fileno())
            self._release_spare()
        for task in self._opening:
            task.cancel()
        for queue in self._waiting.values():
            for sock, entry in queue:
                self._drop(sock, entry)
        self._waiting.clear()

    async def wait_closed(self) -> None:
        """Return when no connection is being opened."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    # ------------------------------------------------------------ accepting
    def _accept(self) -> None:
        self._take_some()
        if self._beginning is None:
            self._begin()

    def _begin(self) -> None:
        """Open the next connections, in turns of their addresses."""
        self._beginning = None
        for _ in range(_OPENED_AT_ONCE):
            if not self._waiting:
                return
            host, queue = self._waiting.popitem(last=False)
            sock, entry = queue.popleft()
            task = self._loop.create_task(self._open(sock, entry), name="open a connection")
            self._opening.add(task)
            task.add_done_callback(functools.partial(self._opened, sock, entry))
            if queue:
                self._waiting[host] = queue
        if self._waiting:
            self._beginning = self._loop.call_soon(self._begin)

    def _take_some(self) -> None:
        taken = 0
        for _ in range(_REFUSED_AT_ONCE):
            if taken >= _AT_ONCE:
                return
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    self._complain("cannot accept connections: %s", error)
                    self._wait_a_moment()
                    return
                self._accept_without_descriptors()
                return
            taken += self._take(sock, address)

    def _take(self, sock: socket.socket, address: Any) -> bool:
        """Queue the connection to be opened, or refuse it; return whether it was queued."""
        sock.setblocking(False)  # noqa: FBT003
        opening = _Opening(sock)
        short = self._most is not None and sock.fileno() >= self._most
        if short:
            self._complain("descriptors run out: connections without a request make room, others get 503")
        host = _host(address)
        entry = self._guard.enter(opening, host, short=short)
        if entry is None:
            self._turn_away(sock)
            return False
        self._waiting.setdefault(host, deque()).append((sock, entry))
        return True

    async def _open(self, sock: socket.socket, entry: Entry) -> None:
        secure: dict[str, float] = {}
        if self._context is not None:
            secure = {
                "ssl_handshake_timeout": self._guard.times.header,
                "ssl_shutdown_timeout": _SECONDS_TO_SHUT_DOWN,
            }
        try:
            await self._loop.connect_accepted_socket(lambda: self._make(entry), sock, ssl=self._context, **secure)
        except OSError:  # a handshake that failed or took too long
            self._drop(sock, entry)
        except BaseException:
            self._guard.leave(entry)
            raise

    def _opened(self, sock: socket.socket, entry: Entry, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if task.cancelled():  # the server stops; the task may not have begun
            self._drop(sock, entry)

    def _drop(self, sock: socket.socket, entry: Entry) -> None:
        self._guard.leave(entry)
        with contextlib.suppress(OSError):
            sock.close()

    def _accept_without_descriptors(self) -> None:
        """Refuse one caller with the descriptor kept for it, and make room for the next."""
        self._release_spare()
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            called = error.errno in _EXHAUSTED  # else there was no caller: the kernel looks for a descriptor first
        else:
            called = True
            sock.setblocking(False)  # noqa: FBT003
            self._turn_away(sock)
        with contextlib.suppress(OSError):  # something else in the process may have taken it
            self._spare = os.open(os.devnull, os.O_RDONLY)
        if called:
            self._complain("descriptors have run out: connections without a request are closed, callers get 503")
            for _ in range(_ROOM_AT_ONCE):
                if not self._guard.make_room():
                    break
            self._wait_a_moment()

    def _release_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _turn_away(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is None:
                sock.send(_FULL)
                sock.shutdown(socket.SHUT_WR)
                # What has come is read, so that closing does not destroy the answer on its way.
                sock.recv(65_536)
        sock.close()

    def _wait_a_moment(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._resume = self._loop.call_later(_PAUSE, self._go_on)

    def _go_on(self) -> None:
        self._resume = None
        if not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _complain(self, text: str, *arguments: object) -> None:
        now = self._loop.time()
        if now - self._complained >= _SECONDS_BETWEEN_LINES:
            self._complained = now
            logger.warning(text, *arguments)


class _Opening:
    """A connection between accept and its protocol, which under TLS is the whole handshake."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def expire(self) -> None:
        self.drop()

    def drop(self) -> None:
        # The event loop owns the descriptor by now: it sees an end of the stream, and closes.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def check_body(self) -> None:
        pass

    def check_writes(self) -> None:
        pass


def _host(address: object) -> str | None:
    """The peer's address in what `accept` returns; a Unix socket has none."""
    return str(cast("tuple[object, ...]", address)[0]) if isinstance(address, tuple) else None


def _free_descriptors(guard: Guard) -> int | None:
    """Return the number from which on descriptors are kept back; None where there is no limit."""
    if resource is None:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    kept = max(16, min(256, limit // 8))
    guard.spares_allowed = min(guard.spares_allowed, kept // 2)
    return limit - kept


def raise_descriptor_limit() -> None:
    """Allow this process as many descriptors as it may have."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
