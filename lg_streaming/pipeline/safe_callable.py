"""Calls of the functions that a decorator takes as options: their exceptions never reach the node."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, TypeVar

from lg_streaming.errors import describe_error, describe_without_message
from lg_streaming.fork import new_lock

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.emitter import ScopedPublisher

__all__ = ["SafeCallable"]

logger: logging.Logger = logging.getLogger(__name__)

R = TypeVar("R")


class SafeCallable:
    """Caller of the functions among a decorator's options. Their exceptions never reach the node.

    The first failure of an option in a try of a node is one ``error`` update, ``{message, type, code, option,
    node_id}``, and is logged. Later ones are counted, and `close` publishes the count.
    """

    __slots__ = ("_failures", "_lock", "_output")

    def __init__(self, output: ScopedPublisher) -> None:
        self._output = output
        self._failures: dict[str, int] = {}
        self._lock = new_lock()

    @property
    def failures(self) -> int:
        """The number of failed calls, of all options."""
        return sum(self._failures.values())

    def call(self, option: str, function: Callable[..., R], *arguments: object, instead: R) -> R:
        """Return ``function(*arguments)``, or ``instead`` when it raises."""
        try:
            return function(*arguments)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 (it is the user's and may raise anything)
            self.failed(option, error)
            return instead

    def failed(self, option: str, error: BaseException) -> None:
        """Count a failed call of an option; log and publish the first one."""
        with self._lock:
            count = self._failures[option] = self._failures.get(option, 0) + 1
        self._output.note_failure()
        if count == 1:
            node_id = self._output.scope.node_id
            if option == "redact":  # its error may hold what it was to take out
                logger.warning(
                    "redact of node %r raised, the data is withheld: %s", node_id, describe_without_message(error)
                )
                details = {"message": "redact failed: the data is withheld", "type": type(error).__name__}
                self._publish(option, details)
                return
            logger.warning("%s of node %r raised; its argument is used unchanged", option, node_id, exc_info=error)
            self._publish(option, describe_error(error))

    def close(self) -> None:
        """Publish the number of failures of options that failed more than once."""
        with self._lock:
            repeated = {option: count for option, count in self._failures.items() if count > 1}
        for option, count in repeated.items():
            self._publish(option, {"message": f"{option} failed {count} times", "count": count})

    def _publish(self, option: str, details: dict[str, Any]) -> None:
        scope = self._output.scope
        data = {**details, "code": f"{option}_failed", "option": option, "node_id": scope.node_id}
        self._output.publish("error", data, scope, priority="high")
