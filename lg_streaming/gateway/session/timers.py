"""What has to be done as time passes: heartbeats, and what the end of a token means. Without timers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import TokenExpiredError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.errors import StreamingError

__all__ = ["SessionTimers", "TimerEvent"]

_EXPIRY_WARNING: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerEvent:
    """What has to be done now."""

    heartbeat: bool = False
    warning: float | None = None
    """The client is told that its token expires in so many seconds."""
    pause: bool = False
    """The token has expired: nothing is delivered until there is a fresh one."""
    close: StreamingError | None = None
    """The connection ends."""


class SessionTimers:
    """The clockwork of one connection.

    Args:
        clock: Seconds, monotonic.
        heartbeat_interval: Seconds between heartbeats; None: there are none.
        expiry_grace: Seconds between the end of the token and that of the connection, for a fresh one to come.
    """

    __slots__ = ("_beat_at", "_clock", "_expiry_grace", "_heartbeat_interval", "_paused", "_warned")

    def __init__(self, clock: Callable[[], float], heartbeat_interval: float | None, expiry_grace: float) -> None:
        self._clock = clock
        self._heartbeat_interval = heartbeat_interval if heartbeat_interval is not None else math.inf
        self._expiry_grace = expiry_grace
        self._beat_at = clock() + self._heartbeat_interval
        self.renew()

    def renew(self) -> None:
        """There is a fresh token."""
        self._warned = self._paused = False

    def next_due(self, expires_in: float | None) -> float:
        """Seconds until `advance` has something to say; infinite where it never has.

        Args:
            expires_in: Seconds until the token has expired; None: it never does.
        """
        until = self._beat_at - self._clock()
        if expires_in is not None:
            if self._paused:
                expires_in += self._expiry_grace
            elif not self._warned:
                expires_in -= _EXPIRY_WARNING
            until = min(until, expires_in)
        return max(0.0, until)

    def advance(self, expires_in: float | None) -> TimerEvent:
        """What has to be done now, as time has passed."""
        now = self._clock()
        beats = now >= self._beat_at
        if beats:
            self._beat_at = now + self._heartbeat_interval
        if expires_in is None or expires_in > _EXPIRY_WARNING:
            return TimerEvent(heartbeat=beats)
        if expires_in <= -self._expiry_grace:
            return TimerEvent(pause=True, close=TokenExpiredError())
        warns, pauses = not self._warned and expires_in > 0, not self._paused and expires_in <= 0
        self._warned = True
        self._paused = self._paused or pauses
        return TimerEvent(heartbeat=beats, warning=round(expires_in, 3) if warns else None, pause=pauses)
