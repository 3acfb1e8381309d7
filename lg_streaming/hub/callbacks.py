"""What a program wants to be told about one execution: that it shall be cancelled, that a prompt was answered."""

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

__all__ = ["CallbackRunner", "CancelHandler", "Handlers", "ResponseHandler", "is_not_its_own"]

logger: logging.Logger = logging.getLogger(__name__)

CancelHandler = Callable[[str | None], object]
"""`handler(reason)`, sync or async."""

ResponseHandler = Callable[[str, object], object]
"""`handler(prompt_id, response)`, sync or async."""


@dataclass(slots=True)
class Handlers:
    """The handlers of one execution, in the order in which they came; changed under the execution's lock."""

    cancel: dict[object, CancelHandler] = field(default_factory=dict[object, CancelHandler])
    response: dict[object, ResponseHandler] = field(default_factory=dict[object, ResponseHandler])


def is_not_its_own(error: BaseException) -> bool:
    """Whether what comes out of a coroutine of the application was sent into it: Ctrl-C, or that its task shall end."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt)


class CallbackRunner:
    """Calls handlers; what they do wrong is logged and goes no further. Async ones go on as tasks."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Forget the parent's handlers that are at work, which go on there."""
        bury(self._tasks)
        self._tasks = set()

    def make(self, handlers: Iterable[Callable[..., object]], execution_id: str, *arguments: object) -> None:
        """Calls each handler once. On the event loop."""
        for handler in handlers:
            try:
                result = handler(*arguments)
                if inspect.isawaitable(result):
                    self._go_on(result, execution_id)
            except KeyboardInterrupt:
                raise
            except BaseException:  # a SystemExit would end the event loop with all that runs on it
                logger.exception("a handler of execution %r failed", execution_id)

    def _go_on(self, result: Awaitable[object], execution_id: str) -> None:
        task = asyncio.create_task(_logged(result, execution_id), name="lg_streaming.handler")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def aclose(self) -> None:
        """Cancels what still goes on."""
        loop = asyncio.get_running_loop()
        tasks = [task for task in self._tasks if task.get_loop() is loop]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _logged(result: Awaitable[object], execution_id: str) -> None:
    try:
        await result
    except BaseException as error:
        if is_not_its_own(error):
            raise
        logger.exception("a handler of execution %r failed", execution_id)
