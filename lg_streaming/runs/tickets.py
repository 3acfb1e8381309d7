"""Order of the runs that wait for their execution, over the processes that share a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lg_streaming.hub import StreamHub
    from lg_streaming.log.fleet import Fleet

__all__ = ["Ticket", "new_ticket"]


class Ticket:
    """Place of a run among all that wait for the end of their execution's open run.

    The order is that of the starts by the clocks of their hosts. Tickets of dead processes do not count.

    Args:
        fleet: The processes.
        execution_id: The execution.
        run_id: The run.
        ttl: Seconds after which a ticket is void.
    """

    def __init__(self, fleet: Fleet, execution_id: str, run_id: str, ttl: float) -> None:
        self._fleet = fleet
        self._kind = f"waiting {execution_id}"
        self._key = f"{time.time_ns():020d} {run_id}"
        self._ttl = ttl

    async def take(self) -> None:
        """Enter the order. Raises LogUnavailableError, like `is_first`."""
        await self._fleet.put(self._kind, self._key, self._fleet.process_id, ttl=self._ttl)

    async def is_first(self) -> bool:
        """Return whether no run of a live process is before this one."""
        holders = await self._fleet.values(self._kind)
        live = {process.process_id for process in await self._fleet.processes()}
        before = [holder for key, holder in holders.items() if key < self._key]
        return live.isdisjoint(before)

    def give_back(self) -> None:
        """Leave the order. Returns at once."""
        fleet, kind, key = self._fleet, self._kind, self._key
        fleet.spawn(lambda: fleet.take(kind, key))


async def new_ticket(hub: StreamHub, execution_id: str, run_id: str) -> Ticket | None:
    """Return the ticket of a run, in the order; None with a log of one process."""
    fleet = hub.log.fleet
    if fleet is None:
        return None
    ticket = Ticket(fleet, execution_id, run_id, hub.settings.retention.record_ttl)
    await ticket.take()
    return ticket
