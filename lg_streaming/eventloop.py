"""Find the running event loop and task of this thread; refuse blocking calls on it."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

from lg_streaming.errors import BlockingCallError

__all__ = ["forbid_blocking_run", "forbid_running_loop", "running_loop", "running_task"]


def running_loop() -> asyncio.AbstractEventLoop | None:
    """Return the event loop that runs on this thread; None without one."""
    return asyncio._get_running_loop()  # noqa: SLF001 (the documented function raises without a loop)


def running_task() -> asyncio.Task[Any] | None:
    """Return the task that runs on this thread; None without one."""
    return asyncio.current_task() if running_loop() is not None else None


def forbid_running_loop(call: str, instead: str) -> None:
    """Refuse a blocking call where it would stop an event loop.

    Args:
        call: The call, as a program writes it.
        instead: Advice for an event loop, for the message.

    Raises:
        BlockingCallError: If an event loop runs on this thread.
    """
    if running_loop() is not None:
        raise BlockingCallError(f"{call} blocks, and an event loop runs on this thread: {instead}")


def forbid_blocking_run() -> None:
    """Refuse reactivex's blocking `Observable.run()` on the thread of a running event loop, which feeds the observer.

    It is called where a subscription begins, while everything between `run()` and the source is on the stack.

    Raises:
        BlockingCallError: If `run()` is subscribing, and an event loop runs on this thread.
    """
    if running_loop() is None:
        return
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "reactivex.run":
            forbid_running_loop(
                "Observable.run()", "await the observable, or subscribe with callbacks, or run() it in another thread"
            )
        frame = frame.f_back
