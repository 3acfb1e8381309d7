"""Handle signals on an event loop, also on one without support for them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Generator, Iterable
from typing import Any

__all__ = ["signal_handlers"]


@contextlib.contextmanager
def signal_handlers(numbers: Iterable[signal.Signals], handler: Callable[[signal.Signals], object]) -> Generator[None]:
    """Call `handler(number)` on the running event loop for each signal, for the time of the block.

    Signals can be handled on the main thread only.
    """
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as undo:
        for number in numbers:
            try:
                loop.add_signal_handler(number, handler, number)
            except NotImplementedError:  # Windows
                undo.callback(signal.signal, number, _install_process_handler(loop, handler, number))
            else:
                undo.callback(loop.remove_signal_handler, number)
        yield


def _install_process_handler(
    loop: asyncio.AbstractEventLoop, handler: Callable[[signal.Signals], object], number: signal.Signals
) -> Any:
    """Install a handler of the process; return the previous one."""

    def handle(*_: object) -> None:
        loop.call_soon_threadsafe(handler, number)

    return signal.signal(number, handle)
