"""Find what Redis has lost of executions, and begin these anew, so that their readers get a gap."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from lg_streaming.log.redis.rare_log import RareLog
from lg_streaming.log.redis.scripts import HELD, RENEW

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lg_streaming.log.redis.batches import Acknowledged
    from lg_streaming.log.redis.keys import Keys
    from lg_streaming.log.redis.store import Store

__all__ = ["LossRepair"]

logger: logging.Logger = logging.getLogger(__name__)


class LossRepair:
    """Repair of executions of which Redis has lost updates, after a restart or a failover. Use it on one event loop.

    Args:
        store: Commands of Redis.
        keys: Names of the keys.
        new_epoch: Function that returns the name of a new life of an execution.
    """

    def __init__(self, store: Store, keys: Keys, new_epoch: Callable[[], str]) -> None:
        self._store = store
        self._keys = keys
        self._new_epoch = new_epoch
        self._rare = RareLog(logger)

    async def renew_epoch(self, execution_id: str, epoch: str) -> None:
        """Begin a new epoch of an execution that has lost updates of ``epoch``, unless another process has done so.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        keys = self._keys.execution(execution_id)
        if await self._store.run(
            RENEW, [keys.state], epoch, self._new_epoch(), keys.channel, self._keys.all_updates, execution_id
        ):
            self.note_loss(execution_id)

    def note_loss(self, execution_id: str) -> None:
        """Log that Redis has lost updates of an execution: once a minute, because it may have lost all."""
        self._rare.note("Redis has lost updates, and readers get a gap", f"execution {execution_id!r}")

    async def renew_lost(self, acknowledged: Mapping[str, Acknowledged]) -> None:
        """Renew the epochs of executions that lack what Redis has acknowledged. Those that are missing stay so.

        Raises:
            LogUnavailableError: If Redis cannot be reached.
        """
        ids = list(acknowledged)
        losses: list[tuple[str, str]] = []
        flat = await self._held(ids, [acknowledged[each].producer for each in ids])
        for at, execution_id in enumerate(ids):
            epoch, head, number = flat[3 * at : 3 * at + 3]
            known = acknowledged[execution_id]
            if epoch.decode() == known.epoch and (int(head) < known.head or int(number) < known.number):
                losses.append((execution_id, known.epoch))
        await asyncio.gather(*(self.renew_epoch(*each) for each in losses))

    async def _held(self, execution_ids: list[str], producers: list[str]) -> list[bytes]:
        size = 1 if self._store.is_cluster else 500
        keys = [self._keys.execution(each).state for each in execution_ids]
        answers = await asyncio.gather(
            *(
                self._store.run(HELD, keys[at : at + size], *producers[at : at + size])
                for at in range(0, len(keys), size)
            )
        )
        return [each for answer in answers for each in answer]
