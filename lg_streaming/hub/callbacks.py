"""Callbacks of a program on one execution: on a request to cancel it, and on a response to a prompt."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from lg_streaming.eventloop import running_loop
from lg_streaming.fork import bury, restart_after_fork

if TYPE_CHECKING:
    from collections.abc import Iterable
__all__ = [
    "CallbackRunner",
    "CancelHandler",
    "Handlers",
    "RegisteredHandler",
    "ResponseHandler",
    "is_external_cancellation",
]

logger: logging.Logger = logging.getLogger(__name__)

CancelHandler = Callable[[str | None], object]
"""`handler(reason)`, sync or async."""

ResponseHandler = Callable[[str, object], object]
"""`handler(prompt_id, response)`, sync or async."""


class RegisteredHandler(NamedTuple):
    """A handler, and the event loop on which it was registered."""

    call: Callable[..., object]
    loop: asyncio.AbstractEventLoop | None

    @classmethod
    def here(cls, call: Callable[..., object]) -> RegisteredHandler:
        """Return ``call`` with the running event loop."""
        return cls(call, running_loop())


@dataclass(slots=True)
class Handlers:
    """Handlers of one execution, in the order of their registration. Guarded by the execution's lock."""

    cancel: dict[object, RegisteredHandler] = field(default_factory=dict[object, RegisteredHandler])
    response: dict[object, RegisteredHandler] = field(default_factory=dict[object, RegisteredHandler])


def is_external_cancellation(error: BaseException) -> bool:
    """Return whether ``error`` was sent into a coroutine of the application: Ctrl-C, or a cancellation of its task."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt)


class CallbackRunner:
    """Calls each handler on the event loop of its registration, and runs async ones as tasks. Errors are logged."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        restart_after_fork(self)

    def after_fork(self) -> None:
        """Drop the tasks of the parent process, which continue there."""
        bury(self._tasks)
        self._tasks = set()

    def call(self, handlers: Iterable[RegisteredHandler], execution_id: str, *arguments: object) -> None:
        """Call each handler once: on its event loop if that runs, else at once. From any event loop."""
        here = running_loop()
        for handler in handlers:
            loop = handler.loop
            if loop is not None and loop is not here and loop.is_running():
                try:
                    loop.call_soon_threadsafe(self._call, handler.call, execution_id, *arguments)
                    continue
                except RuntimeError:  # that loop was closed just now
                    pass
            self._call(handler.call, execution_id, *arguments)

    def _call(self, handler: Callable[..., object], execution_id: str, *arguments: object) -> None:
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
        """Cancel the tasks of handlers, and wait for those of this event loop."""
        here = asyncio.get_running_loop()
        tasks = list(self._tasks)
        for task in tasks:
            if task.get_loop() is here:
                task.cancel()
            else:
                with contextlib.suppress(RuntimeError):  # that loop was closed
                    task.get_loop().call_soon_threadsafe(task.cancel)
        await asyncio.gather(*[task for task in tasks if task.get_loop() is here], return_exceptions=True)


async def _await_logged(result: Awaitable[object], execution_id: str) -> None:
    try:
        await result
    except BaseException as error:
        if is_external_cancellation(error):
            raise
        logger.exception("a handler of execution %r failed", execution_id)
