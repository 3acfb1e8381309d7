"""Operators on updates: batches, groups, filters. They are given to ``pipe`` of any ``Observable`` of updates."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, TypedDict, TypeVar, cast

import reactivex
from reactivex import Observable
from reactivex import operators as ops
from reactivex.disposable import CompositeDisposable, Disposable

from lg_streaming.checks import count, seconds
from lg_streaming.errors import BadRequestError
from lg_streaming.events import StreamUpdate
from lg_streaming.filters import UpdateFilter
from lg_streaming.fork import new_event, new_rlock
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from reactivex import GroupedObservable
    from reactivex.abc import DisposableBase, ObserverBase, SchedulerBase

__all__ = [
    "EventCriteria",
    "TokenAggregate",
    "aggregate_tokens",
    "batched",
    "by_type",
    "collected",
    "matching",
    "transformed",
]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_EARLY: Final = timedelta(milliseconds=1)
"""A timer that rings this much too early, by rounding, counts as in time."""


class EventCriteria(TypedDict, total=False):
    """Which updates `matching` lets through. All parts must agree; one that is left out lets all through."""

    types: Sequence[str]
    """Exact types, and globs such as ``task:*``."""
    execution_id: str
    node_id: str
    start_time: datetime
    """The earliest time, inclusive; with a time zone."""
    end_time: datetime
    """The latest time, inclusive; with a time zone."""


def batched(
    size: int = 10, debounce: float = 0.1, *, scheduler: SchedulerBase | None = None
) -> Callable[[Observable[T]], Observable[list[T]]]:
    """Items as lists of up to ``size``, in order: a full list at once, the rest after a pause.

    Each item is in exactly one list; no list is empty. Items may come from several threads, lists leave one at a time.

    Args:
        size: Items in a list, at most.
        debounce: Seconds without an item after which a list leaves that is not full. An end or an error of the source
            brings it at once.
        scheduler: Times ``debounce``; a list that leaves after a pause leaves on it. When not given, it leaves on the
            event loop that runs where this is subscribed, else on a thread of the library, which should not be kept.

    Raises:
        BadRequestError: ``size`` is below 1, or ``debounce`` below 0.
    """
    count("items").check("size", size, BadRequestError)
    seconds(zero="waits for no other").check("debounce", debounce, BadRequestError)

    def operator(source: Observable[T]) -> Observable[list[T]]:
        def subscribe(observer: ObserverBase[list[T]], scheduler_: SchedulerBase | None = None) -> DisposableBase:
            batcher = _Batcher(observer, size, debounce, scheduler or scheduler_)
            return CompositeDisposable(
                source.subscribe(batcher.on_next, batcher.on_error, batcher.on_completed, scheduler=scheduler_),
                Disposable(batcher.stop),
            )

        return Observable(subscribe)

    return operator


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class _Batcher(Generic[T]):
    def __init__(
        self, observer: ObserverBase[list[T]], size: int, debounce: float, scheduler: SchedulerBase | None
    ) -> None:
        self._observer = observer
        self._size = size
        self._debounce = debounce
        self._scheduler = scheduler or current_timer()
        self._loop = _running_loop() if scheduler is None else None
        self._lock = new_rlock()
        self._held: list[T] = []
        self._due = self._scheduler.now
        self._timer: DisposableBase | None = None

    def on_next(self, item: T) -> None:
        with self._lock:
            self._held.append(item)
            if len(self._held) >= self._size:
                self._let_go()
                return
            self._due = self._scheduler.now + timedelta(seconds=self._debounce)
            if self._timer is None:  # one that rings before the pause is over is wound up again
                self._timer = self._scheduler.schedule_relative(self._debounce, self._ring)

    def _ring(self, scheduler: SchedulerBase, state: object = None) -> None:  # noqa: ARG002 (Rx's signature)
        with self._lock:
            self._timer = None
            if not self._held:
                return
            early = self._due - scheduler.now
            if early > _EARLY:
                self._timer = scheduler.schedule_relative(early, self._ring)
            elif self._loop is None:
                self._let_go()
            else:
                with contextlib.suppress(RuntimeError):  # the loop was closed, and with it whoever listened there
                    self._loop.call_soon_threadsafe(self._let_go_after_a_pause)

    def _let_go_after_a_pause(self) -> None:
        with self._lock:
            if self._held and self._timer is None:
                self._let_go()

    def _let_go(self) -> None:
        if self._held:
            held, self._held = self._held, []
            self._observer.on_next(held)

    def on_completed(self) -> None:
        with self._lock:
            self._let_go()
            self._observer.on_completed()

    def on_error(self, error: Exception) -> None:
        with self._lock:
            self._let_go()
            self._observer.on_error(error)

    def stop(self) -> None:
        with self._lock:
            self._held.clear()
            if self._timer is not None:
                self._timer.dispose()


def by_type(
    *, per_execution: bool = False
) -> Callable[[Observable[StreamUpdate]], Observable[GroupedObservable[str, StreamUpdate]]]:
    """One observable for each type, whose ``key`` is the type; with ``per_execution``, ``<execution_id>_<type>``."""
    return ops.group_by(
        lambda update: f"{update.metadata.execution_id}_{update.type}" if per_execution else update.type
    )


def collected(execution_id: str) -> Callable[[Observable[StreamUpdate]], Observable[dict[str, list[StreamUpdate]]]]:
    """The updates of one execution by type, in order: one mapping, when the source ends."""

    def operator(source: Observable[StreamUpdate]) -> Observable[dict[str, list[StreamUpdate]]]:
        def start(_: object) -> Observable[dict[str, list[StreamUpdate]]]:
            found: dict[str, list[StreamUpdate]] = {}

            def add(found: dict[str, list[StreamUpdate]], update: StreamUpdate) -> dict[str, list[StreamUpdate]]:
                found.setdefault(update.type, []).append(update)
                return found

            mine = source.pipe(ops.filter(lambda update: update.metadata.execution_id == execution_id))
            return mine.pipe(ops.reduce(add, found))

        return reactivex.defer(start)

    return operator


def matching(
    criteria: EventCriteria | Mapping[str, Any],
) -> Callable[[Observable[StreamUpdate]], Observable[StreamUpdate]]:
    """The updates that meet ``criteria``, see `EventCriteria`.

    Raises:
        BadRequestError: A name or a value cannot be used: a time without a time zone, for instance.
    """
    if unknown := criteria.keys() - EventCriteria.__annotations__.keys():
        raise BadRequestError(
            f"criteria have {', '.join(sorted(unknown))}; they can be {', '.join(EventCriteria.__annotations__)}"
        )
    node_id = criteria.get("node_id")
    wanted = UpdateFilter.of(
        types=criteria.get("types"),
        node_ids=None if node_id is None else [node_id],
        since=criteria.get("start_time"),
        until=criteria.get("end_time"),
    )
    execution_id = criteria.get("execution_id")
    return ops.filter(
        lambda update: execution_id in (None, update.metadata.execution_id) and wanted.matches(update),
    )


def transformed(
    function: Callable[[StreamUpdate], R | None],
) -> Callable[[Observable[StreamUpdate]], Observable[R | StreamUpdate]]:
    """What ``function`` makes of each update; None drops it.

    An update on which it raises passes as it is; the first time that is logged.
    """

    def operator(source: Observable[StreamUpdate]) -> Observable[R | StreamUpdate]:
        def start(_: object) -> Observable[R | StreamUpdate]:
            failed = new_event()

            def apply(update: StreamUpdate) -> R | StreamUpdate | None:
                try:
                    return function(update)
                except Exception:
                    if not failed.is_set():
                        failed.set()
                        logger.exception("a function for updates raised; the update passes as it was")
                    return update

            shaped = source.pipe(ops.map(apply), ops.filter(lambda result: result is not None))
            return cast("Observable[R | StreamUpdate]", shaped)

        return reactivex.defer(start)

    return operator


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAggregate:
    """The pieces of text that came between two pauses."""

    execution_id: str
    tokens: tuple[str, ...]
    """The new pieces, in order; none of them comes again."""
    total_count: int
    """Pieces of the execution so far."""

    @property
    def text(self) -> str:
        """The pieces joined."""
        return "".join(self.tokens)


def aggregate_tokens(
    quiet: float = 0.5, *, size: int = 1_000, scheduler: SchedulerBase | None = None
) -> Callable[[Observable[StreamUpdate]], Observable[TokenAggregate]]:
    """The ``token`` updates of each execution, together: after ``quiet`` seconds without one, or ``size`` of them.

    Raises:
        BadRequestError: ``quiet`` is no number of seconds from 0 on, or ``size`` is below 1.
    """
    seconds(zero="waits for no other").check("quiet", quiet, BadRequestError)
    count("updates").check("size", size, BadRequestError)

    def of_execution(tokens: GroupedObservable[str, StreamUpdate]) -> Observable[TokenAggregate]:
        def extend(last: TokenAggregate, batch: list[StreamUpdate]) -> TokenAggregate:
            pieces = tuple(str(update.data["content"]) for update in batch)
            return TokenAggregate(execution_id=tokens.key, tokens=pieces, total_count=last.total_count + len(pieces))

        nothing = TokenAggregate(execution_id=tokens.key, tokens=(), total_count=0)
        return tokens.pipe(batched(size, quiet, scheduler=scheduler), ops.scan(extend, nothing))

    def operator(source: Observable[StreamUpdate]) -> Observable[TokenAggregate]:
        tokens = source.pipe(ops.filter(lambda update: update.type == "token"))
        grouped: Observable[GroupedObservable[str, StreamUpdate]] = tokens.pipe(
            ops.group_by(lambda update: update.metadata.execution_id)
        )
        return grouped.pipe(ops.flat_map(of_execution))

    return operator
