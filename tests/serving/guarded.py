"""The server of `serve` in a thread of this process, with short times."""

import asyncio
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lg_streaming.serving.guard import ConnectionGuard, Timeouts
from lg_streaming.serving.server import GuardedServer, configure
from tests.support.server import START_TIMEOUT, free_socket

SHORT = Timeouts(header=0.6, body=0.6, write=0.6, close=0.4, spare=1.0, evict_after=0.1, spare_evict_after=0.05)


@dataclass(slots=True)
class Guarded:
    """A running server, its guard, and its log where a test wants it."""

    port: int
    server: GuardedServer
    host: str = "127.0.0.1"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def guard(self) -> ConnectionGuard:
        guard: object = vars(self.server.server_state)["lg_streaming_guard"]
        assert isinstance(guard, ConnectionGuard)
        return guard

    def connect(self, data: bytes = b"", source: str = "127.0.0.1") -> socket.socket:
        """A connection that has sent `data`; 20 s for anything to come."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20, source_address=(source, 0))
        sock.sendall(data)
        return sock

    def ask(self, data: bytes, source: str = "127.0.0.1") -> bytes:
        """All that comes for `data` until the connection ends."""
        with self.connect(data, source) as sock:
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    answer = b""
    try:
        while piece := sock.recv(65_536):
            answer += piece
    except ConnectionError:
        pass
    return answer


@contextmanager
def guarded(app: Any, times: Timeouts = SHORT, **options: Any) -> Generator[Guarded]:
    """Serve `app` until the block ends."""
    listener = free_socket()
    listening = threading.Event()
    config = configure(app, log_config=None, timeout_graceful_shutdown=1, **options)
    server = GuardedServer(config, listening.set, times)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    assert listening.wait(START_TIMEOUT)
    try:
        yield Guarded(listener.getsockname()[1], server)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
