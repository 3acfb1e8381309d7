"""Heads of all executions as a process has seen them, to find those whose notifications it has missed."""

from __future__ import annotations

from collections import OrderedDict
from itertools import islice
from typing import TYPE_CHECKING, Final

from lg_streaming.events import Position

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SeenHeads"]

_MAX_SEEN: Final = 20_000
_MAX_RECENT: Final = 1_000


class SeenHeads:
    """Last seen heads of executions, up to 20,000: those that were updated last."""

    def __init__(self) -> None:
        self._heads: OrderedDict[str, Position] = OrderedDict()

    def get(self, execution_id: str) -> Position | None:
        """Return the last seen head of an execution."""
        return self._heads.get(execution_id)

    def set(self, execution_id: str, head: Position) -> None:
        """Record the head of an execution."""
        self._heads[execution_id] = head
        self._heads.move_to_end(execution_id)
        if len(self._heads) > _MAX_SEEN:
            self._heads.popitem(last=False)

    def remove(self, execution_id: str) -> None:
        """Remove an execution."""
        self._heads.pop(execution_id, None)

    def all(self) -> Mapping[str, Position]:
        """Return all heads."""
        return dict(self._heads)

    def recent(self) -> Mapping[str, Position]:
        """Return the heads of up to 1,000 executions that were updated last."""
        return {each: self._heads[each] for each in islice(reversed(self._heads), _MAX_RECENT)}

    def receive(self, execution_id: str, epoch: str, before: int, head: int) -> Position | None:
        """Record a notification; return the position after which this process has not seen the updates.

        That is ``before`` the new updates, unless earlier notifications were missed. None: the beginning.
        """
        known = self._heads.get(execution_id)
        if head == 0:  # the execution was dropped
            self.remove(execution_id)
            return None
        same = known is not None and known.epoch == epoch
        if known is None or not same or known.seq < head:
            self.set(execution_id, Position(epoch, head))
        if same and known is not None and known.seq < before:
            return known
        return Position(epoch, before) if before else None
