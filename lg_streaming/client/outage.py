"""Log the outages of a client: one line at the beginning, one at the end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lg_streaming.client.config import ClientConfig
    from lg_streaming.errors import StreamingError

__all__ = ["Outage"]

logger: Final = logging.getLogger("lg_streaming.client")


class Outage:
    """The failing connections of one client.

    Guarantees: one WARNING when the first connection fails, for any number of attempts and subscriptions. One INFO when
    the last failing connection is healthy again.
    """

    def __init__(self) -> None:
        self._failing: set[object] = set()

    def begin(self, connection: object, config: ClientConfig, error: StreamingError, delay: float) -> None:
        """Note a failed attempt, which is repeated in `delay` seconds."""
        if not self._failing:
            logger.warning(
                "cannot connect to %s: %s; trying again in %.1f s, then after up to %g s each time, %s",
                config.address,
                error.message,
                delay,
                config.max_reconnect_delay,
                _describe_limits(config),
            )
        self._failing.add(connection)

    def end(self, connection: object, config: ClientConfig) -> None:
        """Note that a connection is healthy again."""
        if connection in self._failing:
            self._failing.discard(connection)
            if not self._failing:
                logger.info("connected to %s again", config.address)

    def discard(self, connection: object) -> None:
        """Remove a connection that is not attempted any more."""
        self._failing.discard(connection)


def _describe_limits(config: ClientConfig) -> str:
    limits: list[str] = []
    if config.max_reconnect_attempts:
        limits.append(f"at most {config.max_reconnect_attempts} times")
    if config.give_up_after is not None:
        limits.append(f"for {config.give_up_after:g} s")
    return " and ".join(limits) or "without end (set max_reconnect_attempts or give_up_after to change that)"
