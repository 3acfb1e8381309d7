"""Refuse blocking calls on the thread of a running event loop."""

from __future__ import annotations

import asyncio

from lg_streaming.errors import BlockingCallError

__all__ = ["forbid_running_loop"]


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
