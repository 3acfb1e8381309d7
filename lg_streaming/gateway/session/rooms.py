"""Rooms: named groups of connections that receive what is broadcast to the room.

A room is an execution with the id `room:<room_id>`. So its updates have an order and positions like all others, and the
same rules decide who may join.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from lg_streaming.filters import UpdateFilter

__all__ = ["ROOM_FILTER", "Rooms"]

ROOM_FILTER: Final = UpdateFilter.of(events=["token", "progress", "event"])
"""Updates that members receive: all but the statuses, which belong to the execution and not to the room."""


class Rooms:
    """Members of each room, among the connections of this process."""

    def __init__(self) -> None:
        self._members: defaultdict[str, set[object]] = defaultdict(set)

    def join(self, room_id: str, member: object) -> int:
        """Add `member`; returns how many there are."""
        self._members[room_id].add(member)
        return len(self._members[room_id])

    def leave(self, room_id: str, member: object) -> int:
        """Take `member` out, where it is in; returns how many are left. An empty room is forgotten."""
        members = self._members.get(room_id)
        if members is None:
            return 0
        members.discard(member)
        if not members:
            del self._members[room_id]
        return len(members)

    def members(self, room_id: str) -> int:
        """Return the number of members of a room."""
        return len(self._members.get(room_id, ()))

    def sizes(self) -> dict[str, int]:
        """Return the number of members of each room that has members."""
        return {room_id: len(members) for room_id, members in self._members.items()}
