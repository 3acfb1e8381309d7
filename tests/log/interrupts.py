"""Interrupts a call at each bytecode in turn."""

import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any


class _Bomb:
    """Raises before the bytecode `at` of what is called in files `inside`."""

    def __init__(self, at: int, error: BaseException, inside: Sequence[str]) -> None:
        self.inside = inside
        self.left = at
        self.error = error
        self.went_off = False

    def trace(self, frame: FrameType, event: str, _: Any) -> Callable[..., Any] | None:
        if event == "call":
            if not any(each in frame.f_code.co_filename for each in self.inside):
                return None
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            if self.left == 0 and not self.went_off:
                self.went_off = True
                sys.settrace(None)
                raise self.error
            self.left -= 1
        return self.trace


def interrupted(
    call: Callable[[int], object],
    error: type[BaseException],
    *,
    every: int = 1,
    inside: Sequence[str] = ("/lg_streaming/",),
) -> Iterator[int]:
    """Calls `call(n)` for n = 0, 1, … and interrupts it before its n-th bytecode, until a call ends before that.

    Bytecodes count in files whose path has one of `inside`. Yields each number whose call was interrupted.
    """
    at = 0
    while True:
        bomb = _Bomb(at, error(), inside)
        sys.settrace(bomb.trace)
        try:
            call(at)
        except error:
            assert bomb.went_off
        finally:
            sys.settrace(None)
        if not bomb.went_off:
            return
        yield at
        at += every
