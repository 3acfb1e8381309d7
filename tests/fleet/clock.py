"""Wall clock of a process that is wrong, and jumps."""

import os
import time

__all__ = ["now", "set_shift"]

_shift = float(os.environ.get("CLOCK", "0"))


def set_shift(seconds: float) -> None:
    """Set the clock to so many seconds after the real time."""
    global _shift  # noqa: PLW0603 (the clock of the process)
    _shift = seconds


def now() -> float:
    """Return seconds since 1970 by this clock."""
    return time.time() + _shift
