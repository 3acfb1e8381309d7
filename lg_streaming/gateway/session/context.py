"""Shared state of all transports."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.gateway.limits.admission import Admission
from lg_streaming.gateway.protocol.registry import MESSAGES_IN
from lg_streaming.gateway.session.lifecycle import Lifecycle
from lg_streaming.gateway.session.rooms import Rooms
from lg_streaming.gateway.session.several_processes import SeveralProcesses
from lg_streaming.hub.wildcard_notifier import WildcardNotifier
from lg_streaming.observability.events import GatewayEvents
from lg_streaming.observability.gateway_metrics import GatewayMetrics

if TYPE_CHECKING:
    from lg_streaming.gateway.auth.policy import Policy
    from lg_streaming.gateway.session.subscriptions import ClientStats
    from lg_streaming.hub import StreamHub
    from lg_streaming.runs import RemoteRunner
    from lg_streaming.settings import StreamingSettings

__all__ = ["Clock", "GatewayContext"]


class _Client(Protocol):
    """A session, as the gateway lists it."""

    @property
    def subscriptions(self) -> Mapping[str, object]:
        """Subscriptions, by execution."""
        ...

    def stats(self) -> ClientStats:
        """Return the client's row."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Sources of time.

    Args:
        wall: Seconds since 1970.
        monotonic: Seconds.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic


@dataclass(slots=True, kw_only=True, weakref_slot=True)
class GatewayContext:
    """Hub, settings, rules and counters of one gateway.

    Args:
        hub: The hub that has the executions.
        settings: All settings.
        policy: Rules of access.
        remote_runner: Starts graphs for callers; None if no graph can be started.
        clock: Sources of time.
        events: Receiver of gateway events.
    """

    hub: StreamHub
    settings: StreamingSettings
    policy: Policy
    remote_runner: RemoteRunner | None = None
    clock: Clock = field(default_factory=Clock)
    events: GatewayEvents = field(default_factory=GatewayEvents)
    metrics: GatewayMetrics = field(default_factory=lambda: GatewayMetrics(MESSAGES_IN))
    admission: Admission = field(init=False)
    lifecycle: Lifecycle = field(init=False)
    processes: SeveralProcesses = field(init=False)
    wildcards: WildcardNotifier = field(init=False)
    sessions: dict[str, _Client] = field(default_factory=dict[str, _Client], init=False)
    """Sessions of all transports, by connection id."""
    rooms: Rooms = field(default_factory=Rooms, init=False)
    replica_id: str = field(default_factory=lambda: secrets.token_hex(8), init=False)
    """Random id of this process."""

    def __post_init__(self) -> None:
        self.admission = Admission(self.settings.limits, self.clock.monotonic, self.hub.log.fleet)
        self.processes = SeveralProcesses(self.hub.log)
        self.lifecycle = Lifecycle(self.policy, self.processes)
        self.lifecycle.on_start.append(self.admission.reset_rates)
        self.wildcards = WildcardNotifier(self.hub.log)
        self.events.add_listener(self.metrics.record)
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the clients of the parent process, which stay connected to it."""
        bury(self.sessions, self.rooms)
        self.sessions, self.rooms, self.replica_id = {}, Rooms(), secrets.token_hex(8)
        self.admission.reset_counts()
