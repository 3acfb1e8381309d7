"""Limits of callers that hold for all processes of a fleet together."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import ConnectRateError, LimitError, TooManyConnectionsError
from lg_streaming.frequency import Frequency
from lg_streaming.gateway.limits.rates import address_key
from lg_streaming.log.fleet import CountLimit, RateLimit

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        fleet: The processes.
    """

    __slots__ = ("_counters", "_fleet", "_released")

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._counters: list[CountLimit] = []
        self._released = False

    @property
    def has_subject(self) -> bool:
        """True if a counter of a subject includes the connection."""
        return any(counter.kind == _BY_SUBJECT for counter in self._counters)

    def add(self, counters: Sequence[CountLimit]) -> Sequence[CountLimit]:
        """Note that counters include the connection; return them, or none if the lease was released."""
        if self._released:
            return ()
        self._counters += counters
        return counters

    def release(self) -> None:
        """Stop counting the connection. Harmless when repeated."""
        self._released = True
        counters, self._counters = self._counters, []
        if counters:
            self._fleet.discount(counters)


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
        rates = [*_limit(_FAILURES, key, self._failures, hits=False), *_limit(_CONNECTS, key, self._connects)]
        return await self._enter(rates, key, subject)

    async def enter(self, address: str | None, subject: str | None) -> FleetLease:
        """Count a connection that this process has admitted, without the rates.

        Raises:
            TooManyConnectionsError: If the address or the subject has as many connections as it may.
        """
        return await self._enter([], address_key(address), subject)

    async def claim_subject(self, lease: FleetLease, subject: str | None) -> None:
        """Count a connection for the subject of a later login.

        Raises:
            TooManyConnectionsError: If the subject has as many connections as it may.
        """
        if not lease.has_subject:
            await self._check([], lease, self._counters(None, subject))

    async def check_logins(self, address: str | None) -> None:
        """Check that `address` may still try to log in. Counts nothing.

        Raises:
            ConnectRateError: If the address failed too often.
        """
        await self._check(_limit(_FAILURES, address_key(address), self._failures, hits=False))

    async def login_failed(self, address: str | None) -> None:
        """Count a failed login from `address`.

        Raises:
            ConnectRateError: If the address failed too often already.
        """
        await self._check(_limit(_FAILURES, address_key(address), self._failures))

    async def _enter(self, rates: Sequence[RateLimit], key: str, subject: str | None) -> FleetLease:
        lease = FleetLease(self._fleet)
        try:
            await self._check(rates, lease, self._counters(key, subject))
        except BaseException:
            lease.release()
            raise
        return lease

    def _counters(self, key: str | None, subject: str | None) -> list[CountLimit]:
        counters: list[CountLimit] = []
        if key is not None and self._per_address is not None:
            counters.append(CountLimit(_BY_ADDRESS, key, self._per_address))
        if subject is not None and self._per_subject is not None:
            counters.append(CountLimit(_BY_SUBJECT, subject, self._per_subject))
        return counters

    async def _check(
        self, rates: Sequence[RateLimit], lease: FleetLease | None = None, counters: Sequence[CountLimit] = ()
    ) -> None:
        """Count a caller in rates and counters; raise a refusal. Without an answer of the fleet, raise nothing."""
        if not (rates or counters) or self._monotonic() < self._resumes_at:
            return
        if lease is not None:
            counters = lease.add(counters)
        try:
            async with asyncio.timeout(_PATIENCE):
                refusing = await self._fleet.admit(rates, counters)
        except TimeoutError:
            self._pause(f"no answer in {_PATIENCE:g} s")
        except Exception as error:  # noqa: BLE001 (the limits of this process decide)
            self._pause(repr(error))
        else:
            self._warned = False
            if refusing is not None:
                raise self._refusal(refusing)

    def _pause(self, reason: str) -> None:
        self._resumes_at = self._monotonic() + _PAUSE
        if not self._warned:
            self._warned = True
            logger.warning("limits of callers hold in this process only, until the log can be reached: %s", reason)

    def _refusal(self, limit: RateLimit | CountLimit) -> LimitError:
        if isinstance(limit, CountLimit):
            holder = "an address" if limit.kind == _BY_ADDRESS else "a subject"
            return TooManyConnectionsError(
                f"{holder} may have {limit.most} connections, over all processes: close some first", retry_after=1.0
            )
        what, rate = ("failed logins", self._failures) if limit.kind == _FAILURES else ("connections", self._connects)
        return ConnectRateError(f"too many {what}: {rate} are allowed", retry_after=limit.seconds)


def _parse(rate: str | None) -> Frequency | None:
    return None if rate is None else Frequency.parse(rate)


def _limit(kind: str, key: str, rate: Frequency | None, *, hits: bool = True) -> list[RateLimit]:
    return [] if rate is None else [RateLimit(kind, key, rate.amount, rate.seconds, hits)]
