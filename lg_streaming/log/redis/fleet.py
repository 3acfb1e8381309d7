"""The processes that share a log on Redis."""

from __future__ import annotations

import asyncio
import logging
import math
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lg_streaming.backoff import LOG_BACKOFF
from lg_streaming.errors import LogUnavailableError
from lg_streaming.fork import new_lock, restart_after_fork
from lg_streaming.log.fleet import RUN_RELEASED
from lg_streaming.log.redis.claims import Claims
from lg_streaming.log.redis.counters import Counters
from lg_streaming.log.redis.lease import Abandon, Lease, new_process_id, runs_key
from lg_streaming.log.redis.mailbox import Mailbox
from lg_streaming.log.redis.messages import Messages
from lg_streaming.log.redis.rare_log import RareLog
from lg_streaming.log.redis.shared_values import Values
from lg_streaming.log.redis.store import encode_json

if TYPE_CHECKING:
    import concurrent.futures

    from lg_streaming.log.fleet import CountLimit, MessageHandler, ProcessInfo, RateLimit, RequestHandler
    from lg_streaming.log.redis.io_thread import IoThread
    from lg_streaming.log.redis.notifications import Subscribe
    from lg_streaming.log.redis.store import Store

__all__ = ["RedisFleet"]

T = TypeVar("T")

logger: logging.Logger = logging.getLogger(__name__)

_TIMEOUT: Final = 5.0
_SUBSCRIBE_TIMEOUT: Final = 1.0


