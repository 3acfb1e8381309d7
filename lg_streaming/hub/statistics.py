"""Counters and statistics of a hub."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, get_args

from lg_streaming.events import Kind
from lg_streaming.fork import new_lock
from lg_streaming.hub.drops import Drops
from lg_streaming.hub.histogram import Durations, Histogram

__all__ = ["Counters", "HubStatistics", "ReaderLag", "RunCounts", "zero_counts"]

PUBLISH_BOUNDS: Final = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, 0.1)
"""Seconds: from the usual time of a publish up to a time that users notice."""

APPEND_BOUNDS: Final = (2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2.5e-2, 0.1, 0.5, 2.5)
"""Seconds: from the usual time of a request on one machine up to a timeout."""

TIMED_EVERY: Final = 16


def zero_counts() -> dict[Kind, int]:
    """Return counts by kind, all 0."""
    return dict.fromkeys(get_args(Kind), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderLag:
    """The lag of readers: updates that the log has and they have not read."""

    readers: int
    """Subscriptions that were measured."""
    most: int
    """The largest lag; 0 without a reader."""
    total: int
    """The sum of the lags."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCounts:
    """Runs of a runner of graphs that have not ended."""

    queued: int = 0
    """Runs that wait for their turn, or for the end of an earlier run of their execution."""
    running: int = 0
    """Runs that work."""
    waiting: int = 0
    """Runs that wait for a human, or are paused."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatistics:
    """Counts since the hub was made, and present numbers."""

    executions: int
    """Executions that this process has written to and not forgotten."""
    running: int
    """Executions with an open run."""
    runs: RunCounts
    """Runs that `GraphRunner` has started."""
    subscriptions: int
    published: int
    """Updates appended to the log, or to its buffer."""
    published_by_kind: Mapping[Kind, int]
    """Published updates by kind. Counts by type would be unbounded."""
    delivered: int
    """Updates that readers took, summed over all readers of this process, without filtered ones."""
    publish_seconds: Durations
    """Durations of calls that publish; of every 16th call, to save the cost of the clock."""
    dropped: Mapping[str, int]
    """Updates that the log does not have, by every reason.

    ``late``: their run had ended. ``foreign_run``: the same, and another run was open. ``no_run``: no run was open, and
    their emitter opens none. ``over_rate``: ``at-most-once``, over ``limits.updates_per_second``. ``at_most_once``:
    dropped because the log was slow or unavailable. ``lost``: others that waited too long for an unavailable log.
    ``refused``: their run ended in another process, or the execution has another owner.
    ``too_large``: refused with an error. ``invalid``, ``limit``, ``closed``: refused where no error may be raised.
    """
    shortened: int
    """Updates over ``limits.update_bytes`` that were published shortened, or in several."""
    dropped_late: int
    """Updates dropped because their run had ended: ``late``, ``foreign_run`` and ``no_run`` together."""
    dropped_too_large: int
    """Updates over ``limits.update_bytes`` that were refused with an error."""
    dropped_over_rate: int
    """``at-most-once`` updates over ``limits.updates_per_second``."""
    dropped_at_most_once: int
    """``at-most-once`` updates dropped because the log was slow or unavailable."""
    repeated: int
    """Updates that the log skipped because it has one with their key."""
    lost: int
    """Other updates lost because the log was unavailable for too long."""
    waiting: int
    """Updates in the buffer of a blocking log."""
    append_batches: int
    """Batches that a blocking log accepted."""
    append_failures: int
    """Failed attempts to append a batch to a blocking log."""
    append_seconds: Durations
    """Durations of requests to a blocking log, each with a batch of one or several executions."""
    encode_fallbacks: int
    """Updates with a value that JSON cannot represent."""
    observer_errors: int
    callable_errors: int
    """Exceptions of the functions that decorators take, such as a transformer."""
    sinks: int
    """Attached sinks, including those that are being closed."""
    sink_errors: int
    """Failed attempts to send to a sink, or to close one."""


class Count:
    """A thread-safe counter."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self._lock = new_lock()
        self.value: int = 0

    def add(self, amount: int = 1) -> None:
        """Add ``amount``."""
        with self._lock:
            self.value += amount


class Counters:
    """The counts of one hub, see `HubStatistics`."""

    __slots__ = ("appending", "batches", "callables", "drops", "published", "publishing", "repeated")

    def __init__(self) -> None:
        self.drops: Drops = Drops()
        self.published: dict[Kind, int] = zero_counts()
        """Published updates by kind. ``published[kind] += 1`` is atomic: it calls no function."""
        self.repeated: Count = Count()
        self.callables: Count = Count()
        self.publishing: Histogram = Histogram(PUBLISH_BOUNDS)
        self.appending: Histogram = Histogram(APPEND_BOUNDS)
        self.batches: Count = Count()
