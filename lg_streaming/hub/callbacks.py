"""Callbacks of a program on one execution: on a request to cancel it, and on a response to a prompt."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from lg_streaming.eventloop import running_loop
from lg_streaming.fork import bury, restart_after_fork
from lg_streaming.hub.background_loop import BackgroundLoop

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

__all__ = [
    "AnswersHandler",
    "CallbackRunner",
    "CancelHandler",
    "Handlers",
    "RegisteredHandler",
    "ResponseHandler",
    "call_in_thread",
    "is_external_cancellation",
]

T = TypeVar("T")

logger: logging.Logger = logging.getLogger(__name__)

_JOIN_TIMEOUT: Final = 1.0

CancelHandler = Callable[[str | None], object]
"""`handler(reason)`, sync or async."""

ResponseHandler = Callable[[str, object], object]
"""`handler(prompt_id, response)`, sync or async."""

AnswersHandler = Callable[[str, Mapping[str, Any]], object]
"""`handler(execution_id, answers)`, sync or async: the answers by prompt."""


class RegisteredHandler(NamedTuple):
    """A handler, and the event loop on which it was registered."""

    call: Callable[..., object]
    loop: asyncio.AbstractEventLoop | None
    still_running: Callable[[], Sequence[str]] | None = None
    """Returns the ids of the nodes that it could not stop; None for a handler of the program."""
    if_abandoned: bool = True
    """True if it is called when the log refuses the run, too."""

    @classmethod
    def here(cls, call: Callable[..., object]) -> RegisteredHandler:
        """Return ``call`` with the running event loop."""
        return cls(call, running_loop())


@dataclass(slots=True)
class Handlers:
    """Handlers of one execution, in the order of their registration. Guarded by the execution's lock."""

    cancel: dict[object, RegisteredHandler] = field(default_factory=dict[object, RegisteredHandler])
    response: dict[object, RegisteredHandler] = field(default_factory=dict[object, RegisteredHandler])
    answers: dict[object, RegisteredHandler] = field(default_factory=dict[object, RegisteredHandler])

    @property
    def is_empty(self) -> bool:
        """True without any handler."""
        return not (self.cancel or self.response or self.answers)


def is_external_cancellation(error: BaseException) -> bool:
    """Return whether ``error`` was sent into a coroutine of the application: Ctrl-C, or a cancellation of its task."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return isinstance(error, KeyboardInterrupt)


async def call_in_thread(function: Callable[[], T]) -> T:
    """Return ``function()``, called in a daemon thread: one that hangs delays neither the event loop nor the exit."""
    done: concurrent.futures.Future[T] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as error:  # noqa: BLE001 (raised where it is awaited)
            done.set_exception(error)

    threading.Thread(target=call, name="lg-streaming-callback", daemon=True).start()
    return await asyncio.wrap_future(done)


class CallbackRunner:
    """Calls each handler on the event loop of its registration, and runs async ones as tasks. Errors are logged.

    Async handlers that were registered without a loop run on the caller's loop, or else on one in the background.
    """

    def __init__(self) -> None:
        self._background = BackgroundLoop("lg-streaming-callbacks")
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
        coroutine, name = _await_logged(result, execution_id), "lg_streaming.handler"
        if running_loop() is None:
            self._background.start(lambda: self._remembered(coroutine), _ignore, name=name)
            return
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _remembered(self, coroutine: Coroutine[object, object, None]) -> None:
        """Await a coroutine in the present task, which `aclose` cancels."""
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        try:
            await coroutine
        finally:
            self._tasks.discard(task)

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
        await self._background.join(_JOIN_TIMEOUT)


def _ignore(_task: asyncio.Task[None]) -> None:
    """Do nothing when a task is done: `_await_logged` has logged its error."""


async def _await_logged(result: Awaitable[object], execution_id: str) -> None:
    try:
        await result
    except BaseException as error:
        if is_external_cancellation(error):
            raise
        logger.exception("a handler of execution %r failed", execution_id)