class RedisFleet:
    """Fleet of the processes that share a prefix of keys on Redis: see `Fleet`.

    The first use starts it: it then takes its lease, and looks for processes that have died. A forked child begins
    anew, with another id and without claims.

    Args:
        store: Commands of Redis, on the event loop of ``io``.
        io: Thread of the connections.
        subscribe: Function that subscribes to a channel.
        lease: Length of the lease in seconds. It is renewed three times as often.
        abandon: Function that ends a run of a dead process.
        open_runs: Function that returns the executions whose open runs this process holds, for a Redis that lost them.
        restore_runs: Function that is called when Redis has lost the lease and there are such runs.
    """

    def __init__(
        self,
        store: Store,
        io: IoThread,
        subscribe: Subscribe,
        *,
        lease: float = 10.0,
        abandon: Abandon | None = None,
        open_runs: Callable[[], Iterable[str]] | None = None,
        restore_runs: Callable[[], None] | None = None,
    ) -> None:
        self._io = io
        self._subscribe = subscribe
        self._seconds = lease
        self._abandon = abandon
        self._open_runs = open_runs
        self._restore_runs = restore_runs
        self._store = store
        self._lock = new_lock()
        self._request_handlers: dict[str, RequestHandler] = {}
        self._on_claim_lost: tuple[Callable[[str], None], ...] = ()
        self._on_lease_lost: tuple[Callable[[str], None], ...] = ()
        self._report: Callable[[], Mapping[str, Any]] = dict
        self._rare = RareLog(logger)
        self._messages = Messages(store, self._rare, self._on_change)
        self._values = Values(store)
        self._closed = False
        self._begin()
        restart_after_fork(self)

    def _begin(self) -> None:
        """Begin as a new process."""
        self._lease = Lease(self._store, seconds=self._seconds, abandon=self._abandon)
        self._lease.report = self._report
        self._claims = Claims(self._store, self._lease, self._lose_claim)
        self._counters = Counters(self._store, self._lease)
        self._mailbox = Mailbox(self._store, self._lease, self._request_handlers)
        self._messages.reset()
        self._messages.own_ids.add(self._lease.process_id)
        self._serving: concurrent.futures.Future[object] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._renewing = asyncio.Lock()
        self._wake = asyncio.Event()
        self._subscribed = asyncio.Event()
        self._registered = self._may_have_lease = False
        self._data_lost = False
        self._renewed_at = -math.inf
        self._steady_since = math.inf
        """Time of the first of the renewals without a failure or a gap between them."""
        self._failure = ""

    def after_fork(self) -> None:
        """Begin as a new process: the lease, the claims and the requests belong to the parent."""
        self._begin()

    @property
    def process_id(self) -> str:
        """See `Fleet.process_id`. It changes if another process has declared this one dead."""
        return self._lease.process_id

    @property
    def live(self) -> frozenset[str]:
        """See `Fleet.live`."""
        return self._lease.live

    def start(self) -> None:
        """Take the lease in the background, unless that has begun. Thread-safe."""
        with self._lock:
            if not self._closed and (self._serving is None or self._serving.done()):
                self._serving = self._io.spawn(self._serve())

    async def aclose(self) -> None:
        """Leave the fleet: end the runs that this process still holds, and release its claims.

        Requests to this process end with `NoAnswerError`. Without Redis, the others find out when the lease expires.
        """
        self._closed = True
        if self._serving is not None:
            await self._io.run(self._leave())

    def reopen(self) -> None:
        """Begin as a new process, after `aclose`. Handlers stay."""
        self._closed = False
        self._begin()

    # --- runs -----------------------------------------------------------------------------------------------

    def runs_key(self, process_id: str) -> str:
        """Return the key of the set of executions whose open runs a process holds."""
        return runs_key(self._store, process_id)

    def add_run(self, execution_id: str, process_id: str) -> tuple[str, str, str]:
        """Return the command that records a process as the holder of an execution's open run."""
        return "SADD", runs_key(self._store, process_id), execution_id

    def remove_run(self, execution_id: str, process_id: str) -> tuple[str, str, str]:
        """Return the command that undoes `add_run`."""
        return "SREM", runs_key(self._store, process_id), execution_id

    def on_lease_lost(self, handler: Callable[[str], None]) -> Callable[[], None]:
        """Call ``handler(old_process_id)`` if another process declared this one dead, as after a long pause.

        The runs of the old id have ended or will, and `process_id` is a new one. Called on the fleet's thread.
        """
        with self._lock:
            self._on_lease_lost += (handler,)

        def remove() -> None:
            with self._lock:
                self._on_lease_lost = _without(self._on_lease_lost, handler)

        return remove

    def announce_released(self, execution_id: str) -> None:
        """Notify all processes, this one too, of a run that is open without a process. Call it on the I/O thread."""
        payload = {"execution_id": execution_id}
        self._messages.put(self.process_id, RUN_RELEASED, payload)
        if not self._closed:
            self._io.spawn(self._messages.send())
            self._messages.call(RUN_RELEASED, payload)

    # --- requests and messages ------------------------------------------------------------------------------

    def on_request(self, name: str, handler: RequestHandler) -> None:
        """See `Fleet.on_request`."""
        self._request_handlers[name] = handler

    async def request(self, process_id: str, name: str, payload: object, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 (sent along)
        """See `Fleet.request`.

        Raises:
            ValueError: If the payload has more than 1 MiB as JSON.
            TypeError: If the payload is no JSON value.
        """
        encoded = encode_json(payload, f"the payload of the request {name!r}")
        seconds = _TIMEOUT if timeout is None else timeout
        return await self._run(lambda: self._mailbox.request(process_id, name, encoded, seconds))

    def publish(self, topic: str, payload: object) -> None:
        """See `Fleet.publish`. Raises ValueError and TypeError like `request`."""
        if not self._closed:
            self._messages.put(self.process_id, topic, payload)
            self.start()
            self._io.spawn(self._messages.send())

    def on_message(self, topic: str, handler: MessageHandler) -> Callable[[], None]:
        """See `Fleet.on_message`. Messages arrive once another method, or the log, is used."""
        return self._messages.on_message(topic, handler)

    def spawn(self, job: Callable[[], Awaitable[object]]) -> None:
        """See `Fleet.spawn`."""
        if not self._closed:
            self._io.spawn(_await(job))

    # --- claims ---------------------------------------------------------------------------------------------

    async def claim(self, name: str) -> bool:
        """See `Fleet.claim`."""
        return await self._run(lambda: self._claims.claim(name), registered=True)

    def release(self, name: str) -> None:
        """See `Fleet.release`."""
        if self._serving is not None and not self._closed:
            self._io.spawn(self._claims.release(name))

    def on_claim_lost(self, handler: Callable[[str], None]) -> Callable[[], None]:
        """See `Fleet.on_claim_lost`."""
        with self._lock:
            self._on_claim_lost += (handler,)

        def remove() -> None:
            with self._lock:
                self._on_claim_lost = _without(self._on_claim_lost, handler)

        return remove

    # --- shared values --------------------------------------------------------------------------------------

    async def put(self, kind: str, key: str, value: object, *, ttl: float) -> None:
        """See `Fleet.put`. Raises ValueError and TypeError like `request`."""
        encoded = encode_json(value, f"the value {key!r} of kind {kind!r}")
        await self._run(lambda: self._values.put(kind, key, encoded, ttl))

    async def get(self, kind: str, key: str) -> Any:
        """See `Fleet.get`."""
        return await self._run(lambda: self._values.get(kind, key))

    async def take(self, kind: str, key: str) -> Any:
        """See `Fleet.take`."""
        return await self._run(lambda: self._values.take(kind, key))

    async def values(self, kind: str) -> Mapping[str, Any]:
        """See `Fleet.values`."""
        return await self._run(lambda: self._values.values(kind))

    # --- limits ---------------------------------------------------------------------------------------------

    async def count(self, kind: str, key: str, change: int) -> int:
        """See `Fleet.count`. After an error the change counts, and reaches Redis later."""

        async def count() -> int:
            await self._count([(kind, key)], change)
            return await self._counters.count(kind, key)

        return await self._io.run(count())

    async def admit(
        self, rates: Sequence[RateLimit], counts: Sequence[CountLimit] = ()
    ) -> RateLimit | CountLimit | None:
        """See `Fleet.admit`."""

        async def admit() -> RateLimit | CountLimit | None:
            await self._count([(each.kind, each.key) for each in counts], 1)
            return await self._counters.admit(rates, counts)

        return await self._io.run(admit())

    def discount(self, counts: Sequence[CountLimit]) -> None:
        """See `Fleet.discount`."""

        async def discount() -> None:
            counters = [(each.kind, each.key) for each in counts]
            await self._count(counters, -1)  # in turn after its `admit`, which may wait for the lease
            await self._counters.write(counters)

        if not self._closed:
            self._io.spawn(discount())

    # --- the processes --------------------------------------------------------------------------------------

    def set_report(self, report: Callable[[], Mapping[str, Any]]) -> None:
        """See `Fleet.set_report`."""
        self._report = self._lease.report = report

    async def processes(self) -> Sequence[ProcessInfo]:
        """See `Fleet.processes`."""
        return await self._run(self._lease.processes, registered=True)

    # --- on the thread of the connections -------------------------------------------------------------------

    async def _run(self, work: Callable[[], Coroutine[Any, Any, T]], *, registered: bool = False) -> T:
        return await self._io.run(self._started(work, registered=registered))

    async def _started(self, work: Callable[[], Coroutine[Any, Any, T]], *, registered: bool) -> T:
        await self._prepare(registered=registered)
        return await work()

    async def _count(self, counters: Sequence[tuple[str, str]], change: int) -> None:
        """Change shares of counters, also if this process cannot take its lease, or the caller is cancelled.

        The thread begins a coroutine before it cancels it. So a caller counts before its `discount`.
        """
        try:
            await self._prepare(registered=bool(counters))
        finally:
            for kind, key in counters:
                self._counters.change(kind, key, change)

    async def _prepare(self, *, registered: bool) -> None:
        """Start, and take the lease if the work needs a registered process."""
        if self._closed:
            raise LogUnavailableError("the log is closed")
        self.start()
        if registered and not self._registered:
            async with self._renewing:
                if not self._registered:
                    await self._renew()

    async def _serve(self) -> None:
        unsubscribe = self._subscribe(self._messages.channel, self._receive)
        self._subscribe(self._mailbox.channel(self.process_id), self._mailbox.handle)
        try:
            await self._renew_forever()
        finally:
            unsubscribe()

    async def _renew_forever(self) -> None:
        loop = asyncio.get_running_loop()
        attempt, interval = 0, self._seconds / 3
        while True:
            begun = loop.time()
            self._wake.clear()
            try:
                async with self._renewing:
                    await self._renew()
            except LogUnavailableError as error:
                self._steady_since = math.inf
                if not attempt:
                    logger.warning("the lease of this process cannot be renewed: %s", error)
                pause = min(LOG_BACKOFF.seconds(attempt, random.random), interval)
                attempt += 1
            except Exception as error:
                self._steady_since = math.inf
                pause = interval
                if self._failure != str(error):
                    self._failure = str(error)
                    logger.exception("the lease of this process cannot be renewed")
            else:
                pause, attempt, self._failure = begun + interval - loop.time(), 0, ""
            with suppress(TimeoutError):
                async with asyncio.timeout(max(pause, 0)):
                    await self._wake.wait()

    async def _renew(self) -> None:
        """Renew the lease and all that depends on it."""
        if not self._registered:  # a process that the others find receives their messages
            with suppress(TimeoutError):
                async with asyncio.timeout(_SUBSCRIBE_TIMEOUT):
                    await self._subscribed.wait()
        taken, waiting = await self._renew_lease()
        self._data_lost |= taken
        if taken:
            self._counters.rewrite()
        _, dead = await self._lease.refresh(renewed=True)
        await self._claims.renew()
        await self._counters.renew(asyncio.get_running_loop().time())
        if self._data_lost and self._open_runs is not None and (runs := list(self._open_runs())):
            await self._record_runs(runs)
        if taken or not self._registered:
            await self._messages.announce(self.process_id, "joined")
        self._registered, self._data_lost = True, False
        if waiting:
            self._mailbox.take_soon()
        self._mailbox.check()
        if self._is_steady(asyncio.get_running_loop().time()):
            for process_id in dead - {self.process_id}:
                self._start_task(self._lease.reap(process_id))

    async def _renew_lease(self) -> tuple[bool, int]:
        """Renew the lease, under another id if this process was declared dead; return what `Lease.renew` does."""
        self._may_have_lease = True  # also if `_leave` cancels the request, which may be on its way
        try:
            renewed = await self._lease.renew()
        except LogUnavailableError:
            self._may_have_lease = self._registered
            raise
        if renewed is not None:
            return renewed
        self._lose_lease()
        self._registered = False
        if await self._lease.renew() is None:
            raise LogUnavailableError("the new id of this process is in use")
        return False, 0

    def _is_steady(self, now: float) -> bool:
        """Return whether this process has renewed its lease without a gap for the length of a lease.

        Before that, others may only seem dead: Redis was away for all, or this process was paused.
        """
        if now - self._renewed_at > self._seconds / 2 or self._steady_since == math.inf:
            self._steady_since = now
        self._renewed_at = now
        return now - self._steady_since >= self._seconds

    async def _record_runs(self, runs: Sequence[str]) -> None:
        key = runs_key(self._store, self.process_id)
        await self._store.command("SADD", key, *runs)
        if self._open_runs is not None and (ended := set(runs).difference(self._open_runs())):
            await self._store.command("SREM", key, *ended)  # they ended during the first command
        if self._registered and self._restore_runs is not None:  # else the lease is the first one, and nothing is lost
            self._restore_runs()

    def _lose_lease(self) -> None:
        old = self._lease.process_id
        self._lease.process_id = new_process_id()
        self._lease.live = frozenset({self._lease.process_id}) | self._lease.live - {old}
        self._messages.own_ids.add(self._lease.process_id)
        logger.error("another process declared this one dead: it is now %s, and was %s", self._lease.process_id, old)
        self._subscribe(self._mailbox.channel(self.process_id), self._mailbox.handle)
        self._claims.lose_all()
        self._counters.rewrite()
        for handler in self._on_lease_lost:
            self._rare.guard(handler, old, "a handler of a lost lease failed")

    def _lose_claim(self, name: str) -> None:
        for handler in self._on_claim_lost:
            self._rare.guard(handler, name, "a handler of a lost claim failed")

    def _receive(self, payload: bytes | None) -> None:
        if payload is None:
            self._subscribed.set()
        else:
            self._messages.deliver(payload)

    def _on_change(self, process_id: str, change: str) -> None:
        if change == "left":
            self._mailbox.check(process_id)
        self._wake.set()  # read the list of processes

    async def _leave(self) -> None:
        serving, self._serving = self._serving, None
        if serving is None:
            return
        serving.cancel()
        async with self._renewing:  # a renewal would register the process again
            try:
                if self._may_have_lease:
                    await self._remove()
            except LogUnavailableError as error:
                logger.warning("this process could not leave the fleet: %s", error)
            except Exception:
                logger.exception("this process could not leave the fleet")
        await self._mailbox.aclose()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _remove(self) -> None:
        await self._messages.send()
        await self._claims.release_all()
        await self._counters.remove_all()
        try:
            await self._lease.reap(self.process_id)
        except Exception:
            await self._store.command("ZADD", self._store.key("processes"), 0, self.process_id)  # dead for the others
            raise
        finally:
            await self._messages.send()
            await self._messages.announce(self.process_id, "left")

    def _start_task(self, coroutine: Coroutine[Any, Any, object]) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, LogUnavailableError):
            logger.error("a task of the fleet failed", exc_info=error)


async def _await(job: Callable[[], Awaitable[object]]) -> None:
    await job()


def _without(handlers: tuple[Callable[[Any], None], ...], handler: Callable[[Any], None]) -> tuple[Any, ...]:
    return tuple(each for each in handlers if each is not handler)
