"""Rooms: named groups of connections that hear what is broadcast to the room.

A room is an execution of its own, with the id `room:<room_id>`, so what is said in it has an order and a
position like everything else, and who may join is decided by the same rules.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from lg_streaming.filters import UpdateFilter

__all__ = ["ROOM_FILTER", "Rooms"]

ROOM_FILTER: Final = UpdateFilter.of(events=["token", "progress", "event"])
"""What members hear: everything but the statuses, which are of the execution and not of the room."""


class Rooms:
    """Who is in which room, of the connections of this process."""

    def __init__(self) -> None:
        self._members: defaultdict[str, set[object]] = defaultdict(set)

    def join(self, room_id: str, member: object) -> int:
        """Adds `member`; returns how many there are."""
        self._members[room_id].add(member)
        return len(self._members[room_id])

    def leave(self, room_id: str, member: object) -> int:
        """Takes `member` out, where it is in; returns how many are left. An empty room is forgotten."""
        members = self._members.get(room_id)
        if members is None:
            return 0
        members.discard(member)
        if not members:
            del self._members[room_id]
        return len(members)

    def members(self, room_id: str) -> int:
        """How many are in a room."""
        return len(self._members.get(room_id, ()))

    def sizes(self) -> dict[str, int]:
        """How many are in each room that has members."""
        return {room_id: len(members) for room_id, members in self._members.items()}
