"""When to connect, when to wait and for how long, when to give up: one connection's life, without I/O or clock.

Whoever holds the connection says what happened, and does what the answer says:

    machine.begin()           a try begins
    machine.opened()          the server has let us in
    machine.proved()          something came over it: tries are counted anew
    machine.over(failure)     it ended, or could not be made: try again in so many seconds, or raise
    machine.left()            we do not want it any more
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from lg_streaming.client.events import (
    ClientErrorEvent,
    ClientEvent,
    ClientState,
    Connected,
    Connecting,
    Disconnected,
    Reconnecting,
    StateChanged,
)
from lg_streaming.client.outage import Outage
from lg_streaming.errors import GapError, UnauthorizedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.client.config import ClientConfig, TokenSource
    from lg_streaming.client.failures import InterruptedStreamError
    from lg_streaming.errors import StreamingError

__all__ = ["Reconnect", "retry_delay"]

_TRYING: Final = frozenset({"connecting", "reconnecting"})
_PERMANENT_ERRORS: Final = (UnauthorizedError, GapError)
"""What only a fresh token, or another place to begin at, can mend."""


_MAX_RETRY_HINT: Final = 3_600.0
"""Seconds that a server may ask for: nobody is sent away for good by one wrong number."""


def retry_delay(config: ClientConfig, attempt: int, random: Callable[[], float], wish: float | None) -> float:
    """Seconds until the next try, after `attempt` others that failed and with what the server asks for."""
    own = config.backoff.seconds(attempt, random)
    if wish is None:
        return own
    wish = min(max(0.0, wish), _MAX_RETRY_HINT)
    # The first time the server's wish counts; then it has to do better than a wish that did not help.
    return wish if attempt == 0 else max(wish, own)


class Reconnect:
    """The state of one connection that is made again when it is lost.

    Guarantees: between two tries that fail it waits as the backoff says, or longer where the server asked for it; only
    a connection that has proved good starts the count of tries anew, so a server that lets in and drops is not stormed.

    Args:
        config: The backoff, how many tries there are, and whether there is more than one; looked at anew each time.
        tokens: Knows whether a fresh token may help where one was refused.
        tell: Hears every event.
        random: Gives a number from 0 (included) to 1 (excluded).
        execution_id: The execution whose connection it is; None where one connection carries all.
        outage: Logs that connections cannot be made; shared by the connections of one client.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        config: Callable[[], ClientConfig],
        tokens: TokenSource,
        *,
        tell: Callable[[ClientEvent], None],
        random: Callable[[], float],
        execution_id: str | None = None,
        outage: Outage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outage = outage if outage is not None else Outage()
        self._clock = clock
        self._failing_since: float | None = None  # when the first try began after which no connection was good
        self._config = config
        self._tokens = tokens
        self._notify = tell
        self._random = random
        self._execution_id = execution_id
        self._state: ClientState = "disconnected"
        self._retry_hint: float | None = None
        self._has_refreshed = False
        self.attempts: int = 0
        """How many tries have failed since a connection last proved good."""
        self.connections: int = 0
        """How many connections were let in."""

    @property
    def state(self) -> ClientState:
        """Where it stands."""
        return self._state

    def on_connecting(self) -> None:
        """A connection is being made."""
        if self._state in {"disconnected", "failed"}:
            self.attempts, self._retry_hint, self._has_refreshed, self._failing_since = 0, None, False, None
            self._set_state("connecting")
        elif self._state != "reconnecting":
            raise RuntimeError(f"a connection that is {self._state} is not begun")
        if self._failing_since is None:
            self._failing_since = self._clock()
        self._notify(Connecting(execution_id=self._execution_id, attempt=self.attempts))

    def on_connected(self, connection_id: str | None = None) -> None:
        """The server has let us in. That alone proves nothing: it may drop us at once."""
        if self._state not in _TRYING:
            raise RuntimeError(f"a connection that is {self._state} is not opened")
        self.connections += 1
        self._set_state("connected")
        self._notify(Connected(execution_id=self._execution_id, connection_id=connection_id))

    def on_healthy(self) -> None:
        """An update or a heartbeat came: the connection is good."""
        if self._state == "connected":
            self.attempts = 0
            self._has_refreshed = False
            self._failing_since = None
            self._outage.end(self, self._config())

    def set_retry_hint(self, seconds: float) -> None:
        """The server says how long to wait when this connection ends."""
        self._retry_hint = seconds

    def on_failure(self, failure: InterruptedStreamError) -> float:
        """The connection is over, or could not be made.

        Returns:
            Seconds until the next try.

        Raises:
            StreamingError: The failure's own error, where trying again is of no use, not wanted, or was in vain often
                enough.
        """
        if self._state not in _TRYING and self._state != "connected":
            raise RuntimeError(f"a connection that is {self._state} does not end")
        error, config = failure.error, self._config()
        self._notify(ClientErrorEvent(execution_id=self._execution_id, error=error))
        # A fresh token is tried once; refused again, it is not the token's age that is wrong.
        mended = not self._has_refreshed and self._tokens.can_refresh(error)
        self._has_refreshed |= mended
        if not mended and (not failure.retryable or isinstance(error, _PERMANENT_ERRORS)):
            self._finish("failed", error)
            raise error
        if not config.auto_reconnect:
            self._finish("disconnected", error)
            raise error
        left = self._time_left(config)
        limit = config.max_reconnect_attempts
        if (limit and self.attempts >= limit) or left <= 0:
            gave_up = self._limit_error(config, error)
            self._finish("failed", gave_up)
            raise gave_up from error
        delay = 0.0 if mended else min(self._retry_delay(config, error), left)
        if self._state in _TRYING and not mended:
            self._outage.begin(self, config, error, delay)
        self._schedule_retry(delay, error)
        return delay

    def _time_left(self, config: ClientConfig) -> float:
        """Seconds until there is no other try."""
        if config.give_up_after is None:
            return math.inf
        if self._failing_since is None:
            self._failing_since = self._clock()
        return self._failing_since + config.give_up_after - self._clock()

    def _limit_error(self, config: ClientConfig, error: StreamingError) -> StreamingError:
        seconds = 0.0 if self._failing_since is None else self._clock() - self._failing_since
        tries = self.attempts + 1
        return type(error)(
            f"gave up on {config.address} after {tries} {'try' if tries == 1 else 'tries'} in {seconds:.1f} s:"
            f" {error.message}",
            execution_id=error.execution_id,
            retry_after=error.retry_after,
            details=error.details,
        )

    def on_closed(self) -> None:
        """We do not want it any more. Harmless when repeated, and where it failed before."""
        if self._state not in {"disconnected", "failed"}:
            self._finish("disconnected", None)

    def _retry_delay(self, config: ClientConfig, error: StreamingError) -> float:
        wish = error.retry_after if error.retry_after is not None else self._retry_hint
        return retry_delay(config, self.attempts, self._random, wish)

    def _schedule_retry(self, delay: float, error: StreamingError) -> None:
        self.attempts += 1
        self._retry_hint = None
        self._set_state("reconnecting")
        self._notify(
            Disconnected(
                execution_id=self._execution_id,
                will_reconnect=True,
                reconnect_delay=delay,
                attempt=self.attempts,
                error=error,
            )
        )
        self._notify(Reconnecting(execution_id=self._execution_id, attempt=self.attempts, delay=delay))

    def _finish(self, state: ClientState, error: StreamingError | None) -> None:
        self._retry_hint = self._failing_since = None
        self._outage.discard(self)
        self._set_state(state)
        self._notify(
            Disconnected(execution_id=self._execution_id, will_reconnect=False, attempt=self.attempts, error=error)
        )

    def _set_state(self, state: ClientState) -> None:
        previous, self._state = self._state, state
        if state != previous:
            self._notify(StateChanged(execution_id=self._execution_id, state=state, previous=previous))
