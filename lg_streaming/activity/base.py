"""What tasks, agents and requests have in common: a scope, a lock, a clock, and what happens to what is refused."""

from __future__ import annotations

import logging
import math
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self, TypeVar

from lg_streaming.checks import Number
from lg_streaming.errors import BadRequestError, StreamingError, TransitionError
from lg_streaming.fork import new_rlock
from lg_streaming.pipeline.timed_buffer import FixedWindow, TimedBuffer
from lg_streaming.publisher import new_id
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime
    from types import TracebackType

    from lg_streaming.emitter import Emitter
    from lg_streaming.events import Priority

__all__ = ["Activity", "PacedActivity", "accepted", "check_name", "id_of", "is_interruption", "known", "number"]

logger: logging.Logger = logging.getLogger(__name__)

_MAX_NAME_LENGTH = 256


class Activity(ABC):
    """One thing that goes on: it has an id, writes through an emitter, and takes only steps that can follow.

    Thread-safe. Where its emitter raises, a step that is refused raises and nothing is published; where it does not
    (in a decorated node, or outside of any execution) the step is logged as a warning, and nothing is published.

    Args:
        emitter: Where its updates go, about its own scope.
        what: Names it in messages: ``task 't1'``.
    """

    __slots__ = ("__weakref__", "_emitter", "_ended", "_lock", "_refusing", "_scheduler", "_what", "_when_ended")

    def __init__(self, emitter: Emitter, what: str) -> None:
        self._emitter = emitter
        self._what = what
        self._lock = new_rlock()
        self._scheduler = current_timer()
        self._refusing = _Refusing(self._lock, emitter, what)
        self._ended = False
        self._when_ended: Callable[[], None] | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more can be said of it."""
        return self._ended

    def when_ended(self, call: Callable[[], None]) -> None:
        """Calls ``call`` when it has ended; for the registry that knows it."""
        self._when_ended = call

    def _end(self) -> None:
        self._ended = True
        call, self._when_ended = self._when_ended, None
        if call is not None:
            call()

    def _require(self, action: str, state: object, legal: Collection[object]) -> None:
        if state not in legal:
            allowed = ", ".join(sorted(str(each or "new") for each in legal))
            raise TransitionError(
                f"{self._what} is {state or 'new'}: {action}() can follow only {allowed}",
                execution_id=self._emitter.execution_id or None,
            )

    def _now(self) -> datetime:
        return self._scheduler.now

    def _seconds_since(self, moment: datetime | None) -> float | None:
        return None if moment is None else round((self._now() - moment).total_seconds(), 6)

    def _publish(self, type: str, data: Mapping[str, Any], priority: Priority | None = None) -> None:
        self._emitter.event(type, data, priority=priority)

    def _publish_late(self, type: str, data: Mapping[str, Any]) -> None:
        """For what must not disturb, or was held: whoever said it has gone on, so what goes wrong is logged."""
        try:
            self._emitter.event(type, data)
        except StreamingError as error:
            logger.warning("an update of type %s of %s was refused: %s", type, self._what, error)
        except Exception:
            logger.exception("an update of type %s of %s could not be published", type, self._what)

    # --- as a block -------------------------------------------------------------------------------------------

    @abstractmethod
    def _enter(self) -> None:
        """A block of it begins."""

    @abstractmethod
    def _leave(self, error: BaseException | None) -> None:
        """The block ended; a no-op where it has ended before."""

    def __enter__(self) -> Self:
        self._enter()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._lock:
            if error is None:
                self._leave(None)
                return
            try:
                self._leave(error)
            except StreamingError as refused:  # what the block raised matters more
                logger.warning("the end of %s was refused: %s", self._what, refused)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        self.__exit__(kind, error, traceback)


class PacedActivity(Activity):
    """An activity some of whose values leave at most once in an interval.

    The last value leaves by itself when the interval is over, and before the next change of the state.

    Args:
        emitter: See `Activity`.
        what: The same.
        interval: Seconds.
    """

    __slots__ = ("_latest", "_offering")

    def __init__(self, emitter: Emitter, what: str, interval: float) -> None:
        super().__init__(emitter, what)
        self._offering = False
        window = FixedWindow(math.inf, interval)
        self._latest = TimedBuffer[dict[str, Any]](
            self._send_paced, window, policy="latest", lock=self._lock, scheduler=self._scheduler
        )

    def _offer(self, value: dict[str, Any]) -> None:
        self._offering = True
        try:
            self._latest.put_locked(value)
        finally:
            self._offering = False

    def _send_paced(self, values: list[dict[str, Any]]) -> None:
        name, data = self._paced(values[-1])
        if self._offering:
            self._publish(name, data)
        else:
            self._publish_late(name, data)

    @abstractmethod
    def _paced(self, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """The type and the data of an update that says ``value``."""


class _Refusing:
    """Holds an activity's lock, and keeps what is refused from a caller that must not be disturbed."""

    __slots__ = ("_emitter", "_lock", "_what")

    def __init__(self, lock: threading.RLock, emitter: Emitter, what: str) -> None:
        self._lock = lock
        self._emitter = emitter
        self._what = what

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        self._lock.release()
        if not isinstance(error, StreamingError) or self._emitter.raises_errors:
            return False
        logger.warning("%s: %s", self._what, error)
        return True


V = TypeVar("V")


def accepted(emitter: Emitter, make: Callable[[], V], instead: V) -> V:
    """What ``make`` gives; ``instead``, and a warning, where that cannot be used and ``emitter`` does not raise."""
    try:
        return make()
    except BadRequestError as error:
        if emitter.raises_errors:
            raise
        logger.warning("%s; %r is used", error, instead)
        return instead


def known(**fields: Any) -> dict[str, Any]:
    """The fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def id_of(emitter: Emitter, given: object, what: str) -> str:
    """``given`` if it can name something; when it is None, one that is made."""
    made = new_id()
    return made if given is None else accepted(emitter, lambda: check_name(given, what), made)


def check_name(value: object, what: str) -> str:
    """``value`` if it can name something: a string of 1 to 256 characters. Raises ``BadRequestError``."""
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME_LENGTH:
        raise BadRequestError(f"{what} is a string of 1 to {_MAX_NAME_LENGTH} characters, not {value!r:.80}")
    return value


def number(value: object, what: str, *, least: float = -math.inf, most: float = math.inf, whole: bool = False) -> float:
    """``value`` if it is a finite number in bounds, and an int where it must be. Raises ``BadRequestError``."""
    allowed = Number(whole=whole, least=least, most=None if most == math.inf else most)
    if isinstance(value, (int, float)):
        return allowed.check(what, value, BadRequestError)
    raise BadRequestError(f"{what} {allowed.refusal(value)}")


def is_interruption(error: BaseException) -> bool:
    """Whether what was going on was stopped rather than failed: a cancellation, or a graph that waits for a human."""
    return not isinstance(error, Exception) or any(base.__name__ == "GraphBubbleUp" for base in type(error).__mro__)
