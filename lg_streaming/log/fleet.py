"""Protocol of a fleet: the processes that share a log, and the requests and values that they exchange."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol

__all__ = ["RUN_RELEASED", "CountLimit", "Fleet", "MessageHandler", "ProcessInfo", "RateLimit", "RequestHandler"]

RUN_RELEASED: Final = "run_released"
"""Topic of the messages ``{execution_id}`` about a run that is open without a process: see `EventLog.take_over`.

Unlike other messages they reach the process that sends them, too."""

RequestHandler = Callable[[Any], Awaitable[object]]
"""``await handler(payload)`` returns the answer. Payloads and answers are JSON values."""

MessageHandler = Callable[[Any], None]
"""``handler(payload)``, called on the fleet's thread: it must be quick and must not block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessInfo:
    """A process of the fleet, at one moment."""

    process_id: str
    host: str
    pid: int
    version: str
    """Version of this library."""
    started_at: float
    """Seconds since 1970."""
    seen_at: float
    """Last renewal of the process's lease, in seconds since 1970 by the clock of Redis."""
    report: Mapping[str, Any]
    """The newest report of the process: see `Fleet.set_report`."""


class RateLimit(NamedTuple):
    """Limit of the hits of a key over all processes, in a sliding window."""

    kind: str
    key: str
    amount: int
    """Most hits in a window."""
    seconds: float
    """Length of the window."""
    hits: bool = True
    """False for a check that counts nothing."""


class CountLimit(NamedTuple):
    """Limit of a counter: the sum of the shares of the live processes."""

    kind: str
    key: str
    most: int


class Fleet(Protocol):
    """Processes that share a log. All methods are thread-safe; coroutines may run on any event loop.

    Each process holds a lease, which it renews. A process whose lease has expired is dead for the others: they end the
    runs that it held as abandoned, and take over its claims.
    """

    @property
    def process_id(self) -> str:
        """Id of this process, unique in the fleet.

        A forked child has another, and so has a process that the others declared dead, as after a long pause.
        """
        ...

    def on_lease_lost(self, handler: Callable[[str], None]) -> Callable[[], None]:
        """Call ``handler(old_process_id)`` if another process declared this one dead, as after a long pause.

        The runs of the old id have ended or will, and `process_id` is a new one. Called on the fleet's thread. Return a
        function that stops that.
        """
        ...

    # --- requests to one process ----------------------------------------------------------------------------

    def on_request(self, name: str, handler: RequestHandler) -> None:
        """Answer requests called ``name`` with ``await handler(payload)``, on the fleet's event loop.

        An exception that is a `StreamingError` reaches the caller with its code and message.
        """
        ...

    async def request(self, process_id: str, name: str, payload: object, *, timeout: float | None = None) -> Any:  # noqa: ASYNC109 (sent along)
        """Send a request to a process, and return its answer. The process carries it out at most once.

        Args:
            process_id: The process; this process too.
            name: Name of the request, as in `on_request`.
            payload: A JSON value.
            timeout: Seconds; None for the default of 5. A process that receives the request later discards it.

        Raises:
            StreamingError: If the handler raised it there.
            NoAnswerError: If the process is gone, or did not answer in time. ``details`` contain the known facts.
            LogUnavailableError: If the log cannot be reached.
        """
        ...

    # --- messages to all processes --------------------------------------------------------------------------

    def publish(self, topic: str, payload: object) -> None:
        """Send a message to all other processes. Returns at once; a process that is disconnected misses it."""
        ...

    def on_message(self, topic: str, handler: MessageHandler) -> Callable[[], None]:
        """Call ``handler(payload)`` for each message of a topic; return a function that stops that."""
        ...

    # --- work for the parts above ---------------------------------------------------------------------------

    def spawn(self, job: Callable[[], Awaitable[object]]) -> None:
        """Run ``await job()`` as a task of the fleet's event loop. Returns at once; an exception is logged."""
        ...

    # --- claims ---------------------------------------------------------------------------------------------

    async def claim(self, name: str) -> bool:
        """Claim a name for this process; return whether this process holds it now. Renewed with the lease.

        A claim of a dead process can be taken. Raises LogUnavailableError.
        """
        ...

    def release(self, name: str) -> None:
        """Release a claim. Returns at once; harmless without one."""
        ...

    def on_claim_lost(self, handler: Callable[[str], None]) -> Callable[[], None]:
        """Call ``handler(name)`` if another process has taken a claim of this process, as after a long pause."""
        ...

    # --- shared values --------------------------------------------------------------------------------------

    async def put(self, kind: str, key: str, value: object, *, ttl: float) -> None:
        """Store a JSON value for ``ttl`` seconds. Raises LogUnavailableError, like the methods below."""
        ...

    async def get(self, kind: str, key: str) -> Any:
        """Return a value, or None."""
        ...

    async def take(self, kind: str, key: str) -> Any:
        """Return a value, or None, and remove it: of several callers one gets it."""
        ...

    async def values(self, kind: str) -> Mapping[str, Any]:
        """Return all values of a kind by key."""
        ...

    # --- limits ---------------------------------------------------------------------------------------------

    async def count(self, kind: str, key: str, change: int) -> int:
        """Add to this process's share of a counter; return the sum over the live processes.

        The change counts also after a cancellation or an error. Raises LogUnavailableError.
        """
        ...

    async def admit(
        self, rates: Sequence[RateLimit], counts: Sequence[CountLimit] = ()
    ) -> RateLimit | CountLimit | None:
        """Count a hit of each rate and one more in each counter, in one request.

        A rate that refuses leaves all rates as they are. The counters count the caller in any case, also after a
        refusal, a cancellation or an error, until `discount`.

        Returns:
            The first limit that refuses the caller, rates first; None if it is admitted.

        Raises:
            LogUnavailableError: If the log cannot be reached.
        """
        ...

    def discount(self, counts: Sequence[CountLimit]) -> None:
        """Count a caller of `admit` no longer. Returns at once; without the log, the others see it later."""
        ...

    # --- the processes --------------------------------------------------------------------------------------

    def set_report(self, report: Callable[[], Mapping[str, Any]]) -> None:
        """Publish ``report()``, a JSON object, with each renewal of the lease."""
        ...

    async def processes(self) -> Sequence[ProcessInfo]:
        """Return the live processes, oldest first."""
        ...

    @property
    def live(self) -> frozenset[str]:
        """Ids of the live processes at the last renewal of the lease, without a request."""
        ...
