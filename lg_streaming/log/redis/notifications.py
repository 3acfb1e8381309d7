"""Messages of Redis channels, over one server, the master of sentinels, or the nodes of a cluster.

redis-py's own PubSub reconnects and subscribes again without a sign, so that its reader cannot find out that it missed
messages. `Notifications` never reconnects: it raises, and its reader makes a new one and compares positions.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, cast

import redis.asyncio
from redis import exceptions
from redis.crc import key_slot

from lg_streaming.errors import LogUnavailableError
from lg_streaming.log.redis.connection import to_unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable

    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.connection import AbstractConnection

    from lg_streaming.log.redis.connection import AsyncClient

__all__ = ["ChannelHandler", "Notifications", "Subscribe"]

_PING_INTERVAL: Final = 3.0
_MAX_MOVES: Final = 5
_MAX_WAITING: Final = 100_000
_MESSAGES: Final = frozenset({b"message", b"smessage"})


class ChannelHandler(Protocol):
    """Function that gets the messages of a channel, on the thread of the connections."""

    def __call__(self, payload: bytes | None, /) -> None:
        """Handle a message; None if messages may be lost, as after each subscription."""
        ...


class Subscribe(Protocol):
    """Function that subscribes to a channel of ``PUBLISH`` until its result is called."""

    def __call__(self, channel: str, handler: ChannelHandler, /) -> Callable[[], None]:
        """Subscribe at once and after each lost connection, and call ``handler(None)`` each time Redis confirms."""
        ...


class Notifications:
    """Subscriptions to Redis channels, and the messages of these channels in the order of each channel.

    Redis drops messages when a connection is lost. From then on every method raises `LogUnavailableError`; make a new
    object, and read from the log what was missed. Use it on one event loop, with one reader of `messages`.

    Args:
        client: Client that gives the connections. `aclose` leaves it open.
        ping_interval: Seconds between pings. A connection without an answer to a ping at the next one is lost.
    """

    def __init__(self, client: AsyncClient, *, ping_interval: float = _PING_INTERVAL) -> None:
        self._client = client
        self._ping_interval = ping_interval
        self._links: dict[str, _Link] = {}
        self._linking = asyncio.Lock()
        self._link_of: dict[str, _Link] = {}
        """Connection of each sharded channel."""
        self._queue: asyncio.Queue[tuple[str, bytes | None] | LogUnavailableError] = asyncio.Queue()
        self._receive: Callable[[str, bytes | None], None] | None = None
        """Function of `deliver_to`, in place of the queue."""
        self._failure: LogUnavailableError | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Connect to one server, and read the cluster's slots.

        Raises:
            LogUnavailableError: If that fails. Call `aclose` then, as well.
        """
        try:
            if isinstance(self._client, redis.asyncio.RedisCluster):
                await self._client.initialize()
                await self._client.nodes_manager.initialize()  # a client without errors keeps slots that have moved
            await self._link_for(None)
        except Exception as error:
            raise self._fail(error) from error
        self._start(self._ping())

    async def subscribe(self, channel: str) -> None:
        """Subscribe to a channel of `PUBLISH`; return when Redis has confirmed. Raises like `messages`."""
        try:
            link = await self._link_for(None)
            await link.request("SUBSCRIBE", channel)
        except Exception as error:
            raise self._fail(error) from error

    async def unsubscribe(self, channel: str) -> None:
        """Cancel a subscription of `subscribe`. Raises like `messages`."""
        try:
            link = await self._link_for(None)
            await link.request("UNSUBSCRIBE", channel)
        except Exception as error:
            raise self._fail(error) from error

    async def subscribe_sharded(self, channels: Iterable[str]) -> None:
        """Subscribe to channels of `SPUBLISH`; return when Redis has confirmed all. Raises like `messages`."""
        try:
            await self._subscribe_sharded(list(channels))
        except Exception as error:
            raise self._fail(error) from error

    async def unsubscribe_sharded(self, channels: Iterable[str]) -> None:
        """Cancel subscriptions of `subscribe_sharded`; unknown channels are ignored. Raises like `messages`."""
        try:
            linked = [(self._link_of.pop(channel, None), channel) for channel in channels]
            for result in await asyncio.gather(
                *(link.request("SUNSUBSCRIBE", channel) for link, channel in linked if link is not None),
                return_exceptions=True,
            ):
                if isinstance(result, BaseException):
                    raise result
        except Exception as error:
            raise self._fail(error) from error

    async def messages(self) -> AsyncGenerator[tuple[str, bytes | None]]:
        """Yield each message as its channel and payload.

        A payload of None means that messages of the channel may be lost, because its slot has moved to another node.

        Raises:
            LogUnavailableError: If a connection is lost, or a channel cannot be subscribed to.
        """
        while True:
            message = await self._queue.get()
            if isinstance(message, LogUnavailableError):
                self._queue.put_nowait(message)  # for the next call
                raise message
            yield message

    async def deliver_to(self, receive: Callable[[str, bytes | None], None]) -> None:
        """Call ``receive`` with each message, as `messages` yields it, until a connection is lost.

        It costs no step of the event loop for each message. An error of ``receive`` ends the notifications.

        Raises:
            LogUnavailableError: If a connection is lost, or a channel cannot be subscribed to.
        """
        async for message in self.messages():
            receive(*message)
            if self._queue.empty():
                self._receive = receive  # the queue is for the failure from now on

    async def aclose(self) -> None:
        """Close the connections. Repeated calls do nothing."""
        self._fail(LogUnavailableError("the notifications were closed"))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        links, self._links = list(self._links.values()), {}
        for link in links:
            await link.aclose()

    def deliver(self, channel: str, payload: bytes | None) -> None:
        """Deliver a message of a link, or add it to the queue."""
        if self._receive is not None:
            self._receive(channel, payload)
            return
        if self._queue.qsize() >= _MAX_WAITING:
            self._fail(LogUnavailableError(f"{_MAX_WAITING:,} notifications wait for their reader"))
        self._queue.put_nowait((channel, payload))

    def move(self, channel: str) -> None:
        """Subscribe anew to a channel that its node has cancelled, because it no longer serves the slot."""
        if self._link_of.pop(channel, None) is not None and self._failure is None:
            self._start(self._move(channel))

    def lose(self, error: Exception) -> None:
        """Fail all methods because of a link's error."""
        self._fail(error)

    def _fail(self, error: Exception) -> Exception:
        error = to_unavailable(error)
        if isinstance(error, LogUnavailableError):
            lost = error
        else:  # such as a missing right: its caller raises it, and a reader of messages must not wait forever
            lost = LogUnavailableError(f"the notifications ended: {type(error).__name__}: {error}")
        if self._failure is None:
            self._failure = lost
            self._queue.put_nowait(lost)
            for link in self._links.values():
                link.fail(lost)
        return error

    def _start(self, coroutine: Any) -> None:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(self._ping_interval)
            for link in list(self._links.values()):
                link.ping()

    async def _move(self, channel: str) -> None:
        try:
            await self._subscribe_sharded([channel])
            self.deliver(channel, None)
        except Exception as error:  # noqa: BLE001 (`messages` raises it)
            self._fail(error)

    async def _subscribe_sharded(self, channels: list[str]) -> None:
        for _ in range(_MAX_MOVES):
            requests: list[asyncio.Future[None]] = []
            for channel in channels:
                link = self._link_of[channel] = await self._link_for(channel)
                requests.append(link.request("SSUBSCRIBE", channel))
            results = await asyncio.gather(*requests, return_exceptions=True)
            moved: list[str] = []
            for channel, result in zip(channels, results, strict=True):
                if isinstance(result, exceptions.MovedError):
                    moved.append(channel)
                elif isinstance(result, BaseException):
                    raise result
            if not moved:
                return
            if isinstance(self._client, redis.asyncio.RedisCluster):
                await self._client.nodes_manager.initialize()
            channels = moved
        raise LogUnavailableError("the slots of the Redis cluster move too often")

    async def _link_for(self, channel: str | None) -> _Link:
        """Return the connection to the node of a sharded channel, or to any one."""
        if self._failure is not None:
            raise self._failure
        client = self._client
        async with self._linking:
            if not isinstance(client, redis.asyncio.RedisCluster):
                if link := self._links.get(""):
                    return link
                return await self._connect("", client.connection_pool.make_connection())
            if channel is None and self._links:
                return next(iter(self._links.values()))
            node = client.get_default_node() if channel is None else _node_of(client, channel)
            if link := self._links.get(node.name):
                return link
            return await self._connect(node.name, node.connection_class(**node.connection_kwargs))

    async def _connect(self, name: str, connection: AbstractConnection) -> _Link:
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        link = self._links[name] = _Link(connection, self)
        if self._failure is not None:
            link.fail(self._failure)
            raise self._failure
        return link


