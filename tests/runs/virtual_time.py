"""An event loop in virtual time: it never sleeps, its clock jumps to the next timer."""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _JumpingSelector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """A selector that does not wait for timers, and advances the clock in place of it."""

    jumped = 0.0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self.jumped += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose time is 0 at the start, and passes only while all tasks sleep. Do not use threads on it."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.jumped


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)
