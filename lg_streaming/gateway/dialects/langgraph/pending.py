"""Streams of runs that wait for their turn, which end when such a run is cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lg_streaming.gateway.session.lifecycle import Lifecycle
    from lg_streaming.gateway.session.subscriptions import ActiveSubscription
    from lg_streaming.hub import Subscription
    from lg_streaming.log.fleet import Fleet

__all__ = ["PendingRuns"]

_TOPIC = "langgraph_pending_run_cancelled"


class PendingRuns:
    """Open streams by run. A run that is cancelled before its turn has no update in the log that would end them.

    Args:
        fleet: The processes that share the log, whose streams end too; None without any.
        lifecycle: The event loop of the streams.
    """

    def __init__(self, fleet: Fleet | None, lifecycle: Lifecycle) -> None:
        self._fleet = fleet
        self._lifecycle = lifecycle
        self._runs: dict[str, list[Subscription]] = {}
        if fleet is not None:
            fleet.on_message(_TOPIC, self._on_cancelled)

    def add(self, run_id: str, subscription: ActiveSubscription) -> None:
        """Note a stream of a run that waits."""
        open_ones = {name: [each for each in found if not each.closed] for name, found in self._runs.items()}
        self._runs = {name: found for name, found in open_ones.items() if found}
        self._runs.setdefault(run_id, []).append(subscription.source)

    def close(self, run_id: str) -> None:
        """End the streams of a run, in all processes."""
        self._close_here(run_id)
        if self._fleet is not None:
            self._fleet.publish(_TOPIC, run_id)

    def _on_cancelled(self, run_id: Any) -> None:
        loop = self._lifecycle.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._close_here, run_id)

    def _close_here(self, run_id: str) -> None:
        for each in self._runs.pop(run_id, ()):
            each.close()
