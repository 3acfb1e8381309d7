"""Base of tasks, agents and requests: a scope, a lock, a clock, and the rule for steps that are rejected."""

from __future__ import annotations

import logging
import math
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from lg_streaming.checks import Number
from lg_streaming.errors import BadRequestError, StreamingError, TransitionError
from lg_streaming.fork import new_rlock
from lg_streaming.pipeline.timed_buffer import FixedWindow, TimedBuffer
from lg_streaming.publisher import new_id
from lg_streaming.timer import current_timer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from datetime import datetime

    from lg_streaming.emitter import Emitter
    from lg_streaming.events import Priority

__all__ = [
    "Activity",
    "PacedActivity",
    "check_name",
    "drop_none",
    "id_or_new",
    "is_interruption",
    "number",
    "value_or_default",
]

logger: logging.Logger = logging.getLogger(__name__)

_MAX_NAME_LENGTH = 256

S = TypeVar("S")
"""The state of an activity."""


class Activity(ABC, Generic[S]):
    """A process that is published step by step, through an emitter, and takes only legal steps.

    It is thread-safe. A step that is rejected publishes nothing. It raises where the emitter raises; elsewhere (in a
    decorated node, or outside an execution) it is logged as a warning.

    Args:
        emitter: Publishes its updates, in the scope of the activity.
        label: Its name in messages: ``task 't1'``.
    """

    __slots__ = ("__weakref__", "_emitter", "_ended", "_guard", "_label", "_lock", "_notify", "_scheduler", "_state")

    def __init__(self, emitter: Emitter, label: str) -> None:
        self._emitter = emitter
        self._label = label
        self._lock = new_rlock()
        self._scheduler = current_timer()
        self._guard = _StepGuard(self._lock, emitter, label)
        self._ended = False
        self._state: S
        self._notify: Callable[[], None] | None = None

    @property
    def ended(self) -> bool:
        """Return whether it takes no more steps."""
        return self._ended

    @property
    def state(self) -> S:
        """Return its present state, an immutable value."""
        return self._state

    def on_ended(self, call: Callable[[], None]) -> None:
        """Call ``call`` once it has ended; for the registry that holds it."""
        self._notify = call

    def _end(self) -> None:
        self._ended = True
        call, self._notify = self._notify, None
        if call is not None:
            call()

    def _require(self, action: str, state: object, legal: Collection[object]) -> None:
        if state not in legal:
            allowed = ", ".join(sorted(str(each or "new") for each in legal))
            raise TransitionError(
                f"{self._label} is {state or 'new'}: {action}() can follow only {allowed}",
                execution_id=self._emitter.execution_id or None,
            )

    def _now(self) -> datetime:
        return self._scheduler.now

    def _seconds_since(self, moment: datetime | None) -> float | None:
        return None if moment is None else round((self._now() - moment).total_seconds(), 6)

    def _publish(self, type: str, data: Mapping[str, Any], priority: Priority | None = None) -> None:
        self._emitter.event(type, data, priority=priority)

    def _publish_or_log(self, type: str, data: Mapping[str, Any]) -> None:
        """Publish an update that was held or captured: no caller waits for it, so an error is logged."""
        try:
            self._emitter.event(type, data)
        except StreamingError as error:
            logger.warning("an update of type %s of %s was refused: %s", type, self._label, error)
        except Exception:
            logger.exception("an update of type %s of %s could not be published", type, self._label)

    # --- as a block -------------------------------------------------------------------------------------------

    @abstractmethod
    def _on_enter(self) -> None:
        """Begin the block."""

    @abstractmethod
    def _on_exit(self, error: BaseException | None) -> None:
        """End the block; a no-op where the activity has ended."""

    def __enter__(self) -> Self:
        self._on_enter()
        return self

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        with self._lock:
            if error is None:
                self._on_exit(None)
                return
            try:
                self._on_exit(error)
            except StreamingError as rejected:  # the exception of the block matters more
                logger.warning("the end of %s was refused: %s", self._label, rejected)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, _: object, error: BaseException | None, __: object) -> None:
        self.__exit__(None, error, None)


class PacedActivity(Activity[S]):
    """An activity that publishes some of its values at most once in an interval.

    The last value is published when the interval has passed, and before the next change of the state.

    Args:
        emitter: See `Activity`.
        label: See `Activity`.
        interval: Seconds.
    """

    __slots__ = ("_latest", "_offering")

    def __init__(self, emitter: Emitter, label: str, interval: float) -> None:
        super().__init__(emitter, label)
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
        name, data = self._paced_update(values[-1])
        if self._offering:
            self._publish(name, data)
        else:
            self._publish_or_log(name, data)

    @abstractmethod
    def _paced_update(self, value: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return the type and the data of the update that publishes ``value``."""


class _StepGuard:
    """A context manager that holds the lock for a step, and logs its rejection where the emitter does not raise."""

    __slots__ = ("_emitter", "_label", "_lock")

    def __init__(self, lock: threading.RLock, emitter: Emitter, label: str) -> None:
        self._lock = lock
        self._emitter = emitter
        self._label = label

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        self._lock.release()
        if not isinstance(error, StreamingError) or self._emitter.raises_errors:
            return False
        logger.warning("%s: %s", self._label, error)
        return True


V = TypeVar("V")


def value_or_default(emitter: Emitter, validate: Callable[[], V], default: V) -> V:
    """Return what ``validate`` returns. Where it raises and the emitter does not, warn and return ``default``."""
    try:
        return validate()
    except BadRequestError as error:
        if emitter.raises_errors:
            raise
        logger.warning("%s; %r is used", error, default)
        return default


def drop_none(**fields: Any) -> dict[str, Any]:
    """Return the fields that are not None."""
    return {name: value for name, value in fields.items() if value is not None}


def id_or_new(emitter: Emitter, id: object, what: str) -> str:
    """Return ``id``, validated, or a new one where it is None."""
    new = new_id()
    return new if id is None else value_or_default(emitter, lambda: check_name(id, what), new)


def check_name(value: object, what: str) -> str:
    """Return ``value`` if it is a string of 1 to 256 characters.

    Raises:
        BadRequestError: If it is not.
    """
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_NAME_LENGTH:
        raise BadRequestError(f"{what} is a string of 1 to {_MAX_NAME_LENGTH} characters, not {value!r:.80}")
    return value


def number(value: object, what: str, *, least: float = -math.inf, most: float = math.inf, whole: bool = False) -> float:
    """Return ``value`` if it is a finite number in bounds, and an int where ``whole`` is set.

    Raises:
        BadRequestError: If it is not.
    """
    allowed = Number(whole=whole, least=least, most=None if most == math.inf else most)
    if isinstance(value, (int, float)):
        return allowed.check(what, value, BadRequestError)
    raise BadRequestError(f"{what} {allowed.refusal(value)}")


def is_interruption(error: BaseException) -> bool:
    """Return whether ``error`` stops the work without a failure: a cancellation, or a graph's wait for a human."""
    return not isinstance(error, Exception) or any(base.__name__ == "GraphBubbleUp" for base in type(error).__mro__)
