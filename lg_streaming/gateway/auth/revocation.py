"""Revoked tokens: tokens that are refused although they have not expired."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from typing_extensions import TypedDict

from lg_streaming.errors import StreamingConfigError
from lg_streaming.fork import new_lock
from lg_streaming.gateway.auth.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Revocations", "Revoked", "Rule"]

logger: logging.Logger = logging.getLogger(__name__)

Revoked = Callable[[Principal], bool | Awaitable[bool]]
"""`revoked(principal) -> bool`, sync (run in a thread) or async: whether an otherwise valid token is refused.

Called at every login, every refresh, and every heartbeat of an open connection. Only `False` accepts a token: an
exception, or no answer within 10 seconds, counts as revoked.
"""

_LIMIT: Final = 100_000
_Name = tuple[Literal["jti", "subject"], str]


class Rule(TypedDict):
    """A revocation, as processes exchange it."""

    kind: Literal["jti", "subject"]
    name: str
    cutoff: float
    """Tokens issued until then are revoked, in seconds since 1970."""
    until: float | None
    """Expiry of the last token that the rule covers; None without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    cutoff: float
    """Tokens issued until then are revoked."""
    until: float
    """Expiry of the last token that the rule covers."""


class Revocations:
    """Revoked tokens, in this process's memory. `SharedRevocations` exchanges them with other processes.

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
        self._lock = new_lock()
        self._entries: dict[_Name, _Entry] = {}
        self._until_sweep = self._sweep_every = max(1, limit // 10)
        self._all_until: float | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, *, jti: str | None = None, subject: str | None = None, expires_at: float | None = None) -> list[Rule]:
        """Revoke the token with this `jti`, or all tokens of a subject that were issued (`iat`) until now, or both.

        A token without `iat` counts as issued before. A new token of the subject is valid if it is issued more than
        `leeway` after this call.

        Args:
            jti: The token's id.
            subject: The tokens' `sub`.
            expires_at: Expiry of the last of these tokens, in seconds since 1970; then the entry is removed. Without
                it, the entry has no expiry.

        Returns:
            The rules, for other processes.

        Raises:
            StreamingConfigError: If neither `jti` nor `subject` is given.
        """
        if jti is None and subject is None:
            raise StreamingConfigError("revoke needs a jti or a subject")
        now = self._clock()
        until = None if expires_at is None else expires_at + self._leeway
        rules = [
            Rule(kind=kind, name=name, cutoff=now + self._leeway, until=until) for kind, name in _names(jti, subject)
        ]
        self.apply(rules)
        return rules

    def apply(self, rules: Iterable[Rule]) -> None:
        """Add rules of this or another process. A rule that is known is extended. From any thread."""
        with self._lock:
            for rule in rules:
                name: _Name = (rule["kind"], rule["name"])
                cutoff, until = rule["cutoff"], float("inf") if rule["until"] is None else rule["until"]
                before = self._entries.pop(name, None)  # so that the order is about that of the cutoffs
                if before is not None:
                    cutoff, until = max(cutoff, before.cutoff), max(until, before.until)
                self._entries[name] = _Entry(cutoff=cutoff, until=until)
                self._make_room(self._clock())

    def rules(self) -> list[Rule]:
        """Return all rules."""
        with self._lock:
            return [
                Rule(
                    kind=kind,
                    name=name,
                    cutoff=entry.cutoff,
                    until=None if entry.until == float("inf") else entry.until,
                )
                for (kind, name), entry in self._entries.items()
            ]

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
            self._all_until = max(self._all_until or oldest.cutoff, oldest.cutoff)


def _names(jti: str | None, subject: str | None) -> Iterator[_Name]:
    if jti is not None:
        yield "jti", jti
    if subject is not None:
        yield "subject", subject
