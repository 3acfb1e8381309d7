"""Counters with a share for each process, and rates in sliding windows."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.log.redis.scripts import Script
from lg_streaming.log.redis.store import ScriptCall

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lg_streaming.log.fleet import CountLimit, RateLimit
    from lg_streaming.log.redis.lease import Lease
    from lg_streaming.log.redis.store import Store

__all__ = ["Counters"]

_ADMIT: Final = Script.load("admit.lua")
_SHARE_SECONDS: Final = 3600.0
_REFRESH_SECONDS: Final = 1200.0

_Counter = tuple[str, str]
"""Kind and key of a counter."""


class Counters:
    """Counters, which are hashes of the processes' shares, and rates. Use it on one event loop.

    Redis gets the whole share of this process, not its change, so that a repeated or a lost request does no harm. The
    store sends the requests in order. A counter expires an hour after its last refreshment.

    One script of ours checks all limits of a caller. A library of rates would take a request for each of them, and
    clients that reconnect all at once would need several requests each. So all keys share one hash tag: a cluster keeps
    them on one node.
    """

    def __init__(self, store: Store, lease: Lease) -> None:
        self._store = store
        self._lease = lease
        self._shares: dict[_Counter, int] = {}
        self._unwritten: set[_Counter] = set()
        self._refreshed_at = 0.0
        self._gone: set[str] = set()
        """Processes that were removed. An id never comes back."""
        self._refreshing = asyncio.Lock()
        self._leaving: set[_Counter] = set()
        self._writing = False

    def change(self, kind: str, key: str, change: int) -> None:
        """Change this process's share of a counter. `count` or `admit`, or a later renewal of the lease, writes it."""
        counter = (kind, key)
        self._unwritten.add(counter)
        share = max(self._shares.get(counter, 0) + change, 0)
        if share:
            self._shares[counter] = share
        else:
            self._shares.pop(counter, None)

    async def count(self, kind: str, key: str) -> int:
        """Write this process's share of a counter; return the sum over the live processes."""
        _, (total,) = await self._run((), [(kind, key)])
        return total

    async def admit(self, rates: Sequence[RateLimit], counts: Sequence[CountLimit]) -> RateLimit | CountLimit | None:
        """See `Fleet.admit`. Change the shares before."""
        refusing, totals = await self._run(rates, [(each.kind, each.key) for each in counts])
        if refusing is not None:
            return refusing
        return next((each for each, total in zip(counts, totals, strict=True) if total > each.most), None)

    async def _run(
        self, rates: Sequence[RateLimit], counters: Sequence[_Counter]
    ) -> tuple[RateLimit | None, list[int]]:
        """Return the rate that refuses, or None, and the sums of the counters."""
        call = self._call(rates, counters)
        try:
            result: list[Any] = await self._store.run(call.script, call.keys, *call.arguments)
        except BaseException:
            self._unwritten.update(counters)  # an earlier request may have removed them, with an older share
            raise
        if refusing := int(result[0]):
            return rates[refusing - 1], []
        self._unwritten.difference_update(counters)
        return None, [await self._sum(*each) for each in zip(counters, result[1:], strict=True)]

    def _call(self, rates: Sequence[RateLimit], counters: Sequence[_Counter]) -> ScriptCall:
        keys: list[str] = []
        arguments: list[str | float] = [len(rates)]
        for rate in rates:
            window = max(round(rate.seconds * 1000), 1)
            keys.append(self._store.key("rate", "{limits}", rate.kind, str(window), rate.key))
            arguments += (rate.amount, window, int(rate.hits))
        if counters:
            keys += (self._key(each) for each in counters)
            arguments += (self._lease.process_id, round(_SHARE_SECONDS * 1000))
            arguments += (self._shares.get(each, 0) for each in counters)
        return ScriptCall(_ADMIT, keys, arguments)

    async def _sum(self, counter: _Counter, flat: list[bytes]) -> int:
        """Return the sum of the live processes' shares. Remove those of processes that are gone."""
        shares = {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
        if not self._known.issuperset(shares):
            async with self._refreshing:
                if not self._known.issuperset(shares):
                    live, dead = await self._lease.refresh(renewed=False)
                    self._gone |= shares.keys() - live - dead - {self._lease.process_id}
        if gone := self._gone.intersection(shares):
            await self._store.command("HDEL", self._key(counter), *gone)
        return sum(share for each, share in shares.items() if each in self._lease.live)

    @property
    def _known(self) -> frozenset[str]:
        return self._lease.live | self._lease.dead | self._gone

    def rewrite(self) -> None:
        """Write all shares at the next renewal, because Redis has lost them or this process has another id."""
        self._unwritten |= self._shares.keys()

    async def renew(self, now: float) -> None:
        """Write the shares that Redis lacks, and all shares before they expire."""
        if now - self._refreshed_at > _REFRESH_SECONDS:
            self._refreshed_at = now
            self.rewrite()
        await self._write(self._unwritten)

    async def write(self, counters: Sequence[_Counter]) -> None:
        """Write shares soon: those of callers that leave at once are one request, and one script for each counter."""
        self._leaving.update(counters)
        if self._writing:
            return
        self._writing = True
        try:
            while self._leaving:
                leaving, self._leaving = self._leaving, set()
                await self._write(leaving)
        finally:
            self._writing = False

    async def _write(self, counters: Iterable[_Counter]) -> None:
        written = {counter: self._shares.get(counter, 0) for counter in counters}
        await self._store.run_all(self._call((), [counter]) for counter in written)
        # A share that has changed since is written by its own request.
        self._unwritten -= {counter for counter, share in written.items() if share == self._shares.get(counter, 0)}

    async def remove_all(self) -> None:
        """Remove the shares of this process."""
        counters, self._shares = [*self._shares], {}
        await self._store.run_all(self._call((), [counter]) for counter in counters)

    def _key(self, counter: _Counter) -> str:
        return self._store.key("count", "{limits}", *counter)
