"""Drives a Node script of tests/js over JSON lines; by default the official socket.io-client."""

import asyncio
import itertools
import json
import shutil
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

JS = Path(__file__).resolve().parents[1] / "js"
LINE_LIMIT = 32 * 1024 * 1024
TIMEOUT = 10.0

Line = dict[str, Any]


class NodeError(Exception):
    """The Node process is missing, ended, or did not print the expected line."""


class NodeClient:
    """One Node process with one Socket.IO client in it.

    Lines are kept until asked for: `next` takes the oldest one, `event`, `emit` and `take` the oldest that fits and
    leave the others in order. One task may wait at a time.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.process = process
        self._stdin = process.stdin
        self._stdout = process.stdout
        self._kept: deque[Line] = deque()
        self._ids = itertools.count(1)

    async def send(self, cmd: str, **fields: Any) -> None:
        """Give a command (see client.mjs) without waiting; what it does comes as lines."""
        self._stdin.write(json.dumps({"cmd": cmd, **fields}).encode() + b"\n")
        await self._stdin.drain()

    async def next(self, *, timeout: float = TIMEOUT) -> Line:
        """The oldest line not yet taken, `done` and `ready` lines left out."""
        return await self.take(lambda line: True, timeout=timeout)

    async def take(self, fits: Callable[[Line], bool], *, timeout: float = TIMEOUT) -> Line:
        """The oldest line that `fits`; raises NodeError after `timeout` seconds or when Node ended."""
        for index, line in enumerate(self._kept):
            if fits(line):
                del self._kept[index]
                return line
        try:
            async with asyncio.timeout(timeout):
                while True:
                    line = await self._read()
                    if fits(line):
                        return line
                    self._kept.append(line)
        except TimeoutError:
            msg = f"nothing that fits within {timeout} s; lines so far: {list(self._kept)!r}"
            raise NodeError(msg) from None

    async def of_type(self, type_: str, *, timeout: float = TIMEOUT) -> Line:
        """The oldest line of a type: `connect`, `disconnect`, `connect_error`, `event`, …"""
        return await self.take(lambda line: line["type"] == type_, timeout=timeout)

    async def event(self, *names: str, timeout: float = TIMEOUT) -> Any:
        """The payload of the oldest event with one of these names (of any name when none is given)."""
        line = await self.take(
            lambda line: line["type"] == "event" and (not names or line["event"] in names), timeout=timeout
        )
        return line["payload"]

    async def events(self, *names: str, until: Callable[[Line], bool], timeout: float = TIMEOUT) -> list[Line]:
        """The lines of events with these names, up to and with the first for which `until` is true."""
        found: list[Line] = []
        async with asyncio.timeout(timeout):
            while not found or not until(found[-1]):
                found.append(
                    await self.take(
                        lambda line: line["type"] == "event" and (not names or line["event"] in names),
                        timeout=timeout,
                    )
                )
        return found

    async def emit(self, event: str, payload: Any = None, *, timeout: float = TIMEOUT) -> Any:
        """Emit and wait for the acknowledgement: returns its payload."""
        id_ = next(self._ids)
        await self.send("emit", event=event, payload=payload, ack=True, id=id_, timeout=timeout * 1000)
        line = await self.take(
            lambda line: line["type"] in {"ack", "ack_timeout"} and line["id"] == id_, timeout=timeout + 1
        )
        if line["type"] == "ack_timeout":
            msg = f"no acknowledgement of {event!r} within {timeout} s; lines so far: {list(self._kept)!r}"
            raise NodeError(msg)
        return line["payload"]

    async def emit_without_ack(self, event: str, payload: Any = None) -> None:
        """Emit without asking for an acknowledgement."""
        await self.send("emit", event=event, payload=payload)

    def kept(self) -> list[Line]:
        """The lines already read and not yet taken, for assertions that something did not happen."""
        return list(self._kept)

    async def _read(self) -> Line:
        while True:
            raw = await self._stdout.readline()
            if not raw:
                stderr = await self.process.stderr.read() if self.process.stderr else b""
                msg = f"the Node process ended with {await self.process.wait()}:\n{stderr.decode()}"
                raise NodeError(msg)
            line: Line = json.loads(raw)
            if line["type"] == "command_error":
                msg = f"command {line['cmd']!r} failed in Node: {line['message']}"
                raise NodeError(msg)
            if line["type"] not in {"done", "ready"}:
                return line

    async def aclose(self) -> None:
        """End the process: by the end of its stdin, then by force."""
        self._stdin.close()
        try:
            async with asyncio.timeout(5):
                # Reading to the end lets a process out that is stuck in a full pipe.
                await asyncio.gather(self._stdout.read(), self.process.wait())
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


def node_executable() -> str:
    """The path of Node; raises NodeError with what to do when it, or the packages of tests/js, are missing."""
    node = shutil.which("node")
    if node is None:
        msg = "node is not installed: `make test` installs it, or `apt-get install nodejs npm`"
        raise NodeError(msg)
    if not (JS / "node_modules" / "socket.io-client").is_dir():
        msg = "tests/js/node_modules is missing: run `make js` (or `npm install` in tests/js)"
        raise NodeError(msg)
    return node


@asynccontextmanager
async def node_process(script: str = "client.mjs", *arguments: str) -> AsyncGenerator[NodeClient]:
    """Start a script of tests/js; ends it at the end, however it is."""
    process = await asyncio.create_subprocess_exec(
        node_executable(),
        script,
        *arguments,
        cwd=JS,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_LIMIT,
    )
    client = NodeClient(process)
    try:
        yield client
    finally:
        await client.aclose()


@asynccontextmanager
async def node_client(
    url: str,
    *,
    auth: Mapping[str, Any] | None = None,
    path: str = "/socket.io",
    namespace: str = "/",
    opts: Mapping[str, Any] | None = None,
    wait: bool = True,
) -> AsyncGenerator[NodeClient]:
    """The official socket.io-client, connected to `url`.

    Args:
        url: `http://host:port`.
        auth: The handshake's auth payload, such as `{"token": …}`.
        path: The mount of Socket.IO.
        namespace: The Socket.IO namespace.
        opts: Further options of the client; reconnection is off unless given here.
        wait: Wait for the connection; NodeError when it is refused. False leaves `connect` and `connect_error` lines
            to the test.
    """
    async with node_process() as client:
        fields = {"url": url, "auth": dict(auth or {}), "path": path, "namespace": namespace, "opts": dict(opts or {})}
        await client.send("connect", **fields)
        if wait:
            line = await client.take(lambda line: line["type"] in {"connect", "connect_error"})
            if line["type"] == "connect_error":
                msg = f"the connection was refused: {line!r}"
                raise NodeError(msg)
        yield client
