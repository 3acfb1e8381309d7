"""Append buffered updates when the interpreter ends, for programs that do not close their hub."""

from __future__ import annotations

import atexit
import logging
import sys
import time
import weakref
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from concurrent.futures import Future

__all__ = ["flush_at_exit"]

logger: logging.Logger = logging.getLogger(__name__)

_TIMEOUT: Final = 5.0
_PRIORITY: Final = 100
"""Before the finalizers of `multiprocessing` itself."""


class _Buffer(Protocol):
    """Buffer of updates that are not in the log yet."""

    @property
    def waiting(self) -> int:
        """Number of these updates."""
        ...

    def flush(self) -> Future[None]:
        """Append them; the future is done when they are in the log, or lost."""
        ...


_buffers: Final[weakref.WeakSet[_Buffer]] = weakref.WeakSet()


def flush_at_exit(buffer: _Buffer) -> None:
    """Append what the buffer has when the interpreter ends: for up to 5 seconds, and without a wait if it is empty.

    Processes of `multiprocessing`, and of Celery's `billiard`, end without `atexit`; they have finalizers.
    """
    _buffers.add(buffer)
    for name in ("multiprocessing.util", "billiard.util"):
        if (util := sys.modules.get(name)) is not None:
            util.Finalize(None, _flush, exitpriority=_PRIORITY)


@atexit.register
def _flush() -> None:
    """Flush all buffers. Their threads are daemons, which still run."""
    deadline = time.monotonic() + _TIMEOUT
    flushing = [(buffer, buffer.flush()) for buffer in list(_buffers) if buffer.waiting]
    for buffer, done in flushing:
        try:
            done.result(max(deadline - time.monotonic(), 0))
        except TimeoutError:
            _buffers.discard(buffer)
            logger.warning("%d updates are lost: the log did not take them before the process ended", buffer.waiting)
