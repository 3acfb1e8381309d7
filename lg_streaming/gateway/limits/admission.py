"""Counters and rates of one gateway: connections, requests and failed logins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lg_streaming.gateway.limits.fleet_limits import FleetLimits
from lg_streaming.gateway.limits.rates import ConnectionCounter, RateLimiter, Requests, StartRates

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.log.fleet import Fleet
    from lg_streaming.settings import LimitSettings

__all__ = ["Admission"]


class Admission:
    """The counters and rates of one gateway, over all its transports.

    Args:
        limits: The settings.
        clock: Seconds, monotonic.
        fleet: The processes that share the log; None for this process alone.
    """

    connections: ConnectionCounter
    """Connections, and callers that wait for a page of updates."""
    visitors: ConnectionCounter
    """Callers with a single request, until it is authenticated."""
    rates: RateLimiter

    def __init__(self, limits: LimitSettings, clock: Callable[[], float], fleet: Fleet | None = None) -> None:
        self._limits = limits
        self.fleet: FleetLimits | None = None if fleet is None else FleetLimits(fleet, limits, clock)
        """Limits of all processes together. Ask them after those of this process."""
        self.requests: Requests = Requests(limits, clock)
        self.starts: StartRates = StartRates(limits.starts_per_subject, clock)
        self.reset_counts()
        self.reset_rates()

    def reset_counts(self) -> None:
        """Reset all counts of connections, as in a forked child."""
        limits = self._limits
        self.connections = ConnectionCounter(
            limits.connections, limits.connections_per_subject, limits.connections_per_address
        )
        self.visitors = ConnectionCounter(limits.connections, per_address=limits.connections_per_address)

    def reset_rates(self) -> None:
        """Reset the rates of all addresses, as at a start of the server."""
        self.rates = RateLimiter(self._limits.connects_per_address, self._limits.failed_logins_per_address)
