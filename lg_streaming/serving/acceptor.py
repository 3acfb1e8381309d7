"""Accept connections one by one, and count each before reading from it."""

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
from lg_streaming.serving.guard import ConnectionGuard, Entry
from lg_streaming.serving.refusals import refusal

try:
    import resource
except ImportError:  # Windows, which has no limit on descriptors
    resource = None

__all__ = ["Acceptor", "raise_descriptor_limit"]

logger: logging.Logger = logging.getLogger("lg_streaming.serving")

_MAX_ACCEPTED: Final = 64
"""Connections accepted in one turn of the event loop, before it serves the others."""
_MAX_HANDLED: Final = 512
"""Connections accepted or refused in one turn: a refusal is cheap, and others wait in the kernel's queue."""
_MAX_OPENED: Final = 4
"""Connections opened in one turn of the event loop, so that a crowd from one address delays others little."""
_MAX_DESCRIPTORS: Final = 65_536
_TLS_SHUTDOWN_TIMEOUT: Final = 5.0
_RETRY_INTERVAL: Final = 0.1
"""Seconds without accepting after descriptors have run out."""
_MAX_EVICTED: Final = 16
_WARNING_INTERVAL: Final = 60.0
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_FULL_RESPONSE: Final = refusal(503, ServerFullError(retry_after=1.0))


