"""Counters of connections, and rates of connections, logins and requests, by caller."""

from __future__ import annotations

import ipaddress
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import (
    ConnectRateError,
    MessageRateError,
    ServerFullError,
    StartRateError,
    TooManyConnectionsError,
)
from lg_streaming.frequency import Frequency
from lg_streaming.token_bucket import TokenBucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.settings import LimitSettings

__all__ = ["ConnectionCounter", "Lease", "RateLimiter", "Requests", "StartRates", "Windows", "address_key"]

_MAX_BUCKETS: Final = 10_000
_MAX_KEYS: Final = 50_000
_SHARED_COUNTERS: Final = 4_096
_IPV6_SITE_BITS: Final = 64


def address_key(address: str | None) -> str:
    """Return the key of an address: of IPv6 the /64 network, which one caller usually has."""
    if not address or ":" not in address:
        return address or ""  # IPv4, of which there is one spelling
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is None:
        return str(ipaddress.ip_network((int(parsed), _IPV6_SITE_BITS), strict=False))
    return str(parsed.ipv4_mapped or parsed) if isinstance(parsed, ipaddress.IPv6Address) else str(parsed)


@dataclass(slots=True, eq=False)
class Lease:
    """A counted connection, until its release."""

    counter: ConnectionCounter
    address: str
    subject: str | None = None
    released: bool = False

    def set_subject(self, subject: str) -> None:
        """Count the connection for `subject`, after its login.

        Raises:
            TooManyConnectionsError: If the subject has as many connections as it may.
        """
        if not self.released and self.subject is None:
            self.counter.claim_subject(subject)
            self.subject = subject

    def release(self) -> None:
        """Stop counting the connection. Harmless when repeated."""
        if not self.released:
            self.released = True
            self.counter.forget(self)


@dataclass(slots=True)
class ConnectionCounter:
    """Counter of the open connections, over all transports of a gateway. None means no limit.

    Args:
        limit: The maximum of this process.
        per_subject: The maximum with tokens of the same subject.
        per_address: The maximum from the same address (of IPv6 the same /64 network).
    """

    limit: int | None
    per_subject: int | None = None
    per_address: int | None = None
    connections: int = 0
    _addresses: Counter[str] = field(default_factory=Counter[str], init=False)
    _subjects: Counter[str] = field(default_factory=Counter[str], init=False)

    def enter(self, address: str | None = None, subject: str | None = None) -> Lease:
        """Count a connection until its lease is released.

        Raises:
            TooManyConnectionsError: If a limit is reached.
        """
        if self.limit is not None and self.connections >= self.limit:
            raise ServerFullError(retry_after=1.0)
        key = address_key(address)
        if self.per_address is not None and self._addresses[key] >= self.per_address:
            raise TooManyConnectionsError(
                f"an address may have {self.per_address} connections: close some first", retry_after=1.0
            )
        lease = Lease(self, key)
        if subject is not None:
            lease.set_subject(subject)
        self.connections += 1
        self._addresses[key] += 1
        return lease

    def claim_subject(self, subject: str) -> None:
        """See `Lease.set_subject`."""
        if self.per_subject is not None and self._subjects[subject] >= self.per_subject:
            raise TooManyConnectionsError(
                f"a subject may have {self.per_subject} connections: close some first", retry_after=1.0
            )
        self._subjects[subject] += 1

    def forget(self, lease: Lease) -> None:
        """See `Lease.release`."""
        self.connections -= 1
        self._addresses[lease.address] -= 1
        self._drop_zero(self._addresses, lease.address)
        if lease.subject is not None:
            self._subjects[lease.subject] -= 1
            self._drop_zero(self._subjects, lease.subject)

    @staticmethod
    def _drop_zero(counts: Counter[str], key: str) -> None:
        if not counts[key]:
            del counts[key]


