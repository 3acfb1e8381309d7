"""A stand-in for a provider whose answers never end: it counts calls, and connections that its clients hold open."""

import json
import select
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.providers.openai import ChatCompletions
from tests.providers.turns import Turn

TICK = 0.005
"""Seconds between two tokens."""


class EndlessProvider:
    """A running stand-in, in OpenAI's format."""

    def __init__(self) -> None:
        self.calls = 0
        """Requests so far."""
        self.open = 0
        """Requests whose client has not closed its connection."""
        self._changed = threading.Condition()
        self.stopping = threading.Event()
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
        """Stream tokens until the client closes its connection."""
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        self._count(calls=1, open=1)
        try:
            self._stream(handler, streams=bool(body.get("stream")))
        except OSError:
            pass
        finally:
            handler.close_connection = True
            self._count(open=-1)

    def _stream(self, handler: BaseHTTPRequestHandler, *, streams: bool) -> None:
        events = ChatCompletions().stream(Turn(text=("word ",)), {})
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream" if streams else "application/json")
        handler.send_header("connection", "close")
        handler.end_headers()
        while not self.stopping.is_set():
            if streams:
                handler.wfile.write(events[1])
                handler.wfile.flush()
            if select.select([handler.connection], [], [], TICK)[0]:
                return  # the client sends nothing more: this is its close

    def _count(self, *, calls: int = 0, open: int = 0) -> None:
        with self._changed:
            self.calls += calls
            self.open += open
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Block until a condition on the counts is true."""
        with self._changed:
            assert self._changed.wait_for(condition, 10), f"{self.calls} calls, {self.open} open"


@contextmanager
def endless_provider() -> Generator[EndlessProvider]:
    """A stand-in whose answers end with the block."""
    provider = EndlessProvider()
    thread = threading.Thread(target=provider.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.stopping.set()
        provider.server.shutdown()
        thread.join()
        provider.server.server_close()
