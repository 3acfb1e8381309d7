"""What a hub counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, get_args

from lg_streaming.events import Kind
from lg_streaming.fork import new_lock
from lg_streaming.hub.drops import Drops
from lg_streaming.hub.histogram import Durations, Histogram

__all__ = ["Counters", "HubStatistics", "ReaderLag", "no_updates"]

PUBLISH_BOUNDS: Final = (5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 5e-3, 2.5e-2, 0.1)
"""Seconds: from what publishing should take up to what a user would notice."""

TIMED_EVERY: Final = 16


def no_updates() -> dict[Kind, int]:
    """Counts by kind, all 0."""
    return dict.fromkeys(get_args(Kind), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderLag:
    """How many updates lie between what readers have and what is in the log."""

    readers: int
    """Subscriptions that were looked at."""
    most: int
    """Of the reader that is furthest behind; 0 where there is no reader."""
    total: int
    """Of all readers together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubStatistics:
    """Counts since the hub was made, and what is there now."""

    executions: int
    """Executions this process has written to and not forgotten."""
    running: int
    """Of these, the ones with an open run."""
    subscriptions: int
    published: int
    """Updates given to the log, or to what waits for it."""
    published_by_kind: Mapping[Kind, int]
    """The same by kind: the types of all users are too many to count each."""
    delivered: int
    """Updates that readers took: each reader's own, also those inside this process, without what filters left out."""
    publish_seconds: Durations
    """Time inside the calls that publish; of every 16th call, since to look at a clock costs as well."""
    dropped: Mapping[str, int]
    """Updates that did not get into the log, by reason; every reason is there.

    ``late``: their run had ended. ``foreign_run``: the same, and another run was open. ``no_run``: no run was open, and
    their emitter opens none. ``over_rate``: ``at-most-once``, over ``limits.updates_per_second``. ``at_most_once``:
    the log was slow or away. ``lost``: others that waited for a log that was away for too long. ``too_large``: refused
    to their publisher. ``invalid``, ``limit``, ``closed``: refused for another reason, where nothing could be raised.
    """
    shortened: int
    """Updates over ``limits.update_bytes`` that left shortened, or in several."""
    dropped_late: int
    """Updates dropped because their run had ended: ``late``, ``foreign_run`` and ``no_run`` together."""
    dropped_too_large: int
    """Updates over ``limits.update_bytes`` that were refused to their publisher."""
    dropped_over_rate: int
    """``at-most-once`` updates over ``limits.updates_per_second``."""
    dropped_at_most_once: int
    """``at-most-once`` updates given up because the log was slow or away."""
    repeated: int
    """Updates left out because the log has one with their key."""
    lost: int
    """Other updates given up because the log was away for too long."""
    waiting: int
    """Updates on their way to a blocking log."""
    append_failures: int
    encode_fallbacks: int
    """Updates that held something JSON cannot hold."""
    observer_errors: int
    callable_errors: int
    """Exceptions of the functions that were given to decorators, such as a transformer."""
    sinks: int
    """Attached sinks, and those that are being closed."""
    sink_errors: int
    """How often sending to a sink failed, each attempt counted, or closing one."""


class Count:
    """A number that threads add to; none of them is lost."""

    __slots__ = ("_lock", "value")

    def __init__(self) -> None:
        self._lock = new_lock()
        self.value: int = 0

    def add(self, amount: int = 1) -> None:
        """Adds ``amount``."""
        with self._lock:
            self.value += amount


class Counters:
    """The counts of one hub, see `HubStatistics`."""

    __slots__ = ("callables", "drops", "published", "publishing", "repeated")

    def __init__(self) -> None:
        self.drops: Drops = Drops()
        self.published: dict[Kind, int] = no_updates()
        """By kind. No thread switch comes inside ``published[kind] += 1``: it calls nothing."""
        self.repeated: Count = Count()
        self.callables: Count = Count()
        self.publishing: Histogram = Histogram(PUBLISH_BOUNDS)
