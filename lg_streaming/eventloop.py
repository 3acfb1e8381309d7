"""Refuse blocking calls on the thread of a running event loop."""

from __future__ import annotations

import asyncio
import inspect

from lg_streaming.errors import BlockingCallError

__all__ = ["forbid_blocking_run", "forbid_running_loop"]


def forbid_running_loop(call: str, instead: str) -> None:
    """Refuse a blocking call where it would stop an event loop.

    Args:
        call: The call, as a program writes it.
        instead: Advice for an event loop, for the message.

    Raises:
        BlockingCallError: If an event loop runs on this thread.
    """
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 (the documented way raises where there is none)
        raise BlockingCallError(f"{call} blocks, and an event loop runs on this thread: {instead}")


def forbid_blocking_run() -> None:
    """Refuse reactivex's blocking `Observable.run()` on the thread of a running event loop, which feeds the observer.

    It is called where a subscription begins, while everything between `run()` and the source is on the stack.

    Raises:
        BlockingCallError: If `run()` is subscribing, and an event loop runs on this thread.
    """
    if asyncio._get_running_loop() is None:  # noqa: SLF001 (see above)
        return
    frame = inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "reactivex.run":
            forbid_running_loop(
                "Observable.run()", "await the observable, or subscribe with callbacks, or run() it in another thread"
            )
        frame = frame.f_back
