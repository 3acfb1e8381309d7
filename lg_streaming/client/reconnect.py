"""State of a connection that is replaced when it is lost: when to connect, wait and fail. Without I/O."""

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
"""Errors that only a fresh token or another position can resolve."""
_MAX_RETRY_HINT: Final = 3_600.0
"""Longest pause that a server may ask for, in seconds; one wrong number must not stop a client for good."""


def retry_delay(config: ClientConfig, attempt: int, random: Callable[[], float], hint: float | None) -> float:
    """Return the seconds until the next attempt.

    The first attempt takes the pause that the server asks for; later attempts take the longer of that and the backoff.

    Args:
        config: Options of the client.
        attempt: Number of failed attempts.
        random: Returns a number from 0 (included) to 1 (excluded).
        hint: Seconds that the server asks for, if it does.
    """
    backoff = config.backoff.seconds(attempt, random)
    if hint is None:
        return backoff
    hint = min(max(0.0, hint), _MAX_RETRY_HINT)
    return hint if attempt == 0 else max(hint, backoff)


class Reconnect:
    """The state of one connection that is replaced when it is lost.

    The owner of the connection calls `on_connecting` before an attempt, and `on_connected` when the server accepts it.
    Each update and heartbeat calls `on_healthy`. When the connection ends, `on_failure` returns the pause or raises.

    Guarantees: the pause between two failed attempts is at least that of the backoff. Only a healthy connection resets
    the count of attempts, so that clients do not storm a server that accepts and drops connections.

    Args:
        config: Returns the current options.
        tokens: Source of tokens. A refused token is replaced once.
        notify: Called with every event.
        random: Returns a number from 0 (included) to 1 (excluded).
        execution_id: Execution of the connection; None where one connection carries all executions.
        outage: Logs failing connections; shared by the connections of one client.
        clock: Returns seconds; monotonic.
    """

    def __init__(
        self,
        config: Callable[[], ClientConfig],
        tokens: TokenSource,
        *,
        notify: Callable[[ClientEvent], None],
        random: Callable[[], float],
        execution_id: str | None = None,
        outage: Outage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._outage = outage if outage is not None else Outage()
        self._clock = clock
        self._failing_since: float | None = None  # begin of the first attempt after the last healthy connection
        self._config = config
        self._tokens = tokens
        self._notify = notify
        self._random = random
        self._execution_id = execution_id
        self._state: ClientState = "disconnected"
        self._retry_hint: float | None = None
        self._has_refreshed = False
        self.attempts: int = 0
        """Failed attempts since the last healthy connection."""
        self.connections: int = 0
        """Number of connections that the server has accepted."""

    @property
    def state(self) -> ClientState:
        """The present state."""
        return self._state

    def on_connecting(self) -> None:
        """Begin an attempt."""
        if self._state in {"disconnected", "failed"}:
            self.attempts, self._retry_hint, self._has_refreshed, self._failing_since = 0, None, False, None
            self._set_state("connecting")
        elif self._state != "reconnecting":
            raise RuntimeError(f"a connection that is {self._state} is not begun")
        if self._failing_since is None:
            self._failing_since = self._clock()
        self._notify(Connecting(execution_id=self._execution_id, attempt=self.attempts))

    def on_connected(self, connection_id: str | None = None) -> None:
        """Note that the server has accepted the connection, which it may still drop at once."""
        if self._state not in _TRYING:
            raise RuntimeError(f"a connection that is {self._state} is not opened")
        self.connections += 1
        self._set_state("connected")
        self._notify(Connected(execution_id=self._execution_id, connection_id=connection_id))

    def on_healthy(self) -> None:
        """Reset the count of attempts: an update or a heartbeat has arrived."""
        if self._state == "connected":
            self.attempts = 0
            self._has_refreshed = False
            self._failing_since = None
            self._outage.end(self, self._config())

    def set_retry_hint(self, seconds: float) -> None:
        """Keep the pause that the server asks for when this connection ends."""
        self._retry_hint = seconds

    def on_failure(self, failure: InterruptedStreamError) -> float:
        """Note that the connection has ended, or that the attempt has failed.

        Returns:
            Seconds until the next attempt.

        Raises:
            StreamingError: If no attempt follows: the failure is permanent, or the limit of attempts or time is
                reached, or `auto_reconnect` is off.
        """
        if self._state not in _TRYING and self._state != "connected":
            raise RuntimeError(f"a connection that is {self._state} does not end")
        error, config = failure.error, self._config()
        self._notify(ClientErrorEvent(execution_id=self._execution_id, error=error))
        # A second refusal is not due to the age of the token.
        refreshes = not self._has_refreshed and self._tokens.can_refresh(error)
        self._has_refreshed |= refreshes
        if not refreshes and (not failure.retryable or isinstance(error, _PERMANENT_ERRORS)):
            self._finish("failed", error)
            raise error
        if not config.auto_reconnect:
            self._finish("disconnected", error)
            raise error
        remaining = self._remaining_time(config)
        limit = config.max_reconnect_attempts
        if (limit and self.attempts >= limit) or remaining <= 0:
            limit_error = self._limit_error(config, error)
            self._finish("failed", limit_error)
            raise limit_error from error
        delay = 0.0 if refreshes else min(self._retry_delay(config, error), remaining)
        if self._state in _TRYING and not refreshes:
            self._outage.begin(self, config, error, delay)
        self._schedule_retry(delay, error)
        return delay

    def _remaining_time(self, config: ClientConfig) -> float:
        """Return the seconds until the last attempt."""
        if config.give_up_after is None:
            return math.inf
        if self._failing_since is None:
            self._failing_since = self._clock()
        return self._failing_since + config.give_up_after - self._clock()

    def _limit_error(self, config: ClientConfig, error: StreamingError) -> StreamingError:
        seconds = 0.0 if self._failing_since is None else self._clock() - self._failing_since
        attempts = self.attempts + 1
        return type(error)(
            f"no connection to {config.address} after {attempts} {'attempt' if attempts == 1 else 'attempts'}"
            f" in {seconds:.1f} s: {error.message}",
            execution_id=error.execution_id,
            retry_after=error.retry_after,
            details=error.details,
        )

    def on_closed(self) -> None:
        """Note that the client has closed the connection. Idempotent, and allowed after a failure."""
        if self._state not in {"disconnected", "failed"}:
            self._finish("disconnected", None)

    def _retry_delay(self, config: ClientConfig, error: StreamingError) -> float:
        hint = error.retry_after if error.retry_after is not None else self._retry_hint
        return retry_delay(config, self.attempts, self._random, hint)

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
