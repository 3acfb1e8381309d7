"""Idempotency keys of starts: a repeated start returns the run of the first one."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import weakref
from collections import OrderedDict
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from time import monotonic as now
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import BadRequestError, IdempotencyError, LogUnavailableError, NoAnswerError
from lg_streaming.fork import new_lock, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from lg_streaming.hub import StreamHub
    from lg_streaming.log.fleet import Fleet
    from lg_streaming.runs.request import RunRequest
    from lg_streaming.runs.run import GraphRun

__all__ = ["StartKeys", "StartRecord"]

logger: logging.Logger = logging.getLogger(__name__)

_KIND: Final = "starts"
_LONGEST_KEY: Final = 256
_MAX_RECORDS: Final = 10_000
_RETRY: Final = 0.05
"""Seconds until a process looks again for the run that another one is starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRecord:
    """Run that a start with a key began."""

    fingerprint: str
    """Hash of the start's arguments."""
    execution_id: str
    run_id: str
    thread_id: str
    graph: str
    owner: str | None
    after: str | None
    """Position before the run's first update."""
    queued: bool
    """True if the run waited for the end of an earlier one."""


@dataclass(slots=True, eq=False)
class _Entry:
    fingerprint: str
    expires_at: float
    record: Future[StartRecord]
    run: weakref.ref[GraphRun] | None = None


class StartKeys:
    """Keys of the starts of this process, and of those that share its log, for ``retention.record_ttl`` seconds.

    A key belongs to its owner: others may use the same one. Of a log of one process, the newest 10,000 are kept.

    Args:
        hub: The hub.
        restore: Returns the handle of a run that was started before.
    """

    def __init__(self, hub: StreamHub, restore: Callable[[StartRecord], GraphRun]) -> None:
        self._hub = hub
        self._restore = restore
        self._lock = new_lock()
        self._start_empty()
        restart_after_fork(self)

    def _start_empty(self) -> None:
        self._entries: OrderedDict[str, _Entry] = OrderedDict()

    def after_fork(self) -> None:
        """Drop the starts of the parent process."""
        self._start_empty()

    async def start(self, key: str, request: RunRequest, begin: Callable[[], Awaitable[GraphRun]]) -> GraphRun:
        """Return the run of an earlier start with this key, also one that is starting now, or begin a run.

        Raises:
            BadRequestError: If the key cannot be used.
            IdempotencyError: If the earlier start had other arguments.
            NoAnswerError: If another process has been starting the run for longer than ``redis.request_timeout``.
            LogUnavailableError: If the log cannot be reached.
            Exception: If ``begin``, of this start or of the one that began first, raised it.
        """
        if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY or not key.isprintable():  # pyright: ignore[reportUnnecessaryIsInstance]
            raise BadRequestError(f"idempotency_key has 1 to {_LONGEST_KEY} printable characters, not {key!r:.80}")
        name = _hash(repr((request.owner, key)).encode())
        fingerprint = self._fingerprint(request)
        while True:
            entry, is_new = self._enter(name, fingerprint)
            if is_new:
                return await self._begin(name, entry, begin)
            if entry.fingerprint != fingerprint:
                raise IdempotencyError(execution_id=request.execution_id)
            try:
                record = await asyncio.shield(asyncio.wrap_future(entry.record))
            except _StartCancelledError:
                continue
            run = entry.run() if entry.run is not None else None
            return run or self._checked(record, fingerprint)

    def _enter(self, name: str, fingerprint: str) -> tuple[_Entry, bool]:
        at = now()
        with self._lock:
            entry = self._entries.get(name)
            if entry is not None and entry.expires_at > at:
                return entry, False
            entry = _Entry(fingerprint, at + self._hub.settings.retention.record_ttl, Future())
            self._entries[name] = entry
            self._entries.move_to_end(name)
            if len(self._entries) > _MAX_RECORDS:
                self._entries.popitem(last=False)
        return entry, True

    async def _begin(self, name: str, entry: _Entry, begin: Callable[[], Awaitable[GraphRun]]) -> GraphRun:
        fleet = self._hub.log.fleet
        try:
            if fleet is None:
                run = await begin()
            else:
                run = await self._begin_shared(fleet, name, entry.fingerprint, begin)
        except BaseException as error:
            with self._lock:
                if self._entries.get(name) is entry:
                    del self._entries[name]
            entry.record.set_exception(error if isinstance(error, Exception) else _StartCancelledError())
            raise
        entry.run = weakref.ref(run)
        entry.record.set_result(_record(run, entry.fingerprint))
        return run

    async def _begin_shared(
        self, fleet: Fleet, name: str, fingerprint: str, begin: Callable[[], Awaitable[GraphRun]]
    ) -> GraphRun:
        settings, claim = self._hub.settings, f"start {name}"
        give_up_at = now() + settings.redis.request_timeout
        while (found := await self._find(fleet, name, fingerprint)) is None and not await fleet.claim(claim):
            if now() > give_up_at:
                raise NoAnswerError("another process is starting the run with this idempotency key: try again later")
            await asyncio.sleep(_RETRY)
        if found is not None:
            return found
        try:
            found = await self._find(fleet, name, fingerprint)
            if found is not None:
                return found
            run = await begin()
            try:
                await fleet.put(_KIND, name, asdict(_record(run, fingerprint)), ttl=settings.retention.record_ttl)
            except LogUnavailableError as error:
                logger.warning("the idempotency key of run %s holds only in this process: %s", run.run_id, error)
            return run
        finally:
            fleet.release(claim)

    async def _find(self, fleet: Fleet, name: str, fingerprint: str) -> GraphRun | None:
        found = await fleet.get(_KIND, name)
        return None if found is None else self._checked(StartRecord(**found), fingerprint)

    def _checked(self, record: StartRecord, fingerprint: str) -> GraphRun:
        if record.fingerprint != fingerprint:
            raise IdempotencyError(execution_id=record.execution_id)
        return self._restore(record)

    def _fingerprint(self, request: RunRequest) -> str:
        config: dict[str, Any] = {
            name: value for name, value in (request.config or {}).items() if name not in {"callbacks", "run_id"}
        }
        named = request.execution_id if request.is_named else None
        values = [request.graph_name, request.input, named, config, request.context, request.metadata]
        options = [request.if_running, request.on_disconnect, request.deadline, request.call_options]
        return _hash(bytes(self._hub.publisher.encode([*values, *options])))


class _StartCancelledError(Exception):
    """Start that was cancelled, so that a repeated one begins the run."""


def _record(run: GraphRun, fingerprint: str) -> StartRecord:
    return StartRecord(
        fingerprint=fingerprint,
        execution_id=run.execution_id,
        run_id=run.run_id,
        thread_id=run.thread_id,
        graph=run.graph,
        owner=run.owner,
        after=str(run.after) if run.after is not None else None,
        queued=not run.is_open,
    )


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
