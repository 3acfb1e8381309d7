"""Messages to all processes of a fleet, and the handlers of those from the others."""

from __future__ import annotations

import logging
from collections import deque
from typing import TYPE_CHECKING

import orjson

from lg_streaming.errors import LogUnavailableError
from lg_streaming.fork import new_lock
from lg_streaming.log.redis.store import encode_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.log.fleet import MessageHandler
    from lg_streaming.log.redis.rare_log import RareLog
    from lg_streaming.log.redis.store import Store

__all__ = ["Messages"]

logger: logging.Logger = logging.getLogger(__name__)


class Messages:
    """Messages on the channel of all processes. `put` and `on_message` are thread-safe, the rest is for one event loop.

    Args:
        store: Commands of Redis.
        rare: Log for exceptions of handlers.
        on_change: Called with a process that has joined or left the fleet, and ``joined`` or ``left``.
    """

    def __init__(self, store: Store, rare: RareLog, on_change: Callable[[str, str], None]) -> None:
        self._store = store
        self._rare = rare
        self._on_change = on_change
        self._lock = new_lock()
        self._handlers: dict[str, tuple[MessageHandler, ...]] = {}
        self.reset()

    def reset(self) -> None:
        """Begin as a new process: without messages to send, and without former ids. Handlers stay."""
        self._outbox: deque[bytes] = deque()
        self._sending = False
        self.own_ids: set[str] = set()
        """Present and former ids of this process, whose messages are not delivered to itself."""

    @property
    def channel(self) -> str:
        """The channel of all processes."""
        return self._store.key("fleet")

    def on_message(self, topic: str, handler: MessageHandler) -> Callable[[], None]:
        """See `Fleet.on_message`."""
        with self._lock:
            self._handlers[topic] = (*self._handlers.get(topic, ()), handler)

        def remove() -> None:
            with self._lock:
                self._handlers[topic] = tuple(each for each in self._handlers[topic] if each is not handler)

        return remove

    def put(self, process_id: str, topic: str, payload: object) -> None:
        """Add a message of this process, for `send`.

        Raises:
            ValueError: If the payload has more than 1 MiB as JSON.
            TypeError: If the payload is no JSON value.
        """
        encoded = encode_json(payload, f"the message of topic {topic!r}")
        head = orjson.dumps({"from": process_id, "topic": topic})
        self._outbox.append(head[:-1] + b',"payload":' + encoded + b"}")

    async def send(self) -> None:
        """Publish the messages that wait. One that cannot be published is lost, and logged."""
        if self._sending:
            return
        self._sending = True
        try:
            while self._outbox:
                message = self._outbox.popleft()
                try:
                    await self._store.command("PUBLISH", self.channel, message)
                except LogUnavailableError as error:
                    logger.warning("a message to the other processes is lost: %s", error)
        finally:
            self._sending = False

    async def announce(self, process_id: str, change: str) -> None:
        """Publish that this process has joined or left the fleet. Raises LogUnavailableError."""
        message = orjson.dumps({"from": process_id, "change": change})
        await self._store.command("PUBLISH", self.channel, message)

    def deliver(self, payload: bytes) -> None:
        """Call the handlers of a message from another process."""
        message = orjson.loads(payload)
        if message["from"] in self.own_ids:
            return
        if change := message.get("change"):
            self._on_change(message["from"], change)
            return
        self.call(message["topic"], message["payload"])

    def call(self, topic: str, payload: object) -> None:
        """Call the handlers of a topic."""
        for handler in self._handlers.get(topic, ()):
            self._rare.guard(handler, payload, f"a handler of messages {topic!r} failed")
