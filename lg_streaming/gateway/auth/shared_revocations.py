"""Revocations that hold in all processes of a fleet."""

from __future__ import annotations

import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import LogUnavailableError
from lg_streaming.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lg_streaming.gateway.auth.revocation import Revocations, Rule
    from lg_streaming.log.fleet import Fleet

__all__ = ["SharedRevocations"]

logger: logging.Logger = logging.getLogger(__name__)

_KIND: Final = "revoked"
_VERSION: Final = "revocations"
_YEAR: Final = 366 * 86_400.0


class SharedRevocations:
    """Exchange of revocations between the processes of a fleet: by a message at once, and by values that are stored.

    A process that misses the message reads the values with `load`. The values have a version, so that a `load` without
    news is one small request.

    Args:
        fleet: The processes.
        revocations: The revocations of this process.
        clock: Seconds since 1970.
    """

    def __init__(self, fleet: Fleet, revocations: Revocations, clock: Callable[[], float]) -> None:
        self._fleet = fleet
        self._revocations = revocations
        self._clock = clock
        self._lock = new_lock()
        self._unstored: dict[str, Rule] = {}
        self._version: Any = None
        fleet.on_message(_KIND, self._revocations.apply)

    def share(self, rules: Sequence[Rule]) -> None:
        """Send new rules of this process to all others, and store them. Returns at once, from any thread."""
        with self._lock:
            self._unstored.update({_key(rule): rule for rule in rules})
        self._fleet.publish(_KIND, list(rules))
        self._fleet.spawn(self._store)

    async def load(self) -> None:
        """Store what could not be stored before, and apply the stored rules if they have changed.

        While the log cannot be reached, this process goes on with the rules that it has.
        """
        try:
            await self._store_unstored()
            version = await self._fleet.get(_VERSION, "version")
            if version == self._version:
                return
            self._revocations.apply(list((await self._fleet.values(_KIND)).values()))
            if version is None:  # Redis has lost its data
                with self._lock:
                    self._unstored.update({_key(rule): rule for rule in self._revocations.rules()})
                await self._store_unstored()
            self._version = version
        except LogUnavailableError as error:
            logger.debug("revocations were not read: %s", error)

    async def _store(self) -> None:
        try:
            await self._store_unstored()
        except LogUnavailableError:
            logger.warning("a revocation holds in this process and in those that got its message; it is stored later")

    async def _store_unstored(self) -> None:
        with self._lock:
            waiting = dict(self._unstored)
        for key, rule in waiting.items():
            until = rule["until"]
            ttl = _YEAR if until is None else max(1.0, until - self._clock())
            await self._fleet.put(_KIND, key, rule, ttl=ttl)
        if waiting:
            await self._fleet.put(_VERSION, "version", secrets.token_hex(8), ttl=_YEAR)
        with self._lock:
            for key, rule in waiting.items():
                if self._unstored.get(key) is rule:
                    del self._unstored[key]


def _key(rule: Rule) -> str:
    return f"{rule['kind']}:{rule['name']}"