def _node_of(client: redis.asyncio.RedisCluster, channel: str) -> ClusterNode:
    return client.nodes_manager.get_node_from_slot(key_slot(channel.encode()))


class _Request(NamedTuple):
    kind: bytes
    """Kind of the answer, such as `ssubscribe`."""
    channel: str
    done: asyncio.Future[None]


class _Link:
    """Connection to one node.

    Redis answers the requests of a connection in order, with messages between the answers.
    """

    def __init__(self, connection: AbstractConnection, owner: Notifications) -> None:
        self._connection = connection
        self._owner = owner
        self._requests: deque[_Request] = deque()
        self._outbox: list[tuple[str, ...]] = []
        self._outgoing = asyncio.Event()
        self._silent = False
        """True if nothing has arrived since the last ping."""
        self._failed = False
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._read()), loop.create_task(self._write())]

    def request(self, command: str, channel: str) -> asyncio.Future[None]:
        """Send a command; the result is done when Redis has answered. Requests of one moment go out together."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._requests.append(_Request(command.lower().encode(), channel, done))
        self._send(command, channel)
        return done

    def ping(self) -> None:
        """Send a ping, or fail if nothing has arrived since the last one."""
        if self._silent:
            self._owner.lose(exceptions.TimeoutError("no answer to a ping on the connection for notifications"))
        self._silent = True
        self._send("PING")

    def fail(self, error: Exception) -> None:
        """Fail all requests, and stop."""
        self._failed = True
        requests, self._requests = self._requests, deque()
        for request in requests:
            if not request.done.done():
                request.done.set_exception(error)
                request.done.exception()  # not all are awaited
        current = asyncio.current_task()
        for task in self._tasks:
            if task is not current:
                task.cancel()

    async def aclose(self) -> None:
        """Close the connection."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(Exception):  # it is of no use any more
            await self._connection.disconnect()

    def _send(self, *command: str) -> None:
        self._outbox.append(command)
        self._outgoing.set()

    async def _write(self) -> None:
        try:
            while True:
                await self._outgoing.wait()
                self._outgoing.clear()
                commands, self._outbox = self._outbox, []
                packed = self._connection.pack_commands(commands)
                await self._connection.send_packed_command(packed, check_health=False)
        except Exception as error:  # noqa: BLE001 (`messages` raises it)
            self._owner.lose(error)

    async def _read(self) -> None:
        try:
            while not self._failed:
                try:
                    answer = cast("object", await self._connection.read_response(timeout=math.inf))
                except exceptions.ResponseError as error:
                    self._silent = False
                    self._refuse(error)
                else:
                    self._silent = False
                    self._handle(answer)
        except Exception as error:  # noqa: BLE001 (`messages` raises it)
            self._owner.lose(error)

    def _handle(self, answer: object) -> None:
        if not isinstance(answer, list):
            return  # the answer to a ping, before the first subscription
        kind, name, *rest = cast("list[Any]", answer)
        if kind == b"pong":
            return
        channel: str = name.decode()
        if kind in _MESSAGES:
            self._owner.deliver(channel, rest[0])
            return
        if self._requests and self._requests[0][:2] == (kind, channel):
            request = self._requests.popleft()
            if not request.done.done():
                request.done.set_result(None)
        elif kind == b"sunsubscribe":
            self._owner.move(channel)

    def _refuse(self, error: Exception) -> None:
        if not self._requests:
            raise error
        request = self._requests.popleft()
        if not request.done.done():
            request.done.set_exception(error)
            request.done.exception()
