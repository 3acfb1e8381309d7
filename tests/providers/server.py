"""A stand-in for a provider: real HTTP on loopback, and event streams in the provider's own format."""

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from tests.providers.turns import Turn

Body = dict[str, Any]


class Dialect(Protocol):
    """A provider's format."""

    def whole(self, turn: Turn, body: Body) -> Body:
        """The answer to a request that does not stream."""
        ...

    def stream(self, turn: Turn, body: Body) -> list[bytes]:
        """The events of a streamed answer."""
        ...

    def failure(self) -> bytes:
        """Return the provider's error event."""
        ...


def sse(data: object, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {data if isinstance(data, str) else json.dumps(data)}\n\n".encode()


class Provider:
    """A running stand-in.

    Args:
        dialect: The format it speaks.
        turns: Its answers, one for each request; the last one is given again and again.
    """

    def __init__(self, dialect: Dialect, turns: tuple[Turn, ...]) -> None:
        self.dialect = dialect
        self.requests: list[Body] = []
        """The bodies of the requests, in the order in which they came."""
        self._turns = turns
        self._lock = threading.Lock()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                provider.answer(self)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        """URL of the server."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer one request and close its connection, so that clients leave none open."""
        body: Body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        with self._lock:
            turn = self._turns[min(len(self.requests), len(self._turns) - 1)]
            self.requests.append(body)
        if turn.status != 200:
            self._send(handler, turn, [json.dumps({"error": {"message": "not now"}}).encode()])
        elif not body.get("stream"):
            self._send(handler, turn, [json.dumps(self.dialect.whole(turn, body)).encode()])
        else:
            self._send(handler, turn, self._events(turn, body), kind="text/event-stream")

    def _events(self, turn: Turn, body: Body) -> list[bytes]:
        events = self.dialect.stream(turn, body)
        if turn.fault:
            events = events[: turn.events]
        return [*events, self.dialect.failure()] if turn.fault == "error" else events

    def _send(
        self, handler: BaseHTTPRequestHandler, turn: Turn, parts: list[bytes], kind: str = "application/json"
    ) -> None:
        promised = sum(map(len, parts)) + (100 if turn.fault == "drop" else 0)
        handler.send_response(turn.status)
        for name, value in {"content-type": kind, "content-length": str(promised), **turn.headers}.items():
            handler.send_header(name, value)
        handler.send_header("connection", "close")
        handler.end_headers()
        try:
            for part in parts:
                handler.wfile.write(part)
                handler.wfile.flush()
        except OSError:
            pass  # the client has stopped reading
        handler.close_connection = True


@contextmanager
def serving(dialect: Dialect, *turns: Turn) -> Generator[Provider]:
    """A stand-in that answers with ``turns``, while the block lasts."""
    provider = Provider(dialect, turns)
    provider.server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    thread = threading.Thread(target=provider.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        thread.join()
        provider.server.server_close()
