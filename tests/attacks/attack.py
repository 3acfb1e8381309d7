"""Attacks: coroutines that do harm to a target on loopback and report their observation."""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import jwt

__all__ = ["PATIENCE", "SECRET", "Attack", "Bystander", "Result", "Target", "bystander", "raw_get"]

SECRET = "0123456789abcdef0123456789abcdef"
PATIENCE = 20.0
"""Seconds after which a step of an attack, or a bystander's request, counts as never answered."""
_BYSTANDER_ADDRESS = "127.0.0.250"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A server under attack: `python -m lg_streaming serve` with `auth.secret` set to `SECRET`."""

    host: str
    port: int
    pid: int
    log: Path
    """The server's stderr."""
    tls: ssl.SSLContext | None = None
    """The TLS context of a client, if the server uses TLS."""

    @property
    def url(self) -> str:
        """`http://host:port`, without a slash at the end."""
        return f"http://{self.host}:{self.port}"

    @property
    def ws_url(self) -> str:
        """`ws://host:port`, without a slash at the end."""
        return f"ws://{self.host}:{self.port}"

    def token(self, subject: str = "alice", *, ttl: float = 600, **claims: object) -> str:
        """A token that the target accepts."""
        now = time.time()
        return jwt.encode({"sub": subject, "iat": now, "exp": now + ttl, **claims}, SECRET, algorithm="HS256")

    def rss(self) -> float:
        """Resident memory of the target in MiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
        raise ProcessLookupError(self.pid)

    def descriptors(self) -> int:
        """Open file descriptors of the target."""
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    def cpu(self) -> float:
        """Processor seconds the target has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log_lines(self) -> int:
        """Lines the target has logged."""
        return self.log.read_text(errors="replace").count("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Result of an attack.

    Attributes:
        bound: The limit, such as "64 KiB of header".
        seen: The measurement, such as "closed after 65,700 bytes; others waited 3 ms".
        held: Whether the server held.
    """

    bound: str
    seen: str
    held: bool


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack: `row` of the table of threats, a short name, and the coroutine that mounts it.

    `options` are further arguments of `python -m lg_streaming serve`, `env` further settings of the server that the
    attack needs; attacks with the same ones share a server.
    """

    row: str
    name: str
    run: Callable[[Target], Awaitable[Result]]
    options: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    secure: bool = False
    """Return whether the server uses TLS."""


@dataclass(slots=True)
class Bystander:
    """Durations in seconds of another client's requests during an attack."""

    waits: list[float] = field(default_factory=list[float])

    @property
    def worst(self) -> float:
        """The longest wait."""
        return max(self.waits, default=float("inf"))

    @property
    def median(self) -> float:
        """The wait in the middle."""
        return sorted(self.waits)[len(self.waits) // 2] if self.waits else float("inf")

    def __str__(self) -> str:
        return f"others waited {self.median * 1000:.0f} ms, at most {self.worst * 1000:.0f} ms"


async def raw_get(
    target: Target, path: str = "/health", *, source: str | None = None, timeout: float = PATIENCE
) -> tuple[int, bytes]:
    """Return the status and body of a GET on a new connection; status 0 when the connection ended without one."""
    local = (source, 0) if source is not None else None
    async with asyncio.timeout(timeout):
        reader, writer = await asyncio.open_connection(target.host, target.port, local_addr=local, ssl=target.tls)
        try:
            writer.write(
                f"GET {path} HTTP/1.1\r\nHost: {target.host}:{target.port}\r\nConnection: close\r\n\r\n".encode()
            )
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            words = head.split(b" ", 2)
            return (int(words[1]) if len(words) > 1 else 0), body
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


@asynccontextmanager
async def bystander(
    target: Target, path: str = "/health", *, every: float = 0.05, source: str = _BYSTANDER_ADDRESS
) -> AsyncGenerator[Bystander]:
    """Ask for `path` again and again while a block lasts, from a separate address, each time on a new connection."""
    watching = Bystander()

    async def ask() -> None:
        while True:
            began = time.perf_counter()
            try:
                status, _ = await raw_get(target, path, source=source)
            except (OSError, TimeoutError):
                status = 0
            watching.waits.append(time.perf_counter() - began if status in {200, 503} else float("inf"))
            await asyncio.sleep(every)

    asking = asyncio.create_task(ask(), name="bystander")
    try:
        yield watching
        while not watching.waits:
            await asyncio.sleep(0.01)
    finally:
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
