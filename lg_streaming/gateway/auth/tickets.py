"""Single-use tickets, for where a browser can send neither a header nor a cookie."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import StreamingError, TokenExpiredError, UnauthorizedError

if TYPE_CHECKING:
    from lg_streaming.gateway.auth.principal import Principal

__all__ = ["Tickets", "UsedTicket"]

_PER_SUBJECT: Final = 100
_IN_ALL: Final = 10_000
_MAX_LENGTH: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ticket:
    principal: Principal
    until: float


@dataclass(frozen=True, slots=True)
class UsedTicket:
    """A ticket that was used and is void now: its principal, or None if it was not valid."""

    principal: Principal | None
    error: StreamingError | None = None
    """Reason for which the ticket could not be read."""

    def holder(self) -> Principal:
        """Return the ticket's principal.

        Raises:
            UnauthorizedError: If the ticket was void, or never issued.
            LogUnavailableError: If the fleet that shares the tickets could not be reached.
        """
        if self.error is not None:
            raise self.error
        if self.principal is None:
            raise UnauthorizedError("the ticket is not valid: it is good for one use, and not for long")
        return self.principal


class Tickets:
    """Unused tickets.

    A ticket is a credential of the principal that requested it, for one use within a short time. A connection made with
    a ticket ends when the principal's token expires. A ticket is 256 random bits, so it reveals nothing.

    Tickets live in this process's memory, as executions do with the log `memory://`: only the process that issued a
    ticket accepts it. See `SharedTickets` for several processes.

    Args:
        lifetime: Seconds until a ticket is void.
        clock: Seconds since 1970, for the expiry of the principal's token.
        monotonic: Seconds, for the lifetime of tickets, so that steps of the wall clock have no effect.
        new_id: Generates an unguessable ticket.
        per_subject: The maximum number of unused tickets of one subject; beyond it, the subject's oldest becomes void.
            Without authentication there are no subjects, and only `in_all` counts.
        in_all: The maximum number of unused tickets; beyond it, the oldest becomes void.
    """

    def __init__(
        self,
        *,
        lifetime: float = 30.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        new_id: Callable[[], str] = secrets.token_urlsafe,
        per_subject: int = _PER_SUBJECT,
        in_all: int = _IN_ALL,
    ) -> None:
        self._lifetime = lifetime
        self._clock = clock
        self._monotonic = monotonic
        self._new_id = new_id
        self._per_subject = per_subject
        self._in_all = in_all
        self._open: dict[str, _Ticket] = {}
        self._held: Counter[str] = Counter()
        self._void: list[str] = []

    def __len__(self) -> int:
        return len(self._open)

    def issue(self, principal: Principal, *, execution_id: str | None = None) -> tuple[str, float]:
        """Issue a ticket, and return it with the seconds until it expires.

        Args:
            principal: The ticket's principal.
            execution_id: The only execution that the holder may read; default: all that the principal may read.

        Raises:
            TokenExpiredError: If the principal's token has expired.
            UnauthorizedError: If the principal used a ticket for another execution.
        """
        now = self._monotonic()
        expires_in = self._lifetime
        if principal.expires_at is not None:
            expires_in = min(expires_in, principal.expires_at - self._clock())
        if expires_in <= 0:
            raise TokenExpiredError
        if execution_id is not None:
            if principal.is_outside_scope("read", execution_id):
                raise UnauthorizedError("this ticket is for another execution")
            principal = replace(principal, restricted_to=execution_id)
        self._evict(principal.account, now)
        ticket = self._new_id()
        self._open[ticket] = _Ticket(principal=principal, until=now + expires_in)
        if principal.account is not None:
            self._held[principal.account] += 1
        return ticket, expires_in

    def use(self, ticket: str) -> UsedTicket:
        """Void a ticket, and return it. It never fails, so a ticket is void before any other check can fail."""
        found = self._take(ticket) if len(ticket) <= _MAX_LENGTH else None
        return UsedTicket(None if found is None or found.until <= self._monotonic() else found.principal)

    def _take(self, ticket: str) -> _Ticket | None:
        found = self._open.pop(ticket, None)
        subject = None if found is None else found.principal.account
        if subject is not None:
            self._held[subject] -= 1
            if not self._held[subject]:
                del self._held[subject]
        return found

    def _evict(self, subject: str | None, now: float) -> None:
        """Drop expired tickets, then the oldest ones above the limits."""
        while self._open and next(iter(self._open.values())).until <= now:
            self._take(next(iter(self._open)))
        self._void.clear()
        if subject is not None and self._held[subject] >= self._per_subject:
            self._drop(next(name for name, each in self._open.items() if each.principal.account == subject))
        while len(self._open) >= self._in_all:
            self._drop(next(iter(self._open)))

    def _drop(self, ticket: str) -> None:
        self._take(ticket)
        self._void.append(ticket)

    def take_void(self) -> list[str]:
        """Return the tickets that became void because of the limits, at the last issue."""
        void, self._void = self._void, []
        return void
