"""Limits of callers that hold for all processes of a fleet together."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from lg_streaming.errors import ConnectRateError, LimitError, LogUnavailableError, TooManyConnectionsError
from lg_streaming.frequency import Frequency
from lg_streaming.gateway.limits.rates import address_key

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from lg_streaming.log.fleet import Fleet
    from lg_streaming.settings import LimitSettings

__all__ = ["FleetLease", "FleetLimits"]

logger: logging.Logger = logging.getLogger(__name__)

_PATIENCE: Final = 1.0
"""Seconds that a login waits for the fleet."""
_PAUSE: Final = 5.0
"""Seconds without a request to the fleet after one has failed."""
_CONNECTS: Final = "connects"
_FAILURES: Final = "failed_logins"
_BY_ADDRESS: Final = "connections_by_address"
_BY_SUBJECT: Final = "connections_by_subject"


class FleetLease:
    """A connection that counts in the fleet, until its release.

    Args:
        limits: The limits that count it.
    """

    __slots__ = ("_counters", "_limits", "_released")

    def __init__(self, limits: FleetLimits) -> None:
        self._limits = limits
        self._counters: list[tuple[str, str]] = []
        self._released = False

    @property
    def has_subject(self) -> bool:
        """True if a counter of a subject includes the connection."""
        return any(kind == _BY_SUBJECT for kind, _ in self._counters)

    def add(self, kind: str, key: str) -> bool:
        """Note that a counter includes the connection; return False if the lease was released."""
        if not self._released:
            self._counters.append((kind, key))
        return not self._released

    def release(self) -> None:
        """Stop counting the connection. Harmless when repeated."""
        self._released = True
        counters, self._counters = self._counters, []
        for kind, key in counters:
            self._limits.discount(kind, key)


class FleetLimits:
    """Counters and rates over all processes. A caller waits for at most one round trip.

    The limits of this process come before. If the log cannot be reached, they decide alone: the caller is admitted.

    Args:
        fleet: The processes.
        limits: The settings.
        monotonic: Seconds that never go back.
    """

    def __init__(self, fleet: Fleet, limits: LimitSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._fleet = fleet
        self._monotonic = monotonic
        self._per_address = limits.connections_per_address
        self._per_subject = limits.connections_per_subject
        self._connects = _parse(limits.connects_per_address)
        self._failures = _parse(limits.failed_logins_per_address)
        self._resumes_at = 0.0
        self._warned = False

    async def admit(self, address: str | None, subject: str | None) -> FleetLease:
        """Count a connection that this process has admitted.

        Raises:
            ConnectRateError: If the address connects, or failed to log in, too often.
            TooManyConnectionsError: If the address or the subject has as many connections as it may.
        """
        key = address_key(address)
        return await self._enter_after(address, subject, self._check_failures(key), self._hit_connects(key))

    async def enter(self, address: str | None, subject: str | None) -> FleetLease:
        """Count a connection that this process has admitted, without the rates.

        Raises:
            TooManyConnectionsError: If the address or the subject has as many connections as it may.
        """
        return await self._enter_after(address, subject)

    async def claim_subject(self, lease: FleetLease, subject: str | None) -> None:
        """Count a connection for the subject of a later login.

        Raises:
            TooManyConnectionsError: If the subject has as many connections as it may.
        """
        if not lease.has_subject:
            await self._all(self._claim(lease, subject))

    async def check_logins(self, address: str | None) -> None:
        """Check that `address` may still try to log in. Counts nothing.

        Raises:
            ConnectRateError: If the address failed too often.
        """
        await self._all(self._check_failures(address_key(address)))

    async def login_failed(self, address: str | None) -> None:
        """Count a failed login from `address`.

        Raises:
            ConnectRateError: If the address failed too often already.
        """
        await self._all(self._hit_failures(address_key(address)))

    def discount(self, kind: str, key: str) -> None:
        """Count one connection less. Returns at once."""
        self._fleet.spawn(lambda: self._discount(kind, key))

    async def _discount(self, kind: str, key: str) -> None:
        try:
            await self._fleet.count(kind, key, -1)
        except LogUnavailableError as error:
            logger.debug("a closed connection is discounted later: %s", error)

    async def _enter_after(
        self, address: str | None, subject: str | None, *checks: Coroutine[Any, Any, None]
    ) -> FleetLease:
        lease = FleetLease(self)
        try:
            await self._all(*checks, self._enter(lease, address_key(address)), self._claim(lease, subject))
        except BaseException:
            lease.release()
            raise
        return lease

    async def _all(self, *steps: Coroutine[Any, Any, None]) -> None:
        """Take all steps at once; raise the first refusal. Without an answer of the fleet, raise nothing."""
        if self._monotonic() < self._resumes_at:
            for step in steps:
                step.close()
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                results = await asyncio.gather(*steps, return_exceptions=True)
        except TimeoutError:
            self._pause(f"no answer in {_PATIENCE:g} s")
            return
        failures: list[BaseException] = []
        for result in results:
            if isinstance(result, LimitError):
                raise result
            if result is not None:
                failures.append(result)
        if failures:
            self._pause(repr(failures[0]))
        else:
            self._warned = False

    def _pause(self, reason: str) -> None:
        self._resumes_at = self._monotonic() + _PAUSE
        if not self._warned:
            self._warned = True
            logger.warning("limits of callers hold in this process only, until the log can be reached: %s", reason)

    async def _check_failures(self, key: str) -> None:
        rate = self._failures
        if rate is not None and not await self._fleet.allows(_FAILURES, key, amount=rate.amount, seconds=rate.seconds):
            raise _too_many("failed logins", rate)

    async def _hit_failures(self, key: str) -> None:
        rate = self._failures
        if rate is not None and not await self._fleet.hit(_FAILURES, key, amount=rate.amount, seconds=rate.seconds):
            raise _too_many("failed logins", rate)

    async def _hit_connects(self, key: str) -> None:
        rate = self._connects
        if rate is not None and not await self._fleet.hit(_CONNECTS, key, amount=rate.amount, seconds=rate.seconds):
            raise _too_many("connections", rate)

    async def _enter(self, lease: FleetLease, key: str) -> None:
        await self._count(lease, _BY_ADDRESS, key, self._per_address, "an address")

    async def _claim(self, lease: FleetLease, subject: str | None) -> None:
        if subject is not None:
            await self._count(lease, _BY_SUBJECT, subject, self._per_subject, "a subject")

    async def _count(self, lease: FleetLease, kind: str, key: str, limit: int | None, holder: str) -> None:
        """Count a connection. It counts in this process's share also without an answer, until the lease is released."""
        if limit is None or not lease.add(kind, key):
            return
        if await self._fleet.count(kind, key, 1) > limit:
            raise TooManyConnectionsError(
                f"{holder} may have {limit} connections, over all processes: close some first", retry_after=1.0
            )


def _parse(rate: str | None) -> Frequency | None:
    return None if rate is None else Frequency.parse(rate)


def _too_many(what: str, rate: Frequency) -> ConnectRateError:
    return ConnectRateError(f"too many {what}: {rate} are allowed", retry_after=rate.seconds)
