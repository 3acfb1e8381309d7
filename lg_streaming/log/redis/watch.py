"""Execution that readers of this process follow, and its tail."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from lg_streaming.log.base import LogState
from lg_streaming.log.redis.rare_log import RareLog
from lg_streaming.log.redis.records import decode_records
from lg_streaming.log.redis.tail import Tail
from lg_streaming.log.usage import Usage

if TYPE_CHECKING:
    import asyncio

    from lg_streaming.events import Position
    from lg_streaming.log.base import StoredUpdate

__all__ = ["Watch"]

_rare: Final = RareLog(logging.getLogger(__name__))


class Watch:
    """Execution that this process reads."""

    __slots__ = (
        "_expected",
        "_read_at",
        "absent",
        "count",
        "execution_id",
        "following",
        "last",
        "pending",
        "subscribed",
        "tail",
        "timer",
    )

    def __init__(self, execution_id: str) -> None:
        self.execution_id: str = execution_id
        self.count: int = 0
        self.tail: Tail | None = None
        """Newest updates; None until they were read after the subscription to notifications."""
        self.absent: bool = False
        """True if Redis did not have the execution, and has not notified of it since: the first updates make a tail."""
        self._read_at: Position | None = None
        """Value of ``_expected`` when the tail, or the absence, was read."""
        self._expected: Position | None = None
        """Last update that this process has found or appended, where a tail without it would mislead."""
        self.last: StoredUpdate | None = None
        """Newest update before the tail was dropped or the connection was lost, to find updates that Redis has lost."""
        self.following: asyncio.Task[None] | None = None
        """Task that subscribes and reads the tail."""
        self.pending: list[bytes] = []
        """Notifications during that read."""
        self.subscribed: bool = False
        """True if the present connection brings its notifications."""
        self.timer: asyncio.TimerHandle | None = None

    @property
    def known_absent(self) -> bool:
        """True if the execution is absent, and no read or append of this process has found it. From any thread."""
        return self.absent and self._read_at is self._expected

    def is_behind(self, tail: Tail) -> bool:
        """Return whether the tail lacks the expected update, whose notification has not arrived. From any thread."""
        expected, state = self._expected, tail.state
        if expected is None or expected is self._read_at:
            return False
        return expected.epoch != state.epoch or expected.seq > state.head

    def expect(self, position: Position) -> None:
        """Record an update that the execution has, before its notification arrives. From any thread."""
        self._expected = position

    def begin_read(self) -> Position | None:
        """Drop the tail before it is read; return the argument for `end_read`."""
        self.drop_tail()
        self.absent = False
        return self._expected

    def end_read(self, tail: Tail | None, began: Position | None) -> None:
        """Set the tail, or None for an unknown execution; apply the notifications that came during the read."""
        pending, self.pending = self.pending, []
        self.last, self.tail = None, tail
        self._read_at, self.absent = began, tail is None and self.subscribed
        for message in pending:
            self.apply(message)

    def lose(self) -> None:
        """Record that notifications may be missed from now on."""
        self.subscribed = self.absent = False
        self.note_last()

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
        tail, absent = self.tail, self.absent
        self.absent = False
        if tail is None and not absent:
            return
        if not message:  # dropped, or messages may be lost
            self.drop_tail()
            return
        try:
            self._extend(tail, message)
        except Exception as error:  # noqa: BLE001 (another application may send anything)
            _rare.note("a notification of an execution is malformed", error)
            self.drop_tail()

    def _extend(self, tail: Tail | None, message: bytes) -> None:
        epoch_, before, head, oldest, process, started, usage, size, inline, rest = message.split(b" ", 9)
        epoch = epoch_.decode()
        if tail is None:
            tail = Tail(_first_state(epoch, float(started)), ())
        state = tail.state
        if epoch != state.epoch or int(before) > state.head:
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
        tail.extend(
            records,
            oldest=int(oldest),
            owner=owner,
            process=None if process == b"-" else process.decode(),
            usage=None if usage == b"-" else Usage.parse(usage.decode()),
        )
        self.tail = tail


def _first_state(epoch: str, started_at: float) -> LogState:
    """Return the state of an execution before its first update."""
    return LogState(
        epoch=epoch, oldest=1, head=0, state="running", owner=None, started_at=started_at, updated_at=started_at
    )
