"""The progress of a node, as the node's code reports it."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any, Final, Generic, Self, TypeVar, cast, overload

from lg_streaming.context import code_position
from lg_streaming.pipeline.progress_options import Granularity, ProgressCalculator, ProgressFormat, ProgressOptions
from lg_streaming.pipeline.progress_tree import ProgressNode
from lg_streaming.pipeline.reporter import ProgressValue, Reporter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reactivex.abc import SchedulerBase

    from lg_streaming.emitter import Emitter

__all__ = [
    "Granularity",
    "ProgressCalculator",
    "ProgressFormat",
    "ProgressOptions",
    "ProgressPart",
    "ProgressStep",
    "ProgressTracker",
    "current_progress",
]

logger: logging.Logger = logging.getLogger(__name__)

T = TypeVar("T")

_ALL: Final = 100.0


class ProgressPart:
    """A part of a node's work, or all of it. Get one with `current_progress` and `subtask`.

    The percentage of a part is the greater of two: the one that was reported for it, and that of its subtasks together.
    It never goes back. Thread-safe; never raises into the node. Outside of a node decorated with
    ``@stream_progress`` it does nothing, and loops over `track` run all the same.

    As a context manager it is complete when the block ends without an exception.
    """

    def __init__(self, root: ProgressTracker | None, share: ProgressNode) -> None:
        self._root = root
        self._share = share
        self._round = root.round if root is not None else 0

    @property
    def active(self) -> bool:
        """True if reports are published; False outside of a node decorated with ``@stream_progress``."""
        return self._root is not None

    @property
    def percent(self) -> float:
        """The percentage that it has reached, 0 to 100."""
        return self._share.percent

    def update(self, current: float, total: float | None, metadata: Mapping[str, Any] | None = None) -> None:
        """Report that ``current`` of ``total`` is done, in any unit; ``metadata`` is sent along.

        Values that cannot be a progress (not a number, a total of 0 or less) count as 0 %. With an unknown ``total``
        (None) the percentage stays, and the update has the fields of the format.
        """
        root = self._root
        if root is None:
            return
        percent = root.calculated(current, total, metadata)
        if percent is None:
            percent = _percent(current, total)
        self._report(percent, metadata, (current, total))

    def complete(self) -> None:
        """Report that all of it is done."""
        self._report(_ALL)

    @overload
    def track(self, items: Iterable[T], total: float | None = None) -> TrackedIterator[T]: ...

    @overload
    def track(self, items: AsyncIterable[T], total: float | None = None) -> AsyncTracked[T]: ...

    def track(
        self, items: Iterable[T] | AsyncIterable[T], total: float | None = None
    ) -> TrackedIterator[T] | AsyncTracked[T]:
        """Return an iterator over ``items`` that reports each as done when the next is asked for.

        Args:
            items: The items; none is taken before the loop asks for it.
            total: The number of items; ``len(items)`` when not given. Where neither is known, the percentage stays
                until the end. A loop that ran to its end is complete, with any number of items.

        Raises:
            TypeError: If ``items`` cannot be iterated over.
        """
        if isinstance(items, AsyncIterable):
            return AsyncTracked(self, items, total)
        return TrackedIterator(self, items, total)

    def step(self, name: str) -> ProgressStep:
        """Name the work that follows, in a few words; readers see it as ``text``.

        The percentage does not change. A step lasts until the next step; in a ``with``, until the block ends.
        """
        step = ProgressStep(self, self._share.label)
        self.label(name)
        return step

    def subtask(self, weight: float = 1.0, name: str | None = None) -> ProgressPart:
        """Return a part of this part, with a separate progress.

        Parts add up by weight: with weights 1 and 3, completing the first brings 25 %. Make all parts before the
        work starts. A part that is made later lowers the others' shares; the percentage then stays until the parts
        have caught up. Parts may have parts, and may be worked on in parallel.

        Args:
            weight: Its share, compared with the other parts of this part. Any value but a positive number is 0: such
                a part adds nothing.
            name: The ``text`` of updates while the part reports.
        """
        root = self._root
        if root is None:
            return NO_PROGRESS
        with root.lock:
            return ProgressPart(root, ProgressNode(self._share, weight, name))

    def label(self, name: str | None) -> None:
        """Set the ``text`` of updates; None for that of the part above."""
        if self._root is not None:
            self._share.label = name
            self._report(0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            self.complete()

    def _report(
        self, percent: float, metadata: Mapping[str, Any] | None = None, amount: tuple[Any, Any] | None = None
    ) -> None:
        root = self._root
        if root is None:
            return
        try:
            with root.lock:
                if self._round == root.round:
                    share = self._share
                    share.raise_to(percent)
                    current, total = share.amount = amount or share.amount
                    details = dict(metadata) if metadata else None
                    root.report(ProgressValue(current=current, total=total, text=share.text(), metadata=details))
        except Exception:
            logger.exception("a progress report is lost")


class ProgressTracker(ProgressPart):
    """Reporter of the progress of one try of a node. Get it with `current_progress` inside the node.

    The options of `stream_progress` decide which updates are published, and when. Without an emitter it does nothing.

    Args:
        emitter: The destination of updates.
        options: The options of the decorator.
        scheduler: Clock and timer, for tests; the process's own when not given.
    """

    def __init__(
        self,
        emitter: Emitter | None = None,
        options: ProgressOptions | None = None,
        *,
        scheduler: SchedulerBase | None = None,
    ) -> None:
        self.round: int = 0
        """Rises with each `reset`."""
        self.failures: int = 0
        """The number of the calculator's failures."""
        options = options or ProgressOptions()
        self._calculator = options.calculator
        self._reporter = Reporter(emitter, options, scheduler) if emitter is not None else None
        super().__init__(self if self._reporter is not None else None, ProgressNode())

    @property
    def lock(self) -> Any:
        """Held while something is reported."""
        return self._reporter.lock if self._reporter is not None else None

    def begin(self) -> None:
        """Begin at 0 %."""
        if self._reporter is not None:
            self._reporter.begin()

    def finish(self, status: str, error: object = None) -> None:
        """Publish the end: 100 % when ``status`` is ``completed``, else the percentage so far, with the ``error``."""
        if self._reporter is not None:
            with self._reporter.lock:
                if status == "completed":
                    self._share.raise_to(_ALL)
                self._reporter.finish(self.percent, status, error)

    def reset(self) -> None:
        """Start again at 0 %, without subtasks; those made before do nothing from now on.

        An update with 0 % is published at once. Published milestones are not published again.
        """
        if self._reporter is not None:
            with self._reporter.lock:
                self.round += 1
                self._round = self.round
                self._share = ProgressNode()
                self._reporter.restart()

    def report(self, amount: ProgressValue) -> None:
        """Publish the percentage so far. Call it under `lock`."""
        if self._reporter is not None:
            self._reporter.report(self.percent, amount)

    def calculated(self, current: Any, total: Any, metadata: Mapping[str, Any] | None) -> float | None:
        """Return the calculator's percentage; None without a calculator, or when its result cannot be used."""
        if self._calculator is None or self._reporter is None:
            return None
        try:
            return _usable(self._calculator(current, total, metadata or {}))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (it is the user's and may raise anything)
            self.failures += 1
            if self.failures == 1:
                self._reporter.fail("calculator", error)
            return None


class ProgressStep:
    """A named step. As a context manager it ends with the block, and the name before holds again."""

    __slots__ = ("_before", "_part")

    def __init__(self, part: ProgressPart, before: str | None) -> None:
        self._part = part
        self._before = before

    def __enter__(self) -> ProgressPart:
        return self._part

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if error is None:
            self._part.label(self._before)


class _Loop:
    """The part of a node's work that a loop is, and its count of items."""

    __slots__ = ("_part", "_taken", "_total")

    def __init__(self, part: ProgressPart, items: object, total: float | None) -> None:
        self._part = part
        self._total = _length(items) if total is None else total
        self._taken = 0

    def _next(self) -> None:
        """Report the items before: the loop asks for the next one."""
        if self._taken:
            self._part.update(self._taken, self._total)
        self._taken += 1

    def _end(self) -> None:
        self._taken -= 1
        if self._taken != self._total or not self._taken:
            self._part.complete()


class TrackedIterator(_Loop, Iterator[T], Generic[T]):
    """Iterates over ``items`` and reports each one as done when the next one is asked for, the last at the end."""

    __slots__ = ("_items",)

    def __init__(self, part: ProgressPart, items: Iterable[T], total: float | None) -> None:
        super().__init__(part, items, total)
        self._items = iter(items)

    def __next__(self) -> T:
        self._next()
        try:
            return next(self._items)
        except StopIteration:
            self._end()
            raise


class AsyncTracked(_Loop, AsyncIterator[T], Generic[T]):
    """The same for ``async for``."""

    __slots__ = ("_items",)

    def __init__(self, part: ProgressPart, items: AsyncIterable[T], total: float | None) -> None:
        super().__init__(part, items, total)
        self._items: Any = aiter(items)

    async def __anext__(self) -> T:
        self._next()
        try:
            return await anext(self._items)
        except StopAsyncIteration:
            self._end()
            raise


def _length(items: object) -> float | None:
    """Return ``len(items)``; None for items without a length."""
    try:
        return len(items) if isinstance(items, Sized) else None
    except Exception:  # noqa: BLE001 (a __len__ of the user's own may raise anything)
        return None


def _usable(value: Any) -> float:
    """Return the result of a calculator as a percentage.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not finite.
    """
    if inspect.iscoroutine(value):
        value.close()  # else it warns that it was not awaited
        raise TypeError("the calculator returned a coroutine: it has to be a plain function")
    if isinstance(value, (bool, str, bytes)):
        raise TypeError(f"the calculator returned {value!r:.80}: it has to return a percentage")
    percent = float(value)
    if not math.isfinite(percent):
        raise ValueError(f"the calculator returned {percent}: it has to return a percentage")
    return min(_ALL, max(0.0, percent))


def _percent(current: Any, total: Any) -> float:
    try:
        percent = float(100 * current / total) if total is not None and total > 0 else 0.0
    except Exception:  # noqa: BLE001 (numbers of the user's own may raise anything)
        return 0.0
    return 0.0 if math.isnan(percent) else min(_ALL, max(0.0, percent))


NO_PROGRESS: Final = ProgressTracker()


def current_progress() -> ProgressTracker:
    """Return the tracker of the node that is running; outside of a ``@stream_progress`` node, one that does nothing."""
    frame = code_position().frame
    tracker = cast("ProgressTracker | None", frame.progress) if frame is not None else None
    return tracker or NO_PROGRESS
