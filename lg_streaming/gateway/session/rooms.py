"""Rooms: named groups of connections that receive the broadcasts to the room.

A room is an execution with the id `room:<room_id>`. So its updates have an order and positions, and the rules of access
to executions decide who may join.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from lg_streaming.filters import UpdateFilter

__all__ = ["ROOM_FILTER", "Rooms"]

ROOM_FILTER: Final = UpdateFilter.of(events=["token", "progress", "event"])
"""Filter of a member's updates: all but statuses, which belong to the execution and not to the room."""


class Rooms:
    """Members of each room, among the connections of this process."""

    def __init__(self) -> None:
        self._members: defaultdict[str, set[object]] = defaultdict(set)

    def join(self, room_id: str, member: object) -> int:
        """Add `member`, and return the number of members."""
        self._members[room_id].add(member)
        return len(self._members[room_id])

    def leave(self, room_id: str, member: object) -> int:
        """Remove `member`, and return the number of members that are left. An empty room is dropped."""
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
