"""Parts of the benchmark `redis`: programs in other processes, their processor time, and what Redis has executed."""

import asyncio
import hashlib
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import lg_streaming.log.redis
from tests.support.redis_server import RedisServer
from tests.support.server import ROOT, ServerProcess, serve_process

GATEWAY: Final = "tests.bench.fleet_gateway:make()"
STOCK: Final = "tests.bench.fleet_stock:make()"
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Program:
    """A program of the benchmark in another process, which has printed `ready`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.pid: int = process.pid

    def go(self) -> None:
        """Let it begin."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"go\n")

    async def report(self) -> dict[str, Any]:
        """Return its line of results."""
        assert self._process.stdout is not None
        return json.loads(await self._process.stdout.readline())

    async def end(self) -> None:
        """Let it end."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()


@asynccontextmanager
async def program(module: str, orders: Mapping[str, Any]) -> AsyncGenerator[Program]:
    """A program that has printed `ready`; it ends with the context."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.bench.{module}", json.dumps(orders)),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        if (line := await process.stdout.readline()) != b"ready\n":
            raise AssertionError(f"{module} did not begin: {line!r}")
        running = Program(process)
        yield running
        await running.end()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@contextmanager
def gateways(url: str, count: int = 2, *, app: str = GATEWAY) -> Generator[list[ServerProcess]]:
    """Gateways in processes of their own."""
    with ExitStack() as stack:
        yield [stack.enter_context(serve_process(app, env={"LG_STREAMING_LOG": url})) for _ in range(count)]


class Processors:
    """Processor time of processes since the object was made."""

    def __init__(self, **pids: int | list[int]) -> None:
        self._pids = {name: pid if isinstance(pid, list) else [pid] for name, pid in pids.items()}
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        return {name: sum(map(_seconds, pids)) for name, pids in self._pids.items()}

    def microseconds(self, count: int) -> dict[str, float]:
        """Microseconds by process, divided by a count of updates."""
        now = self._read()
        return {name: round((now[name] - self._before[name]) / count * 1e6, 1) for name in now}


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


class Monitor:
    """The commands that Redis executes for clients of one name, without those within scripts."""

    def __init__(self, server: RedisServer, client_name: str) -> None:
        self._server = server
        self._client_name = client_name
        self._stop = threading.Event()
        self._ready = threading.Event()
        self._commands: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._server.execute("PING")  # the thread looks at each command
        self._thread.join()

    def _run(self) -> None:
        with self._server.client() as client, client.monitor() as monitor:
            self._ready.set()
            while not self._stop.is_set():
                command: Any = monitor.next_command()
                if command["client_type"] == "tcp":
                    self._commands.append((f"{command['client_address']}:{command['client_port']}", command["command"]))

    def counts(self) -> Counter[str]:
        """The commands by name, or by the script's name. Call it while the clients are connected."""
        with self._server.client() as client:
            ours = {each["addr"] for each in client.client_list() if each["name"] == self._client_name}
        return Counter(_name(command) for address, command in self._commands if address in ours)


def _name(command: str) -> str:
    words = command.split()
    name = words[0].lower()
    return _SCRIPTS.get(words[1], name) if name == "evalsha" else name


_SCRIPTS: Final = {
    hashlib.sha1(path.read_bytes(), usedforsecurity=False).hexdigest(): path.stem
    for path in Path(lg_streaming.log.redis.__file__).parent.rglob("*.lua")
}


def used_cpu(server: RedisServer) -> float:
    """Seconds of processor time of Redis."""
    with server.client() as client:
        found: dict[str, Any] = client.info("cpu")
    return float(found["used_cpu_user"]) + float(found["used_cpu_sys"])
