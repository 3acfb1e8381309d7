"""Log the outages of a client: one line when they begin, one when they end."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lg_streaming.client.config import ClientConfig
    from lg_streaming.errors import StreamingError

__all__ = ["Outage"]

logger: Final = logging.getLogger("lg_streaming.client")


class Outage:
    """The connections of one client that cannot be made at the moment.

    Guarantees: one WARNING when the first of them fails, however often and for how many subscriptions it is tried
    again; one INFO when the last of them is good again.
    """

    def __init__(self) -> None:
        self._failing: set[object] = set()

    def begin(self, connection: object, config: ClientConfig, error: StreamingError, delay: float) -> None:
        """A connection could not be made, and is tried again in `delay` seconds."""
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
        """A connection is good again."""
        if connection in self._failing:
            self._failing.discard(connection)
            if not self._failing:
                logger.info("connected to %s again", config.address)

    def discard(self, connection: object) -> None:
        """A connection is not tried any more."""
        self._failing.discard(connection)


def _describe_limits(config: ClientConfig) -> str:
    limits: list[str] = []
    if config.max_reconnect_attempts:
        limits.append(f"at most {config.max_reconnect_attempts} times")
    if config.give_up_after is not None:
        limits.append(f"for {config.give_up_after:g} s")
    return " and ".join(limits) or "without end (set max_reconnect_attempts or give_up_after to change that)"
