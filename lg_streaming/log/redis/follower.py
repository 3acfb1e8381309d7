"""Follow the executions that this process reads: notifications, their tails, and the repair of lost ones."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from typing import TYPE_CHECKING, Final

from lg_streaming.backoff import LOG_BACKOFF
from lg_streaming.errors import LogUnavailableError
from lg_streaming.events import Position
from lg_streaming.fork import new_lock
from lg_streaming.log.redis.notifications import Notifications
from lg_streaming.log.redis.records import decode_records
from lg_streaming.log.redis.tail import Tail

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.log.base import ReadResult
    from lg_streaming.log.redis.connection import AsyncClient
    from lg_streaming.log.redis.io_thread import IoThread
    from lg_streaming.log.redis.keys import Keys
    from lg_streaming.log.redis.notifications import ChannelHandler
    from lg_streaming.log.redis.reading import Reader

__all__ = ["Follower"]

logger: logging.Logger = logging.getLogger(__name__)

_FIRST_UPDATES: Final = 500
"""Updates before the head that a tail begins with."""
_LINGER: Final = 5.0
"""Seconds for which an execution without readers is followed, because a reader may return."""


class _Watch:
    """Execution that this process reads."""

    __slots__ = ("count", "execution_id", "following", "pending", "subscribed", "tail", "timer")

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.count = 0
        self.tail: Tail | None = None
        """Newest updates; None until they were read after the subscription to notifications."""
        self.following: asyncio.Task[None] | None = None
        """Task that subscribes and reads the tail."""
        self.pending: list[bytes] = []
        """Notifications during that read."""
        self.subscribed: bool = False
        """True if the present connection brings its notifications."""
        self.timer: asyncio.TimerHandle | None = None


class Follower:
    """Follower of executions, on the I/O thread, with one connection for notifications.

    A notification contains the new updates where they are small, so that most reads need no request. A tail that misses
    one is read again. Every ``check_interval`` seconds, and after a reconnection, the follower compares the heads in
    Redis with the tails. So a lost notification delays a reader by no more than that.

    Args:
        client: Returns the client of the I/O thread.
        io: The I/O thread.
        reader: Reads of Redis.
        keys: Names of keys and channels.
        check_interval: Seconds between comparisons.
        notify: Called with an execution that may have new updates.
        notify_position: Called with an execution and the position before its new updates, after `follow_all`.
    """

    def __init__(
        self,
        client: Callable[[], AsyncClient],
        io: IoThread,
        reader: Reader,
        keys: Keys,
        *,
        check_interval: float,
        notify: Callable[[str], None],
        notify_position: Callable[[str, Position | None], None],
    ) -> None:
        self._client = client
        self._io = io
        self._reader = reader
        self._keys = keys
        self._check_interval = check_interval
        self._notify = notify
        self._notify_position = notify_position
        self._lock = new_lock()
        self._watches: dict[str, _Watch] = {}
        self._by_channel: dict[str, _Watch] = {}
        self._channels: dict[str, ChannelHandler] = {}
        """Handlers of further channels."""
        self._confirming: set[asyncio.Task[None]] = set()
        self._follows_all = False
        self._notifications: Notifications | None = None
        self._connected: asyncio.Event | None = None
        self._running = False
        self.available: bool = True
        """False while the connection for notifications is lost."""

    def reset(self) -> None:
        """Forget all executions, as in a forked child. Handlers of channels stay."""
        self._watches, self._by_channel = {}, {}
        self._notifications, self._connected = None, None
        self._running, self._follows_all, self.available = False, False, True

    def follows(self, execution_id: str) -> bool:
        """Return whether notifications of an execution reach this process, or will when its tail is read."""
        watch = self._watches.get(execution_id)
        return watch is not None and (watch.tail is not None or watch.following is not None)

    # --- from any thread ----------------------------------------------------------------------------------------

    def watch(self, execution_id: str) -> Callable[[], None]:
        """Follow an execution, until the returned function was called."""
        with self._lock:
            watch = self._watches.get(execution_id)
            if watch is None:
                watch = self._watches[execution_id] = _Watch(execution_id)
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

    def read(self, execution_id: str, after: int, limit: int) -> ReadResult | None:
        """Return records of a followed execution without a request; None if they have to be read from Redis.

        Raises:
            LogUnavailableError: If nothing new is known, and notifications are lost at present.
        """
        watch = self._watches.get(execution_id)
        tail = watch.tail if watch is not None else None
        if tail is None:
            return None
        found = tail.read(after, limit)
        if not self.available and (found is None or not found.records):
            raise LogUnavailableError(execution_id=execution_id)
        return found

    # --- on the I/O thread --------------------------------------------------------------------------------------

    async def follow(self, execution_id: str) -> None:
        """Begin the tail of a watched execution; return when it is there. A no-op for another execution.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        watch = self._watches.get(execution_id)
        if watch is None or watch.tail is not None:
            return
        if watch.following is None:
            watch.following = asyncio.create_task(self._begin(watch), name="lg-streaming follow")
        await asyncio.shield(watch.following)

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
        except Exception:
            logger.exception("a message on %r could not be handled", channel)

    async def follow_all(self) -> None:
        """Call `notify_position` for each append to any execution from now on.

        Raises:
            LogUnavailableError: If Redis cannot be reached. The subscription is made as soon as it can.
        """
        self._follows_all = True
        await (await self._connection()).subscribe(self._keys.all_updates)

    def follow_all_no_more(self) -> None:
        """Undo `follow_all` at the next connection."""
        self._follows_all = False

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

    async def _begin(self, watch: _Watch) -> None:
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

    async def _reload(self, watch: _Watch) -> None:
        """Read the tail anew, and apply the notifications that came during the read."""
        watch.tail = None
        found = await self._reader.fetch(watch.execution_id, -_FIRST_UPDATES, _FIRST_UPDATES)
        pending, watch.pending = watch.pending, []
        if found is None:
            return  # unknown: its first update makes the next read begin again
        watch.tail = Tail(found.state, found.records)
        for message in pending:
            self._apply(watch, message)

    async def _leave_later(self, watch: _Watch) -> None:
        loop = asyncio.get_running_loop()
        if watch.timer is not None:
            watch.timer.cancel()
        watch.timer = loop.call_later(_LINGER, lambda: loop.create_task(self._leave(watch)))

    async def _leave(self, watch: _Watch) -> None:
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
        failures = 0
        while True:
            notifications = Notifications(self._client())
            try:
                await notifications.connect()
                await self._resubscribe(notifications)
                self._notifications = notifications
                if self._connected is not None:
                    self._connected.set()
                failures = 0
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._compare_forever(first=not self.available))
                    self.available = True
                    async for channel, payload in notifications.messages():
                        self._receive(channel, payload)
            except* LogUnavailableError as error:
                if self.available and failures == 0:
                    logger.warning("the notifications of the log are interrupted: %s", error.exceptions[0])
            except* Exception:
                logger.exception("the notifications of the log failed")
            finally:  # also where the loop ends
                self._lose()
                with contextlib.suppress(Exception):
                    await notifications.aclose()
            await asyncio.sleep(LOG_BACKOFF.seconds(failures, random.random))
            failures += 1

    def _lose(self) -> None:
        self._notifications = None
        self._connected = asyncio.Event()
        for watch in self._by_channel.values():
            watch.subscribed = False
        if self.available:
            self.available = False
            for execution_id in tuple(self._watches):
                self._notify(execution_id)

    async def _resubscribe(self, notifications: Notifications) -> None:
        for channel in tuple(self._channels):
            await self._confirm(notifications, channel)
        if self._follows_all:
            await notifications.subscribe(self._keys.all_updates)
        if self._by_channel:
            await notifications.subscribe_sharded(list(self._by_channel))
            for watch in self._by_channel.values():
                watch.subscribed = True

    def _receive(self, channel: str, payload: bytes | None) -> None:
        watch = self._by_channel.get(channel)
        if watch is not None:
            if watch.following is not None:
                watch.pending.append(payload or b"")
            else:
                self._apply(watch, payload or b"")
                self._notify(watch.execution_id)
        elif channel == self._keys.all_updates:
            if payload is not None and self._follows_all:
                self._receive_position(payload)
        else:
            self._handle(channel, payload)

    def _receive_position(self, payload: bytes) -> None:
        epoch, before, _, execution_id = payload.split(b" ", 3)
        place = Position(epoch.decode(), int(before)) if before != b"0" else None
        self._notify_position(execution_id.decode(), place)

    def _apply(self, watch: _Watch, message: bytes) -> None:
        """Extend the tail by a notification; forget the tail if that does not follow it, so that it is read again."""
        tail = watch.tail
        if tail is None:
            return
        if not message:  # dropped, or messages may be lost
            watch.tail = None
            return
        epoch, before, head, oldest, process, _, size, inline, rest = message.split(b" ", 8)
        state = tail.state
        if epoch.decode() != state.epoch or int(before) > state.head:
            watch.tail = None
            return
        if int(head) <= state.head:
            return  # a repeated one
        owner_size = int(size)
        if inline != b"1" or int(before) < state.head:
            watch.tail = None
            return
        records = decode_records(rest[owner_size:], state.head + 1, state.epoch)
        owner = rest[:owner_size].decode() or None
        tail.extend(records, oldest=int(oldest), owner=owner, process=None if process == b"-" else process.decode())

    # --- repair -------------------------------------------------------------------------------------------------

    async def _compare_forever(self, *, first: bool) -> None:
        if first:
            await self._compare()
        while True:
            await asyncio.sleep(self._check_interval)
            await self._compare()

    async def _compare(self) -> None:
        """Compare the tails with the heads in Redis, and read anew those that differ."""
        watches = [watch for watch in self._by_channel.values() if watch.count]
        if not watches:
            return
        heads = await self._reader.fetch_heads([watch.execution_id for watch in watches])
        for watch in watches:
            head, tail = heads[watch.execution_id], watch.tail
            if tail is None:
                if head is not None:
                    self._notify(watch.execution_id)
            elif head is None or head.epoch != tail.state.epoch or head.seq > tail.state.head:
                watch.tail = None
                self._notify(watch.execution_id)
