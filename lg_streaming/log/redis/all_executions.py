"""Notifications of all executions, and the repair of lost ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import LogUnavailableError, StreamingError
from lg_streaming.events import Position
from lg_streaming.log.redis.seen_heads import SeenHeads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from lg_streaming.log.redis.reading import FollowedLog

__all__ = ["AllExecutions"]

_COMPARED: Final = 500
"""Heads of one request."""
_SLACK: Final = 10.0
"""Most seconds between the clocks of two processes."""


class AllExecutions:
    """All executions of a log: the position before each new update. Use it on the I/O thread.

    Args:
        log: The log on Redis.
        notify: Called with an execution and the position before its new updates.
    """

    def __init__(self, log: FollowedLog, notify: Callable[[str, Position | None], None]) -> None:
        self._log = log
        self._notify = notify
        self._seen: SeenHeads | None = None
        """Heads of all executions; None until `begin`."""
        self._seen_at = 0.0
        """Time of the last comparison with them."""

    async def begin(self) -> None:
        """Read the heads of the executions that may be updated next, unless that has begun.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        if self._seen is not None:
            return
        seen = self._seen = SeenHeads()  # notifications count from now on
        began = asyncio.get_running_loop().time()
        try:
            ids = await self._log.recent_ids(_SLACK, running=True)
            for execution_id, head in (await self._heads_of(ids)).items():
                if head is not None and seen.get(execution_id) is None:
                    seen.set(execution_id, head)
        except BaseException:
            self._seen = None
            raise
        self._seen_at = began

    def receive(self, payload: bytes) -> None:
        """Receive a notification."""
        epoch, before, head, name = payload.split(b" ", 3)
        execution_id = name.decode()
        if self._seen is not None:
            place = self._seen.receive(execution_id, epoch.decode(), int(before), int(head))
        else:
            place = Position(epoch.decode(), int(before)) if before != b"0" else None
        self._notify(execution_id, place)

    async def compare(self, *, thorough: bool) -> None:
        """Find executions whose notifications readers of all executions have missed.

        Compared are executions that began since the last comparison, and the most recent ones of those that were
        notified before. With ``thorough`` it compares all that were notified before, and those with an open run.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        seen = self._seen
        if seen is None:
            await self.begin()
            return
        began = asyncio.get_running_loop().time()
        known = seen.all() if thorough else seen.recent()
        ids = await self._log.recent_ids(began - self._seen_at + _SLACK, running=thorough)
        for execution_id, head in (await self._heads_of(known.keys() | ids)).items():
            if seen.get(execution_id) == known.get(execution_id):  # otherwise it was notified since
                await self._compare_head(seen, execution_id, head)
        self._seen_at = began

    async def _heads_of(self, execution_ids: Iterable[str]) -> Mapping[str, Position | None]:
        ids, heads = list(execution_ids), dict[str, Position | None]()
        for at in range(0, len(ids), _COMPARED):
            heads |= await self._log.reader.fetch_heads(ids[at : at + _COMPARED])
        return heads

    async def _compare_head(self, seen: SeenHeads, execution_id: str, head: Position | None) -> None:
        known = seen.get(execution_id)
        if head == known:
            return
        if head is None:
            seen.remove(execution_id)
            self._notify(execution_id, None)
            return
        seen.set(execution_id, head)
        if known is not None:
            self._notify(execution_id, known if known.epoch == head.epoch else None)
            return
        try:
            found = await self._log.reader.fetch(execution_id, head.seq, 0)
        except LogUnavailableError:
            seen.remove(execution_id)
            raise
        except StreamingError:  # its reader gets it too
            found = None
        start = found.state.start_record if found is not None else None
        self._notify(execution_id, Position(head.epoch, start.seq - 1) if start and start.seq > 1 else None)
