"""The lease of this process, and the dead processes whose runs must end."""

from __future__ import annotations

import asyncio
import importlib.metadata
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import orjson

from lg_streaming.errors import LogUnavailableError
from lg_streaming.log.fleet import ProcessInfo
from lg_streaming.log.redis.rare_log import RareLog
from lg_streaming.log.redis.scripts import Script

if TYPE_CHECKING:
    from lg_streaming.log.redis.store import Store

__all__ = ["Abandon", "Lease", "new_process_id", "runs_key"]

Abandon = Callable[[str, str], Awaitable[None]]
"""``await abandon(execution_id, process_id)`` ends the open run of an execution, if that process still holds it."""

logger: logging.Logger = logging.getLogger(__name__)

KEEP_MS: Final = 86_400_000
"""Time for which a dead process cannot come back."""
_VERSION: Final = importlib.metadata.version("lg-streaming")
_MAX_REPORT: Final = 65_536
_RUNS_AT_ONCE: Final = 16
_RUNS_PER_READ: Final = 256

_RENEW: Final = Script.load("renew_lease.lua")
_LIST: Final = Script.load("list_processes.lua")
_BEGIN: Final = Script.load("begin_reaping.lua")
_END: Final = Script.load("end_reaping.lua")


def new_process_id() -> str:
    """Return a random id for a process."""
    return secrets.token_hex(8)


def runs_key(store: Store, process_id: str) -> str:
    """Return the key of the set of executions whose open runs a process holds."""
    return store.key("runs", f"{{{process_id}}}")


class Lease:
    """Lease of this process, renewed by `renew`, and the other processes' leases.

    Use it on one event loop.

    Args:
        store: Commands of Redis.
        seconds: Length of the lease.
        abandon: Function that ends a run of a dead process.
    """

    def __init__(self, store: Store, *, seconds: float, abandon: Abandon | None) -> None:
        self._store = store
        self._seconds = seconds
        self._abandon = abandon
        self._reaping: set[str] = set()
        self._rare = RareLog(logger)
        self.process_id: str = new_process_id()
        self.live: frozenset[str] = frozenset({self.process_id})
        self.dead: frozenset[str] = frozenset()
        """Processes whose lease has expired and whose runs have not ended, at the last `refresh`."""
        self.report: Callable[[], Mapping[str, Any]] = dict

    @property
    def milliseconds(self) -> int:
        """Length of the lease."""
        return round(self._seconds * 1000)

    def keys(self, process_id: str, *kinds: str) -> list[str]:
        """Return keys of a process, which share a slot."""
        return [self._store.key(kind, f"{{{process_id}}}") for kind in kinds]

    async def renew(self) -> tuple[bool, int] | None:
        """Renew the lease.

        Returns:
            None if another process has declared this one dead. Otherwise: whether the lease was taken anew, as at first
            or after a loss of data; and the number of requests in the mailbox.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        state, waiting = await self._store.run(
            _RENEW,
            self.keys(self.process_id, "process", "reaped", "runs", "mail"),
            self.milliseconds,
            KEEP_MS,
            self._encode_report(),
            socket.gethostname(),
            os.getpid(),
            _VERSION,
        )
        return None if state < 0 else (state == 1, waiting)

    async def refresh(self, *, renewed: bool) -> tuple[frozenset[str], frozenset[str]]:
        """Read the leases of all processes, and set `live` and `dead`. With ``renewed``, record that of this one first.

        Returns:
            The processes that live, and those that are dead and not removed.
        """
        own = (self.process_id, self.milliseconds) if renewed else ()
        now, flat = await self._store.run(_LIST, [self._store.key("processes")], *own)
        ends = {flat[i].decode(): float(flat[i + 1]) for i in range(0, len(flat), 2) if flat[i].isascii()}
        live = frozenset(each for each, end in ends.items() if end > now)
        self.live, self.dead = live | {self.process_id}, frozenset(ends) - live
        return live, self.dead

    async def reap(self, process_id: str) -> bool:
        """End the runs of a dead process, and remove it; return whether that is done. Leaving, it may be this one.

        Raises:
            LogUnavailableError: If Redis cannot be reached; a later call continues.
        """
        if process_id in self._reaping:
            return False
        self._reaping.add(process_id)
        try:
            leaving = process_id == self.process_id
            state = await self._store.run(
                _BEGIN,
                self.keys(process_id, "process", "reaped", "mail"),
                self.process_id,
                self.milliseconds,
                KEEP_MS,
                int(leaving),
            )
            if state == 0:
                return False
            if state == 1:
                await self._end_runs(process_id, leaving=leaving)
            await self._store.command("ZREM", self._store.key("processes"), process_id)
            return True
        finally:
            self._reaping.discard(process_id)

    async def _end_runs(self, process_id: str, *, leaving: bool) -> None:
        done, ended = False, 0
        try:
            while runs := await self._store.command("SRANDMEMBER", runs_key(self._store, process_id), _RUNS_PER_READ):
                for start in range(0, len(runs), _RUNS_AT_ONCE):
                    await asyncio.gather(
                        *(self._end_run(each.decode(), process_id) for each in runs[start : start + _RUNS_AT_ONCE])
                    )
                await self._store.command("SREM", runs_key(self._store, process_id), *runs)
                ended += len(runs)
            done = True
        finally:
            await self._store.run(_END, self.keys(process_id, "reaped", "runs"), self.process_id, int(done))
        if not leaving:
            logger.warning("process %s is gone, open runs that ended with it: %d", process_id, ended)
        elif ended:
            logger.info("this process stops, open runs that ended with it: %d", ended)

    async def _end_run(self, execution_id: str, process_id: str) -> None:
        if self._abandon is None:
            return
        try:
            await self._abandon(execution_id, process_id)
        except LogUnavailableError:
            raise
        except Exception:
            logger.exception("the run of %r, held by the dead process %s, cannot be ended", execution_id, process_id)

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the live processes, oldest first."""
        live, _ = await self.refresh(renewed=False)
        fields = ("host", "pid", "version", "started", "seen", "report")
        all_values = await asyncio.gather(
            *(self._store.command("HMGET", *self.keys(each, "process"), *fields) for each in live)
        )
        found: list[ProcessInfo] = []
        for process_id, values in zip(live, all_values, strict=True):
            if values[3] is None:
                continue  # it has left since
            try:
                found.append(_parse_process(process_id, values))
            except (AttributeError, TypeError, ValueError) as error:
                self._rare.note("a process in the list of processes is malformed", error)
        return sorted(found, key=lambda each: (each.started_at, each.process_id))

    def _encode_report(self) -> bytes:
        try:
            encoded = orjson.dumps(dict(self.report()))
        except Exception:
            logger.exception("the report of this process cannot be published")
            return b"{}"
        if len(encoded) > _MAX_REPORT:
            logger.error("the report of this process has %d bytes: at most %d", len(encoded), _MAX_REPORT)
            return b"{}"
        return encoded


def _parse_process(process_id: str, values: Sequence[bytes]) -> ProcessInfo:
    host, pid, version, started, seen, report = values
    counts = orjson.loads(report)
    if not isinstance(counts, dict):
        raise TypeError("the report of a process is no JSON object")
    return ProcessInfo(
        process_id=process_id,
        host=host.decode(errors="replace"),
        pid=int(pid),
        version=version.decode(),
        started_at=int(started) / 1000,
        seen_at=int(seen) / 1000,
        report=cast("dict[str, Any]", counts),
    )
