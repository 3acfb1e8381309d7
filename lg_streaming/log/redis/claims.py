"""Names that one process of the fleet holds."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.log.redis.keyed_locks import KeyedLocks
from lg_streaming.log.redis.scripts import Script
from lg_streaming.log.redis.store import ScriptCall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.log.redis.lease import Lease
    from lg_streaming.log.redis.store import Store

__all__ = ["Claims"]

logger: logging.Logger = logging.getLogger(__name__)

_KEYS_PER_SCRIPT: Final = 500
_CLAIM: Final = Script.load("claim.lua")
_RELEASE: Final = Script.load("release_claim.lua")


class Claims:
    """Claims of this process. Use it on one event loop.

    Each claim is a key with the process's id, which expires with the lease.
    """

    def __init__(self, store: Store, lease: Lease, on_lost: Callable[[str], None]) -> None:
        self._store = store
        self._lease = lease
        self._on_lost = on_lost
        self._locks = KeyedLocks()
        self._held: set[str] = set()

    async def claim(self, name: str) -> bool:
        """See `Fleet.claim`."""
        async with self._locks[name]:  # a release that began before precedes it
            ((held,),) = await self._run([name])
            if held:
                self._held.add(name)
            elif name in self._held:
                self._lose(name)
            return bool(held)

    async def release(self, name: str) -> None:
        """Release a claim."""
        async with self._locks[name]:
            if name in self._held:
                self._held.discard(name)
                await self._store.run(_RELEASE, [self._key(name)], self._lease.process_id)

    async def renew(self) -> None:
        """Renew all claims, and those of which Redis lost the data; find the lost ones."""
        names = list(self._held)
        held = [each for results in await self._run(names) for each in results]
        for name, holds in zip(names, held, strict=True):
            if name not in self._held and holds and not self._locks[name].locked():
                await self._store.run(_RELEASE, [self._key(name)], self._lease.process_id)  # released since
            elif name in self._held and not holds:
                self._lose(name)

    async def release_all(self) -> None:
        """Release all claims."""
        names, self._held = list(self._held), set()
        await self._store.run_all(ScriptCall(_RELEASE, [self._key(name)], [self._lease.process_id]) for name in names)

    def lose_all(self) -> None:
        """Drop all claims, because another process has declared this one dead."""
        for name in list(self._held):
            self._lose(name)

    def _lose(self, name: str) -> None:
        self._held.discard(name)
        self._on_lost(name)

    async def _run(self, names: Sequence[str]) -> list[Any]:
        size = 1 if self._store.is_cluster else _KEYS_PER_SCRIPT  # keys of one script share a slot
        arguments = [self._lease.process_id, self._lease.milliseconds]
        keys = [self._key(name) for name in names]
        return await self._store.run_all(
            ScriptCall(_CLAIM, keys[start : start + size], arguments) for start in range(0, len(keys), size)
        )

    def _key(self, name: str) -> str:
        return self._store.key("claim", f"{{{name}}}")
