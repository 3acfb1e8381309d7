"""Tickets that every process of a fleet accepts."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final, cast

from lg_streaming.errors import LogUnavailableError
from lg_streaming.gateway.auth.principal import Principal, grants_of
from lg_streaming.gateway.auth.tickets import UsedTicket
from lg_streaming.values import jsonable

if TYPE_CHECKING:
    from lg_streaming.gateway.auth.tickets import Tickets
    from lg_streaming.log.fleet import Fleet

__all__ = ["SharedTickets"]

_KIND: Final = "ticket"
_FORM: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)
"""Form of a ticket: others are refused without a request to the fleet."""


class SharedTickets:
    """Unused tickets of a fleet. Each is accepted once, by any of its processes.

    The fleet keeps the principal under a digest of the ticket, so its values reveal no ticket. Each process limits the
    tickets that it issues.

    Args:
        issued: The tickets of this process, with their limits.
        fleet: Processes that share the tickets.
    """

    def __init__(self, issued: Tickets, fleet: Fleet) -> None:
        self._issued = issued
        self._fleet = fleet

    async def issue(self, principal: Principal, *, execution_id: str | None = None) -> tuple[str, float]:
        """Issue a ticket, and return it with the seconds until it expires. Raises like `Tickets.issue`.

        Raises:
            LogUnavailableError: If the fleet cannot be reached.
        """
        ticket, expires_in = self._issued.issue(principal, execution_id=execution_id)
        for void in self._issued.take_void():
            await self._fleet.take(_KIND, _digest(void))
        await self._fleet.put(
            _KIND, _digest(ticket), _to_json(principal, execution_id or principal.restricted_to), ttl=expires_in
        )
        return ticket, expires_in

    async def use(self, ticket: str) -> UsedTicket:
        """Void a ticket in the whole fleet, and return it. It never raises: `UsedTicket.holder` does."""
        self._issued.use(ticket)  # it no longer counts
        if _FORM.fullmatch(ticket) is None:
            return UsedTicket(None)
        try:
            found = await self._fleet.take(_KIND, _digest(ticket))
        except LogUnavailableError as error:
            return UsedTicket(None, error)
        return UsedTicket(_from_json(found))


def _digest(ticket: str) -> str:
    return hashlib.sha256(ticket.encode()).hexdigest()


def _to_json(principal: Principal, restricted_to: str | None) -> dict[str, object]:
    return {
        "subject": principal.subject,
        "grants": [
            {"actions": sorted(grant.actions), "executions": list(grant.executions)} for grant in principal.grants
        ],
        "claims": jsonable(dict(principal.claims)),
        "expires_at": principal.expires_at,
        "restricted_to": restricted_to,
        "source": principal.source,
    }


def _from_json(value: object) -> Principal | None:
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    return Principal(
        subject=fields["subject"],
        grants=grants_of(fields["grants"]),
        claims=fields["claims"],
        expires_at=fields["expires_at"],
        restricted_to=fields["restricted_to"],
        source=fields.get("source", "ticket"),
    )
