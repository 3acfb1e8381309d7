"""Callbacks of a program on one execution: on a request to cancel it, and on a response to a prompt."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lg_streaming.fork import bury, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Iterable
__all__ = ["CallbackRunner", "CancelHandler", "Handlers", "ResponseHandler", "is_external_cancellation"]

logger: logging.Logger = logging.getLogger(__name__)

CancelHandler = Callable[[str | None], object]
"""`handler(reason)`, sync or async."""

ResponseHandler = Callable[[str, object], object]
"""`handler(prompt_id, response)`, sync or async."""


@dataclass(slots=True)
class Handlers:
    """Handlers of one execution, in the order of their registration. Guarded by the execution's lock."""

    cancel: dict[object, CancelHandler] = field(default_factory=dict[object, CancelHandler])
    response: dict[object, ResponseHandler] = field(default_factory=dict[object, ResponseHandler])


def is_external_cancellation(error: BaseException) -> bool:
    """Return whether ``error`` was sent into a coroutine of the application: Ctrl-C, or a cancellation of its task."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt)


class CallbackRunner:
    """Calls handlers, and runs async ones as tasks. Errors of handlers are logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the tasks of the parent process, which continue there."""
        bury(self._tasks)
        self._tasks = set()

    def call(self, handlers: Iterable[Callable[..., object]], execution_id: str, *arguments: object) -> None:
        """Call each handler once. Requires a running event loop."""
        for handler in handlers:
            try:
                result = handler(*arguments)
                if inspect.isawaitable(result):
                    self._run(result, execution_id)
            except KeyboardInterrupt:
                raise
            except BaseException:  # a SystemExit would end the event loop with all that runs on it
                logger.exception("a handler of execution %r failed", execution_id)

    def _run(self, result: Awaitable[object], execution_id: str) -> None:
        task = asyncio.create_task(_await_logged(result, execution_id), name="lg_streaming.handler")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Cancel the tasks of this event loop."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _await_logged(result: Awaitable[object], execution_id: str) -> None:
    try:
        await result
    except BaseException as error:
        if is_external_cancellation(error):
            raise
        logger.exception("a handler of execution %r failed", execution_id)
