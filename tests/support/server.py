"""Real uvicorn servers on a free loopback port, in a thread of this process or in a process of their own."""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import uvicorn

from lg_streaming.gateway.hooks.server import mark_closing
from tests.support import warm
from tests.support.warm import ROOT as ROOT  # noqa: PLC0414 (for those who start more)

START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0

# The options of uvicorn in the README; a test may override any of them.
DEFAULTS: Mapping[str, Any] = {
    "ws_max_size": 65_536,
    "ws_per_message_deflate": False,
    "log_level": "warning",
    "access_log": False,
    "timeout_graceful_shutdown": 3,
}


class ServerError(Exception):
    """A test server did not start or did not stop."""


class _SignallingServer(uvicorn.Server):
    """Server that notifies the waiting thread when it listens, or will never listen.

    It stops at once, as tests stop thousands of servers. Uvicorn looks for a signal every 0.1 s, and then waits 0.1 s
    for its connections, even without any.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.decided = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._signal = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        try:
            await super().startup(sockets)
        finally:
            self.decided.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._signal.set)

    async def main_loop(self) -> None:
        counter = 0
        while not await self.on_tick(counter):
            counter += 1
            with suppress(TimeoutError):
                await asyncio.wait_for(self._signal.wait(), 0.1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        state = self.server_state
        if state.connections or state.tasks or self.force_exit:
            mark_closing(self)
            await super().shutdown(sockets)
            return
        for server in self.servers:
            server.close()
        for each in sockets or []:
            each.close()
        for server in self.servers:
            await server.wait_closed()
        await self.lifespan.shutdown()


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server of this process.

    Attributes:
        url: `http://127.0.0.1:<port>`, without a slash at the end.
    """

    host: str
    port: int
    _server: _SignallingServer
    _thread: threading.Thread
    _failures: list[BaseException]

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    def stop(self, timeout: float = STOP_TIMEOUT) -> float:
        """Stop as on SIGTERM and return the seconds it took; raises ServerError after `timeout`. Idempotent."""
        began = time.monotonic()
        if self._thread.is_alive():
            self._server.handle_exit(signal.SIGTERM, None)
            self._thread.join(timeout)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(timeout)
            msg = f"the server did not stop within {timeout} s: some connection or task keeps it"
            raise ServerError(msg)
        if self._failures:
            msg = f"the server ended with {self._failures[0]!r}"
            raise ServerError(msg) from self._failures[0]
        return time.monotonic() - began


def free_socket(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """A bound TCP socket, so that the port cannot be lost between choosing and listening."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    return sock


def _options(given: Mapping[str, Any], **defaults: Any) -> dict[str, Any]:
    return {**DEFAULTS, **defaults, **given}


@contextmanager
def serve(app: Callable[..., Any], *, host: str = "127.0.0.1", port: int = 0, **options: Any) -> Generator[Server]:
    """Serve an ASGI app from a background thread with its own event loop; stops within 5 s at the end.

    What uvicorn logs goes where this process's logging leads, so `caplog` sees it.

    Args:
        app: The ASGI application.
        host: A loopback address.
        port: 0 picks a free one.
        options: Further arguments of `uvicorn.Config`.
    """
    sock = free_socket(host, port)
    server = _SignallingServer(uvicorn.Config(app, **_options(options, log_config=None)))
    failures: list[BaseException] = []

    def run() -> None:
        try:
            server.run(sockets=[sock])
        except BaseException as error:  # noqa: BLE001  (uvicorn leaves a failed start with SystemExit)
            failures.append(error)
        finally:
            server.decided.set()
            sock.close()

    thread = threading.Thread(target=run, name="test-server", daemon=True)
    running = Server(host=host, port=sock.getsockname()[1], _server=server, _thread=thread, _failures=failures)
    thread.start()
    if not server.decided.wait(START_TIMEOUT) or not server.started:
        running.stop()
        msg = f"the server did not start within {START_TIMEOUT} s"
        raise ServerError(msg)
    try:
        yield running
    finally:
        running.stop()


@dataclass(slots=True, kw_only=True)
class ServerProcess:
    """A server in another process, which can be killed.

    Attributes:
        url: `http://127.0.0.1:<port>`, without a slash at the end.
        log: Its stderr, complete once the process has ended.
    """

    host: str
    port: int
    process: warm.Program | subprocess.Popen[str]
    _lines: list[str] = field(default_factory=list[str])
    _reader: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://{self.host}:{self.port}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def stop(self, timeout: float = STOP_TIMEOUT) -> float:
        """SIGTERM, then wait: returns the seconds it took; raises ServerError after `timeout`. Idempotent."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            msg = f"the server process did not stop within {timeout} s of SIGTERM:\n{self.log}"
            raise ServerError(msg) from None
        self._close()
        return time.monotonic() - began

    def kill(self) -> None:
        """Send SIGKILL: no client is notified. Idempotent."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        self._close()

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()


@contextmanager
def serve_process(
    app: str,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    env: Mapping[str, str] | None = None,
    fresh: bool = False,
    **options: Any,
) -> Generator[ServerProcess]:
    """Serve an app from another process; stop it at the end unless it ended before.

    Args:
        app: Where it is: `"package.module:name"`, or `"package.module:make()"` for a function that makes it.
        host: A loopback address.
        port: 0 picks a free one; with a fixed port a killed server can restart at the same address.
        env: Further environment variables.
        fresh: Whether it has a new interpreter; else it is a fork of one that has imported the library.
        options: Further arguments of `uvicorn.Config`, in JSON's types.
    """
    command = ["-m", "tests.support.server", app, f"--host={host}", f"--port={port}"]
    process = warm.start(
        *(*command, f"--options={json.dumps(options)}"),
        env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
        fresh=fresh,
    )
    lines: list[str] = []

    def read() -> None:
        assert process.stderr is not None
        lines.extend(process.stderr)

    reader = threading.Thread(target=read, name="test-server-log", daemon=True)
    reader.start()
    assert process.stdout is not None
    first = process.stdout.readline()
    running = ServerProcess(host=host, port=0, process=process, _lines=lines, _reader=reader)
    if not first:
        process.wait()
        running.kill()
        msg = f"the server process for {app!r} did not start:\n{running.log}"
        raise ServerError(msg)
    running.port = json.loads(first)["port"]
    try:
        yield running
    finally:
        running.stop()


def _main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("app")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--options", type=json.loads, default={})
    arguments = parser.parse_args()
    name = arguments.app.removesuffix("()")
    config = uvicorn.Config(name, factory=name != arguments.app, **_options(arguments.options))
    sock = free_socket(arguments.host, arguments.port)

    class Announcing(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(json.dumps({"port": sock.getsockname()[1]}), flush=True)

    with suppress(KeyboardInterrupt):
        Announcing(config).run(sockets=[sock])


if __name__ == "__main__":
    _main()
