"""Revoked tokens: tokens that are refused although they have not expired."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from lg_streaming.errors import StreamingConfigError
from lg_streaming.gateway.auth.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Revocations", "Revoked"]

logger: logging.Logger = logging.getLogger(__name__)

Revoked = Callable[[Principal], bool | Awaitable[bool]]
"""`revoked(principal) -> bool`, sync (run in a thread) or async: whether an otherwise valid token is refused.

Called at every login, every refresh, and every heartbeat of an open connection. Only `False` accepts a token: an
exception, or no answer within 10 seconds, counts as revoked.
"""

_LIMIT: Final = 100_000
_Name = tuple[Literal["jti", "subject"], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    cutoff: float
    """Tokens issued until then are revoked."""
    until: float
    """Expiry of the last token that the rule covers."""


class Revocations:
    """Revoked tokens, in this process's memory: a restart and other processes do not have them.

    At most `limit` entries are kept. Beyond that, one rule replaces the oldest: every token that was issued before that
    entry is revoked. So no revoked token becomes valid again.

    Args:
        clock: Seconds since 1970.
        leeway: Seconds by which the clock of the tokens' issuer may be ahead.
        limit: The maximum number of entries.
    """

    def __init__(self, clock: Callable[[], float], *, leeway: float = 5.0, limit: int = _LIMIT) -> None:
        self._clock = clock
        self._leeway = leeway
        self._limit = limit
        self._entries: dict[_Name, _Entry] = {}
        self._until_sweep = self._sweep_every = max(1, limit // 10)
        self._all_until: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, *, jti: str | None = None, subject: str | None = None, expires_at: float | None = None) -> None:
        """Revoke the token with this `jti`, or all tokens of a subject that were issued (`iat`) until now, or both.

        A token without `iat` counts as issued before. A new token of the subject is valid if it is issued more than
        `leeway` after this call.

        Args:
            jti: The token's id.
            subject: The tokens' `sub`.
            expires_at: Expiry of the last of these tokens, in seconds since 1970; then the entry is removed. Without
                it, the entry has no expiry.

        Raises:
            StreamingConfigError: If neither `jti` nor `subject` is given.
        """
        if jti is None and subject is None:
            raise StreamingConfigError("revoke needs a jti or a subject")
        now = self._clock()
        until = float("inf") if expires_at is None else expires_at + self._leeway
        for name in _names(jti, subject):
            before = self._entries.pop(name, None)  # so that the order is that of the cutoffs
            self._entries[name] = _Entry(
                cutoff=now + self._leeway, until=until if before is None else max(until, before.until)
            )
        self._make_room(now)

    def is_revoked(self, principal: Principal) -> bool:
        """Return whether the principal's token is revoked; a caller without a token has none."""
        if principal.subject is None:
            return False
        issued = principal.claims.get("iat")
        issued = issued if isinstance(issued, int | float) else float("-inf")
        if self._all_until is not None and issued <= self._all_until:
            return True
        jti = principal.claims.get("jti")
        if isinstance(jti, str) and ("jti", jti) in self._entries:
            return True
        entry = self._entries.get(("subject", principal.subject))
        return entry is not None and issued <= entry.cutoff

    def _make_room(self, now: float) -> None:
        self._until_sweep -= 1
        if not self._until_sweep:
            self._until_sweep = self._sweep_every
            self._entries = {name: entry for name, entry in self._entries.items() if entry.until > now}
        while len(self._entries) > self._limit:
            oldest = self._entries.pop(next(iter(self._entries)))
            if self._all_until is None:
                logger.warning("more than %d revocations: tokens older than the oldest are all revoked", self._limit)
            self._all_until = oldest.cutoff


def _names(jti: str | None, subject: str | None) -> Iterator[_Name]:
    if jti is not None:
        yield "jti", jti
    if subject is not None:
        yield "subject", subject