class Acceptor:
    """Accepts connections for a uvicorn server, in place of the event loop's server.

    Connections are opened a few at a time, round-robin by address: a crowd from one address does not delay the others.
    Some descriptors are reserved: a connection that takes one receives `/health` or 503, and is closed.

    Args:
        make: Creates the protocol of a connection with the given entry.
        listener: A bound socket.
        guard: Counts connections.
        context: TLS context; None without TLS.
        backlog: Connections that wait in the kernel.
    """

    def __init__(
        self,
        make: Callable[[Entry], asyncio.Protocol],
        listener: socket.socket,
        guard: ConnectionGuard,
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
        self._queues: OrderedDict[str | None, deque[tuple[socket.socket, Entry]]] = OrderedDict()
        self._next_turn: asyncio.Handle | None = None
        self._spare: int | None = os.open(os.devnull, os.O_RDONLY)
        self._closed = False
        self._reserved_from = _reserve_descriptors(guard)
        self._warned_at = -_WARNING_INTERVAL
        self._resume_timer: asyncio.Handle | None = None
        listener.listen(backlog)
        listener.setblocking(False)  # noqa: FBT003
        self._loop.add_reader(listener.fileno(), self._accept)

    # ------------------------------------------------------------ interface of asyncio.Server that uvicorn uses
    def close(self) -> None:
        """Stop accepting. Idempotent."""
        if not self._closed:
            self._closed = True
            if self._resume_timer is not None:
                self._resume_timer.cancel()
            self._loop.remove_reader(self._listener.fileno())
            self._release_spare()
        for task in self._opening:
            task.cancel()
        for queue in self._queues.values():
            for sock, entry in queue:
                self._close_socket(sock, entry)
        self._queues.clear()

    async def wait_closed(self) -> None:
        """Wait until no connection is being opened."""
        await asyncio.gather(*self._opening, return_exceptions=True)

    # ------------------------------------------------------------ accepting
    def _accept(self) -> None:
        self._accept_some()
        if self._next_turn is None:
            self._open_some()

    def _open_some(self) -> None:
        """Open the next connections, round-robin by address."""
        self._next_turn = None
        for _ in range(_MAX_OPENED):
            if not self._queues:
                return
            host, queue = self._queues.popitem(last=False)
            sock, entry = queue.popleft()
            task = self._loop.create_task(self._open(sock, entry), name="open a connection")
            self._opening.add(task)
            task.add_done_callback(functools.partial(self._on_opened, sock, entry))
            if queue:
                self._queues[host] = queue
        if self._queues:
            self._next_turn = self._loop.call_soon(self._open_some)

    def _accept_some(self) -> None:
        accepted = 0
        for _ in range(_MAX_HANDLED):
            if accepted >= _MAX_ACCEPTED:
                return
            try:
                sock, address = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    self._warn("cannot accept connections: %s", error)
                    self._pause()
                    return
                self._accept_without_descriptors()
                return
            accepted += self._enqueue(sock, address)

    def _enqueue(self, sock: socket.socket, address: Any) -> bool:
        """Queue the connection to be opened, or refuse it; return whether it was queued."""
        sock.setblocking(False)  # noqa: FBT003
        opening = _OpeningConnection(sock)
        is_short = self._reserved_from is not None and sock.fileno() >= self._reserved_from
        if is_short:
            self._warn("descriptors run out: connections without a request are evicted, others get 503")
        host = _peer_host(address)
        entry = self._guard.enter(opening, host, low_descriptors=is_short)
        if entry is None:
            self._refuse(sock)
            return False
        self._queues.setdefault(host, deque()).append((sock, entry))
        return True

    async def _open(self, sock: socket.socket, entry: Entry) -> None:
        secure: dict[str, float] = {}
        if self._context is not None:
            secure = {
                "ssl_handshake_timeout": self._guard.times.header,
                "ssl_shutdown_timeout": _TLS_SHUTDOWN_TIMEOUT,
            }
        try:
            await self._loop.connect_accepted_socket(lambda: self._make(entry), sock, ssl=self._context, **secure)
        except OSError:  # a handshake that failed or took too long
            self._close_socket(sock, entry)
        except BaseException:
            self._guard.leave(entry)
            raise

    def _on_opened(self, sock: socket.socket, entry: Entry, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        if task.cancelled():  # the server stops; the task may not have begun
            self._close_socket(sock, entry)

    def _close_socket(self, sock: socket.socket, entry: Entry) -> None:
        self._guard.leave(entry)
        with contextlib.suppress(OSError):
            sock.close()

    def _accept_without_descriptors(self) -> None:
        """Refuse one caller with the spare descriptor, and evict connections for later callers."""
        self._release_spare()
        try:
            sock, _ = self._listener.accept()
        except OSError as error:
            has_caller = error.errno in _EXHAUSTED  # the kernel looks for a descriptor before it looks for a caller
        else:
            has_caller = True
            sock.setblocking(False)  # noqa: FBT003
            self._refuse(sock)
        with contextlib.suppress(OSError):  # another part of the process may have taken it
            self._spare = os.open(os.devnull, os.O_RDONLY)
        if has_caller:
            self._warn("descriptors have run out: connections without a request are closed, callers get 503")
            for _ in range(_MAX_EVICTED):
                if not self._guard.evict_oldest():
                    break
            self._pause()

    def _release_spare(self) -> None:
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    def _refuse(self, sock: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is None:
                sock.send(_FULL_RESPONSE)
                sock.shutdown(socket.SHUT_WR)
                # With unread data, closing would reset the connection and lose the response.
                sock.recv(65_536)
        sock.close()

    def _pause(self) -> None:
        self._loop.remove_reader(self._listener.fileno())
        self._resume_timer = self._loop.call_later(_RETRY_INTERVAL, self._resume)

    def _resume(self) -> None:
        self._resume_timer = None
        if not self._closed:
            self._loop.add_reader(self._listener.fileno(), self._accept)

    def _warn(self, text: str, *arguments: object) -> None:
        now = self._loop.time()
        if now - self._warned_at >= _WARNING_INTERVAL:
            self._warned_at = now
            logger.warning(text, *arguments)


class _OpeningConnection:
    """A connection between accept and its protocol, for example during the TLS handshake."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def expire(self) -> None:
        self.drop()

    def drop(self) -> None:
        # The event loop owns the descriptor: it reads the end of the stream, and closes.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def check_body(self) -> None:
        pass

    def check_writes(self) -> None:
        pass


def _peer_host(address: object) -> str | None:
    """Return the peer's host; None for a Unix socket."""
    return str(cast("tuple[object, ...]", address)[0]) if isinstance(address, tuple) else None


def _reserve_descriptors(guard: ConnectionGuard) -> int | None:
    """Return the number of the first reserved descriptor; None without a limit."""
    if resource is None:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    reserved = max(16, min(256, limit // 8))
    guard.spares_allowed = min(guard.spares_allowed, reserved // 2)
    return limit - reserved


def raise_descriptor_limit() -> None:
    """Raise the soft limit of descriptors to the hard limit, up to 65,536."""
    if resource is None:
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