class Windows:
    """Sliding-window rate limit for many keys, in constant time and bounded memory.

    Two generations of counts are kept: the present window and the previous one. The previous one counts in proportion
    to its overlap with the sliding window. A generation is dropped as a whole, so no operation iterates over the keys.
    Keys beyond `most` share counters: the limit then is too strict, never too lax.

    Args:
        allowed: The number of hits, and the length of the window.
        clock: Seconds, monotonic.
        most: The maximum number of keys with separate counters, in each generation.
    """

    __slots__ = ("_before", "_clock", "_counts", "_most", "_window", "allowed")

    def __init__(self, allowed: Frequency, clock: Callable[[], float], *, most: int = _MAX_KEYS) -> None:
        self.allowed: Frequency = allowed
        self._clock = clock
        self._most = most
        self._window = int(clock() // allowed.seconds)
        self._counts: dict[str | int, int] = {}
        self._before: dict[str | int, int] = {}

    def __len__(self) -> int:
        return len(self._counts) + len(self._before)

    def hit(self, key: str) -> bool:
        """Count a hit of `key` and return True; at the limit, count nothing and return False."""
        allowed = self.allows(key)
        if allowed:
            own = self._own(self._counts, key)
            self._counts[own] = self._counts.get(own, 0) + 1
        return allowed

    def allows(self, key: str) -> bool:
        """Return whether `key` has a hit left. Counts nothing."""
        elapsed = self._turn()
        count = self._counts.get(self._own(self._counts, key), 0)
        before = self._before.get(self._own(self._before, key), 0)
        return count + before * (1 - elapsed / self.allowed.seconds) + 1 <= self.allowed.amount

    def _own(self, counts: dict[str | int, int], key: str) -> str | int:
        """Return the counter of a key. Shared counters differ between processes, so a caller cannot choose one."""
        return key if key in counts or len(counts) < self._most else hash(key) % _SHARED_COUNTERS

    def _turn(self) -> float:
        """Begin a new window if the present one has ended; return the seconds since the present one began."""
        now = self._clock()
        window = int(now // self.allowed.seconds)
        if window != self._window:
            self._before = self._counts if window == self._window + 1 else {}
            self._counts, self._window = {}, window
        return now - window * self.allowed.seconds


class RateLimiter:
    """Rates of connections and of failed logins of each address, see `limits.connects_per_address`."""

    def __init__(
        self, connects: str | None, failed_logins: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._connects = Windows(Frequency.parse(connects), clock) if connects is not None else None
        self._failures = Windows(Frequency.parse(failed_logins), clock) if failed_logins is not None else None

    def connect(self, address: str | None) -> None:
        """Count a connection from `address`.

        Raises:
            ConnectRateError: If the address connects, or failed to log in, too often.
        """
        self.check_logins(address)
        windows = self._connects
        if windows is not None and not windows.hit(address_key(address)):
            raise ConnectRateError(
                f"too many connections: {windows.allowed} are allowed", retry_after=windows.allowed.seconds
            )

    def check_logins(self, address: str | None) -> None:
        """Check that `address` may still try to log in. Counts nothing.

        Raises:
            ConnectRateError: If the address failed too often.
        """
        windows = self._failures
        if windows is not None and not windows.allows(address_key(address)):
            raise ConnectRateError(
                f"too many failed logins: {windows.allowed} are allowed", retry_after=windows.allowed.seconds
            )

    def login_failed(self, address: str | None) -> None:
        """Count a failed login from `address`."""
        if self._failures is not None:
            self._failures.hit(address_key(address))


class StartRates:
    """Rate of each caller's starts of runs: `limits.starts_per_subject`."""

    def __init__(self, starts: str | None, clock: Callable[[], float]) -> None:
        self._windows = Windows(Frequency.parse(starts), clock) if starts is not None else None

    def hit(self, caller: str) -> None:
        """Count a start of `caller`.

        Raises:
            StartRateError: If the caller starts too many runs.
        """
        windows = self._windows
        if windows is not None and not windows.hit(caller):
            raise StartRateError(f"too many starts: {windows.allowed} are allowed", retry_after=windows.allowed.seconds)


class Requests:
    """Rate of each caller's single requests: `limits.messages_per_second` and `message_burst` for each."""

    def __init__(self, limits: LimitSettings, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def acquire(self, caller: str) -> None:
        """Count one request of `caller`.

        Raises:
            MessageRateError: If the caller's requests arrive too fast.
        """
        rate = self._limits.messages_per_second
        if rate is None:
            return
        now = self._clock()
        bucket = self._buckets.pop(caller, None) or TokenBucket(rate, self._limits.message_burst, now)
        self._buckets[caller] = bucket
        while len(self._buckets) > _MAX_BUCKETS:
            self._buckets.popitem(last=False)
        if not bucket.take(now):
            raise MessageRateError(f"at most {rate:g} requests a second: slow down", retry_after=bucket.seconds_until())
