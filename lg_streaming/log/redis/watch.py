"""Execution that readers of this process follow, and its tail."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from lg_streaming.log.redis.rare_log import RareLog
from lg_streaming.log.redis.records import decode_records

if TYPE_CHECKING:
    import asyncio

    from lg_streaming.log.base import StoredUpdate
    from lg_streaming.log.redis.tail import Tail

__all__ = ["Watch"]

_rare: Final = RareLog(logging.getLogger(__name__))


class Watch:
    """Execution that this process reads."""

    __slots__ = ("count", "execution_id", "following", "last", "pending", "subscribed", "tail", "timer")

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.count = 0
        self.tail: Tail | None = None
        """Newest updates; None until they were read after the subscription to notifications."""
        self.last: StoredUpdate | None = None
        """Newest update before the tail was dropped or the connection was lost, to find updates that Redis has lost."""
        self.following: asyncio.Task[None] | None = None
        """Task that subscribes and reads the tail."""
        self.pending: list[bytes] = []
        """Notifications during that read."""
        self.subscribed: bool = False
        """True if the present connection brings its notifications."""
        self.timer: asyncio.TimerHandle | None = None

    def drop_tail(self) -> None:
        """Drop the tail, so that it is read again."""
        self.note_last()
        self.tail = None

    def note_last(self) -> None:
        """Keep the newest update, unless an earlier one is to be checked."""
        if self.tail is not None and self.last is None:
            self.last = self.tail.last

    def apply(self, message: bytes) -> None:
        """Extend the tail by a notification; forget the tail if that does not follow it, so that it is read again."""
        tail = self.tail
        if tail is None:
            return
        if not message:  # dropped, or messages may be lost
            self.drop_tail()
            return
        try:
            self._extend(tail, message)
        except Exception as error:  # noqa: BLE001 (another application may send anything)
            _rare.note("a notification of an execution is malformed", error)
            self.drop_tail()

    def _extend(self, tail: Tail, message: bytes) -> None:
        epoch, before, head, oldest, process, _, size, inline, rest = message.split(b" ", 8)
        state = tail.state
        if epoch.decode() != state.epoch or int(before) > state.head:
            self.drop_tail()
            return
        if int(head) <= state.head:
            return  # a repeated one
        owner_size = int(size)
        if inline != b"1" or int(before) < state.head:
            self.drop_tail()
            return
        records = decode_records(rest[owner_size:], state.head + 1, state.epoch)
        owner = rest[:owner_size].decode() or None
        tail.extend(records, oldest=int(oldest), owner=owner, process=None if process == b"-" else process.decode())
