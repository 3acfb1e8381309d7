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
        instead: What to use on an event loop.

    Raises:
        BlockingCallError: If an event loop runs on this thread.
    """
    if asyncio._get_running_loop() is not None:  # noqa: SLF001 (the documented way raises where there is none)
        raise BlockingCallError(f"{call} blocks, and an event loop runs on this thread: {instead}")


def forbid_blocking_run() -> None:
    """Refuse reactivex's blocking `Observable.run()` on the thread of a running event loop, which feeds the observer.

    Called where a subscription begins. Everything between `run()` and the source is on the stack then.

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
