"""Notifications on their way from Redis to a client: dropped, doubled, reordered by a TCP proxy."""

import random
from collections.abc import Callable

__all__ = ["NotificationFilter", "double_some", "drop_all", "drop_some", "swap_some"]

Edit = Callable[[list[bytes]], list[bytes]]
"""Gets the notifications of one piece of a connection, and returns those to send."""

_MESSAGES = (b"*3\r\n$8\r\nsmessage", b"*3\r\n$7\r\nmessage")


class NotificationFilter:
    """Filter of one connection (`TcpProxy.new_filter`): it edits the notifications and passes all else.

    Args:
        edit: The edit of each piece.
    """

    def __init__(self, edit: Edit) -> None:
        self._edit = edit
        self._buffer = b""

    def __call__(self, data: bytes) -> bytes:
        self._buffer += data
        messages: list[bytes] = []
        others: list[bytes] = []
        at = 0
        while (end := _end_of(self._buffer, at)) is not None:
            answer = self._buffer[at:end]
            (messages if answer.startswith(_MESSAGES) else others).append(answer)
            at = end
        self._buffer = self._buffer[at:]
        return b"".join((*others, *self._edit(messages)))


def _end_of(data: bytes, at: int) -> int | None:
    """The end of the answer that begins at a place; None if it is not complete."""
    line_end = data.find(b"\r\n", at)
    if line_end < 0:
        return None
    kind, rest, end = data[at : at + 1], data[at + 1 : line_end], line_end + 2
    if kind == b"$":
        size = int(rest)
        end += size + 2 if size >= 0 else 0
        return end if end <= len(data) else None
    if kind == b"*":
        for _ in range(max(0, int(rest))):
            inner = _end_of(data, end)
            if inner is None:
                return None
            end = inner
    return end


def drop_all(messages: list[bytes]) -> list[bytes]:
    return []


def drop_some(messages: list[bytes]) -> list[bytes]:
    return [each for each in messages if random.random() < 0.7]


def double_some(messages: list[bytes]) -> list[bytes]:
    return [each for message in messages for each in [message] * random.randint(1, 3)]


def swap_some(messages: list[bytes]) -> list[bytes]:
    """Reorder within a piece, and keep the last for the next one."""
    shuffled = list(messages)
    random.shuffle(shuffled)
    return shuffled
