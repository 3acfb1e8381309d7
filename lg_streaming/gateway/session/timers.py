"""Timers of one connection: heartbeats, and the expiry of its token."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import LogUnavailableError, StreamingError, TokenExpiredError, UnauthorizedError

if TYPE_CHECKING:
    from lg_streaming.gateway.session.session import Session

__all__ = ["Schedule", "SessionTimers", "TimerEvent", "Timers"]

logger: logging.Logger = logging.getLogger(__name__)

_EXPIRY_WARNING: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimerEvent:
    """The actions that are due."""

    heartbeat: bool = False
    warning: float | None = None
    """Seconds until the token expires, where the client has to be warned."""
    pause: bool = False
    """The token has expired: nothing is delivered until a fresh one arrives."""
    close: StreamingError | None = None
    """The connection has to close."""
    renewed: bool = False
    """The login has another expiry now: delivery goes on."""


class Schedule:
    """Times of heartbeats and of a token's expiry, without timers.

    Args:
        clock: Seconds, monotonic.
        heartbeat_interval: Seconds between heartbeats; None for no heartbeats.
        expiry_grace: Seconds between the expiry of the token and the close, for a fresh token to arrive.
    """

    __slots__ = ("_beat_at", "_clock", "_expiry_grace", "_heartbeat_interval", "_paused", "_warned")

    def __init__(self, clock: Callable[[], float], heartbeat_interval: float | None, expiry_grace: float) -> None:
        self._clock = clock
        self._heartbeat_interval = heartbeat_interval if heartbeat_interval is not None else math.inf
        self._expiry_grace = expiry_grace
        self._beat_at = clock() + self._heartbeat_interval
        self.renew()

    def renew(self) -> None:
        """Start again for a fresh token."""
        self._warned = self._paused = False

    def next_due(self, expires_in: float | None) -> float:
        """Return the seconds until an action is due; infinite if none ever is.

        Args:
            expires_in: Seconds until the token expires; None for a token without expiry.
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
        """Return the actions that are due now, each once."""
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


class Timers:
    """Timers of the event loop, by name."""

    __slots__ = ("_handles",)

    def __init__(self) -> None:
        self._handles: dict[str, asyncio.TimerHandle] = {}

    def set(self, name: str, delay: float, callback: Callable[[], object]) -> None:
        """Call `callback` after `delay` seconds, in place of a timer of that name."""
        self.cancel(name)
        self._handles[name] = asyncio.get_running_loop().call_later(max(0.0, delay), callback)

    def cancel(self, name: str) -> None:
        """Cancel a timer. No effect without one."""
        handle = self._handles.pop(name, None)
        if handle is not None:
            handle.cancel()

    def cancel_all(self) -> None:
        """Cancel all timers."""
        for name in list(self._handles):
            self.cancel(name)


class SessionTimers(Timers):
    """Timers of a session, in addition to those that its owner sets by name.

    Before each heartbeat the session checks its token again; one that was revoked is a reason to close.

    Args:
        session: The session.
        on_due: Called with a warning, a pause, a close or a renewed login.
        heartbeat: Sends a heartbeat; runs in a task.
        expiry_grace: Seconds between the expiry of the token and the close, for a fresh token to arrive.
    """

    __slots__ = ("_heartbeat", "_on_due", "_schedule", "_session", "_task")

    def __init__(
        self,
        session: Session,
        on_due: Callable[[TimerEvent], None],
        heartbeat: Callable[[], Awaitable[None]],
        *,
        expiry_grace: float = 0.0,
    ) -> None:
        super().__init__()
        self._session = session
        self._on_due = on_due
        self._heartbeat = heartbeat
        self._schedule = Schedule(session.context.clock.monotonic, session.heartbeat_interval, expiry_grace)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Wait for the next action."""
        due = self._schedule.next_due(self._session.expires_in)
        if math.isfinite(due):
            self.set("due", due, self._advance)

    def renew(self) -> None:
        """Start again for a fresh token."""
        self._schedule.renew()
        self.start()

    async def close(self) -> None:
        """Cancel all timers and the heartbeat; return when it has ended."""
        self.cancel_all()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _advance(self) -> None:
        event = self._schedule.advance(self._session.expires_in)
        if event.warning is not None or event.pause:
            self._on_due(event)
        if event.close is not None:
            return
        if event.heartbeat and self._task is None:
            self._task = asyncio.create_task(self._beat())
        self.start()

    async def _beat(self) -> None:
        try:
            if await self._session.recheck_token():
                self._on_due(TimerEvent(renewed=True))
                self.renew()
            await self._heartbeat()
        except UnauthorizedError as error:
            self._on_due(TimerEvent(close=error))
        except LogUnavailableError as error:
            logger.debug("no heartbeat: %s", error)
        except Exception:
            logger.exception("a heartbeat of connection %s failed", self._session.connection_id)
        finally:
            self._task = None
