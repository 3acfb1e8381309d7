"""Follow the executions that this process reads: notifications, their tails, and the repair of lost ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.backoff import LOG_BACKOFF
from lg_streaming.errors import LogUnavailableError
from lg_streaming.events import Position
from lg_streaming.fork import new_lock
from lg_streaming.log.redis.all_executions import AllExecutions
from lg_streaming.log.redis.notifications import Notifications
from lg_streaming.log.redis.rare_log import RareLog
from lg_streaming.log.redis.store import retrieve_error
from lg_streaming.log.redis.tail import Tail
from lg_streaming.log.redis.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from lg_streaming.log.base import LogState, ReadResult, StoredUpdate
    from lg_streaming.log.redis.io_thread import IoThread
    from lg_streaming.log.redis.keys import Keys
    from lg_streaming.log.redis.notifications import ChannelHandler
    from lg_streaming.log.redis.reading import FollowedLog

__all__ = ["Follower"]

logger: logging.Logger = logging.getLogger(__name__)

_FIRST_UPDATES: Final = 500
"""Updates before the head that a tail begins with."""
_LINGER: Final = 5.0
"""Seconds for which an execution without readers is followed, because a reader may return."""


class Follower:
    """Follower of executions, on the I/O thread, with one connection for notifications.

    A notification contains the new updates where they are small, so that most reads need no request. A tail that misses
    one is read again. The follower compares the heads in Redis with the tails every ``check_interval`` seconds, and
    after a reconnection. A lost notification delays a reader, also one of all executions, by no more than that.

    Updates that Redis has lost, in a restart or a failover, are found by the newest update that this process has of an
    execution: it is missing, or another one has its number. The execution then begins a new epoch.

    Args:
        log: The log on Redis.
        io: The I/O thread.
        keys: Names of keys and channels.
        check_interval: Seconds between comparisons.
        notify: Called with an execution that may have new updates.
        notify_position: Called with an execution and the position before its new updates, after `follow_all`.
    """

    def __init__(
        self,
        log: FollowedLog,
        io: IoThread,
        keys: Keys,
        *,
        check_interval: float,
        notify: Callable[[str], None],
        notify_position: Callable[[str, Position | None], None],
    ) -> None:
        self._log = log
        self._io = io
        self._keys = keys
        self._check_interval = check_interval
        self._notify = notify
        self._notify_position = notify_position
        self._lock = new_lock()
        self._watches: dict[str, Watch] = {}
        self._by_channel: dict[str, Watch] = {}
        self._channels: dict[str, ChannelHandler] = {}
        """Handlers of further channels."""
        self._confirming: set[asyncio.Task[None]] = set()
        self._all: AllExecutions | None = None
        """Set by `follow_all`."""
        self._notifications: Notifications | None = None
        self._connected: asyncio.Event | None = None
        self._running = False
        self._failures = 0
        self._rare = RareLog(logger)
        self.available: bool = True
        """False while the connection for notifications is lost."""

    def reset(self) -> None:
        """Forget all executions, as in a forked child. Handlers of channels stay."""
        self._watches, self._by_channel = {}, {}
        self._notifications, self._connected = None, None
        self._running, self._all, self.available = False, None, True

    def follows(self, execution_id: str) -> bool:
        """Return whether notifications of an execution reach this process, or will when its tail is read."""
        watch = self._watches.get(execution_id)
        return watch is not None and (watch.tail is not None or watch.absent or watch.following is not None)

    # --- from any thread ----------------------------------------------------------------------------------------

    def watch(self, execution_id: str) -> Callable[[], None]:
        """Follow an execution, until the returned function was called."""
        with self._lock:
            watch = self._watches.get(execution_id)
            if watch is None:
                watch = self._watches[execution_id] = Watch(execution_id)
            watch.count += 1
        done = False

        def unwatch() -> None:
            nonlocal done
            with self._lock:
                if done:
                    return
                done = True
                watch.count -= 1
                unused = watch.count == 0 and self._watches.get(execution_id) is watch
            if unused:
                with contextlib.suppress(LogUnavailableError):
                    self._io.call(self._leave_later(watch))

        return unwatch

    def state(self, execution_id: str) -> LogState | None:
        """Return the known state of a followed execution; None if it has to be read from Redis. Raises like `read`."""
        watch = self._watches.get(execution_id)
        tail = watch.tail if watch is not None else None
        if watch is None or tail is None:
            return None
        if not self.available:
            raise LogUnavailableError(execution_id=execution_id)
        return None if watch.is_behind(tail) else tail.state

    def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """Return records of a followed execution without a request; None if they have to be read from Redis.

        A position after the known head comes from a process that has newer updates, so Redis is asked. It is also asked
        if the notification of a start or end that this process has appended is on its way.

        Raises:
            LogUnavailableError: If nothing new is known, and notifications are lost at present.
        """
        watch = self._watches.get(execution_id)
        tail = watch.tail if watch is not None else None
        if watch is None or tail is None:
            return None
        found = tail.read(after, limit) if after <= tail.state.head and not watch.is_behind(tail) else None
        if not self.available and (found is None or not found.records):
            raise LogUnavailableError(execution_id=execution_id)
        return found

    def is_absent(self, execution_id: str) -> bool:
        """Return whether a followed execution has not begun, as far as this process was notified."""
        watch = self._watches.get(execution_id)
        return watch is not None and watch.known_absent and self.available

    def expect(self, execution_id: str, position: Position, *, is_change: bool) -> None:
        """Read an execution from Redis until the notification of an append of this process has arrived.

        Readers of a run at work wait for it, unless the append changes the state (``is_change``).
        """
        watch = self._watches.get(execution_id)
        if watch is None:
            return
        tail = watch.tail
        if is_change or tail is None or tail.state.state != "running":
            watch.expect(position)

    # --- on the I/O thread --------------------------------------------------------------------------------------

    def drop_tail(self, execution_id: str) -> None:
        """Read an execution anew next time: this process has changed it otherwise than by an append."""
        watch = self._watches.get(execution_id)
        if watch is not None:
            watch.drop_tail()

    async def follow(self, execution_id: str) -> bool:
        """Begin the tail of a watched execution; return when it is there. A no-op for another execution.

        Returns:
            Whether this call has read it, and it is absent.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        watch = self._watches.get(execution_id)
        if watch is None or watch.tail is not None or self.is_absent(execution_id):
            return False
        begins = watch.following is None  # otherwise that read may be older than what the caller was notified of
        if watch.following is None:
            watch.following = asyncio.create_task(self._begin(watch), name="lg-streaming follow")
            watch.following.add_done_callback(retrieve_error)
        await asyncio.shield(watch.following)
        return begins and self.is_absent(execution_id)

    def check_tail(self, execution_id: str, state: LogState | None) -> None:
        """Drop the tail of an execution if Redis has a newer state than it, so that all readers get that."""
        watch = self._watches.get(execution_id)
        if watch is None:
            return
        tail = watch.tail
        if tail is None:
            if state is not None:
                watch.expect(Position(state.epoch, state.head))
            return
        if state is None or state.epoch != tail.state.epoch or state.head > tail.state.head:
            watch.drop_tail()
            self._notify(execution_id)

    def subscribe(self, channel: str, handler: ChannelHandler) -> Callable[[], None]:
        """Subscribe to a further channel, also after each reconnection: see `Subscribe`."""
        self._channels[channel] = handler
        self._start()
        if self._notifications is not None:
            task = asyncio.create_task(self._confirm(self._notifications, channel))
            self._confirming.add(task)
            task.add_done_callback(self._confirming.discard)

        def unsubscribe() -> None:  # the subscription ends with its connection
            if self._channels.get(channel) is handler:
                del self._channels[channel]

        return unsubscribe

    async def _confirm(self, notifications: Notifications, channel: str) -> None:
        with contextlib.suppress(LogUnavailableError):  # `_run` gets it too
            await notifications.subscribe(channel)
            self._handle(channel, None)

    def _handle(self, channel: str, payload: bytes | None) -> None:
        handler = self._channels.get(channel)
        if handler is None:
            return
        try:
            handler(payload)
        except Exception as error:  # noqa: BLE001 (another application may send anything)
            self._rare.note(f"a message on {channel!r} is malformed", error)

    async def follow_all(self) -> None:
        """Call `notify_position` for each append to any execution from now on.

        Raises:
            LogUnavailableError: If Redis cannot be reached. The subscription is made as soon as it can.
        """
        if self._all is None:
            self._all = AllExecutions(self._log, self._notify_position)
        followed = self._all
        notifications = await self._connection()
        if self._all is followed:
            await notifications.subscribe(self._keys.all_updates)
            await followed.begin()

    def follow_all_no_more(self) -> None:
        """Undo `follow_all`, in the background. Thread-safe."""
        if self._all is not None:
            self._all = None
            self._io.spawn(self._leave_all())

    async def _leave_all(self) -> None:
        if self._all is None and self._notifications is not None:
            await self._notifications.unsubscribe(self._keys.all_updates)

    def _start(self) -> None:
        if not self._running:
            self._running = True
            self._connected = asyncio.Event()
            self._io.spawn(self._run())

    async def _connection(self) -> Notifications:
        self._start()
        if self._notifications is None and self._connected is not None:
            try:
                async with asyncio.timeout(5):
                    await self._connected.wait()
            except TimeoutError:
                raise LogUnavailableError("the log on Redis cannot be reached") from None
        if self._notifications is None:
            raise LogUnavailableError("the log on Redis cannot be reached")
        return self._notifications

    async def _begin(self, watch: Watch) -> None:
        try:
            watch.pending.clear()
            channel = self._keys.execution(watch.execution_id).channel
            self._by_channel[channel] = watch
            notifications = await self._connection()
            if not watch.subscribed:
                await notifications.subscribe_sharded([channel])
                watch.subscribed = notifications is self._notifications
            await self._reload(watch)
        finally:
            watch.following = None

    async def _reload(self, watch: Watch) -> None:
        """Read the tail anew, and apply the notifications that came during the read."""
        began = watch.begin_read()
        found = await self._log.reader.fetch(watch.execution_id, -_FIRST_UPDATES, _FIRST_UPDATES)
        if found is not None and watch.last is not None and await self._is_lost(watch, found, watch.last):
            await self._renew(watch, watch.last)
            return  # read again
        watch.end_read(Tail(found.state, found.records) if found is not None else None, began)

    async def _leave_later(self, watch: Watch) -> None:
        loop = asyncio.get_running_loop()
        if watch.timer is not None:
            watch.timer.cancel()
        watch.timer = loop.call_later(_LINGER, lambda: loop.create_task(self._leave(watch)))

    async def _leave(self, watch: Watch) -> None:
        with self._lock:
            if watch.count or self._watches.get(watch.execution_id) is not watch:
                return
            del self._watches[watch.execution_id]
        channel = self._keys.execution(watch.execution_id).channel
        if self._by_channel.pop(channel, None) is not None and self._notifications is not None:
            with contextlib.suppress(LogUnavailableError):
                await self._notifications.unsubscribe_sharded([channel])

    # --- notifications ------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Keep the connection for notifications, and compare heads."""
        self._failures = 0
        task = asyncio.current_task()
        while task is not None and not task.cancelling():  # a group that fails at the same time hides a cancellation
            notifications = Notifications(self._log.client())
            try:
                await notifications.connect()
                await self._resubscribe(notifications)
                self._notifications = notifications
                if self._connected is not None:
                    self._connected.set()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._compare_forever(again=not self.available))
                    if not self.available:
                        logger.info("the notifications of the log arrive again")
                    self.available = True
                    await notifications.deliver_to(self._receive)
            except* LogUnavailableError as error:
                if self.available and self._failures == 0:
                    self._rare.note("the notifications of the log are interrupted", error.exceptions[0])
            except* Exception as error:  # noqa: BLE001 (logged)
                self._rare.note("the notifications of the log failed", error, traceback=True)
            finally:  # also where the loop ends
                self._lose()
                with contextlib.suppress(Exception):
                    await notifications.aclose()
            await asyncio.sleep(LOG_BACKOFF.seconds(self._failures, random.random))
            self._failures += 1

    def _lose(self) -> None:
        self._notifications = None
        if self._connected is not None:
            self._connected.clear()  # the same event, on which others wait already
        for watch in self._by_channel.values():
            watch.lose()
        if self.available:
            self.available = False
            for execution_id in tuple(self._watches):
                self._notify(execution_id)

    async def _resubscribe(self, notifications: Notifications) -> None:
        for channel in tuple(self._channels):
            await self._confirm(notifications, channel)
        if self._all is not None:
            await notifications.subscribe(self._keys.all_updates)
        while missing := {channel: watch for channel, watch in self._by_channel.items() if not watch.subscribed}:
            await notifications.subscribe_sharded(list(missing))  # others may be added while it waits
            for watch in missing.values():
                watch.subscribed = True

    def _receive(self, channel: str, payload: bytes | None) -> None:
        watch = self._by_channel.get(channel)
        if watch is not None:
            if watch.following is not None:
                watch.pending.append(payload or b"")
            else:
                watch.apply(payload or b"")
            self._notify(watch.execution_id)
        elif channel == self._keys.all_updates:
            if payload is not None and self._all is not None:
                try:
                    self._all.receive(payload)
                except Exception as error:  # noqa: BLE001 (another application may send anything)
                    self._rare.note(f"a message on {channel!r} is malformed", error)
        else:
            self._handle(channel, payload)

    # --- repair -------------------------------------------------------------------------------------------------

    async def _compare_forever(self, *, again: bool) -> None:
        if again:
            await self._compare(again=True)
        self._failures = 0
        while True:
            await asyncio.sleep(self._check_interval)
            await self._compare(again=False)

    async def _compare(self, *, again: bool) -> None:
        """Compare what this process has with Redis, and repair what differs; ``again`` after a lost connection."""
        await self._isolate("runs", self._log.repair_runs)
        watches = [watch for watch in self._by_channel.values() if watch.count]
        if again:
            await asyncio.gather(*(self._isolate("an execution", partial(self._verify, watch)) for watch in watches))
        elif watches:
            await self._isolate("executions", partial(self._compare_heads, watches))
        if self._all is not None:
            await self._isolate("all executions", partial(self._all.compare, thorough=again))

    async def _isolate(self, what: str, comparison: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Make a comparison; log an error of its data, so that the others go on."""
        try:
            await comparison()
        except LogUnavailableError:
            raise
        except Exception as error:  # noqa: BLE001 (another application may have written anything)
            self._rare.note(f"the comparison of {what} with Redis failed", error)

    async def _compare_heads(self, watches: Sequence[Watch]) -> None:
        """Compare the tails with the heads in Redis, and read anew those that differ."""
        newest = [watch.tail.last if watch.tail is not None else None for watch in watches]
        heads = await self._log.reader.fetch_heads([watch.execution_id for watch in watches])
        for watch, last in zip(watches, newest, strict=True):
            head, tail = heads[watch.execution_id], watch.tail
            if tail is None:
                if head is not None:
                    watch.expect(Position(head.epoch, head.seq))
                    self._notify(watch.execution_id)
            elif head is None or head.epoch != tail.state.epoch or head.seq > tail.state.head:
                watch.drop_tail()
                self._notify(watch.execution_id)
            elif last is not None and head.epoch == last.epoch and head.seq < last.seq:
                await self._renew(watch, last)

    async def _verify(self, watch: Watch) -> None:
        """Check that Redis has the newest update that this process has; read the tail anew if there are others."""
        last, tail = watch.last, watch.tail
        if last is None:
            watch.tail, watch.absent = None, False
        elif tail is not None:  # otherwise the next read checks it
            found = await self._log.reader.fetch(watch.execution_id, last.seq - 1, 1)
            if found is not None and _has_lost(found, last):
                await self._renew(watch, last)
            elif watch.tail is tail:
                watch.last = None
                if found is None or found.state.epoch != tail.state.epoch or found.state.head > tail.state.head:
                    watch.drop_tail()
        self._notify(watch.execution_id)

    async def _is_lost(self, watch: Watch, found: ReadResult, last: StoredUpdate) -> bool:
        """Return whether Redis has lost an update, which may be older than the updates that were read."""
        if found.state.epoch == last.epoch and found.records and found.records[0].seq > last.seq:
            earlier = await self._log.reader.fetch(watch.execution_id, last.seq - 1, 1)
            return earlier is not None and _has_lost(earlier, last)
        return _has_lost(found, last)

    async def _renew(self, watch: Watch, last: StoredUpdate) -> None:
        await self._log.renew_epoch(watch.execution_id, last.epoch)
        watch.last = watch.tail = None
        self._notify(watch.execution_id)


def _has_lost(found: ReadResult, last: StoredUpdate) -> bool:
    """Return whether Redis lacks an update that it has notified, or has another one in its place."""
    if found.state.epoch != last.epoch:
        return False  # known already
    at = last.seq - found.records[0].seq if found.records else -1
    other = found.records[at] if 0 <= at < len(found.records) else None
    return found.state.head < last.seq or (other is not None and other.json != last.json)
