"""What a test leaves in the table of runs: what was there before it is another's."""

from uuid import UUID

from lg_streaming.capture.runs import RUNS

_before: set[UUID] = set()


def note_runs() -> None:
    _before.clear()
    _before.update(RUNS._runs)  # pyright: ignore[reportPrivateUsage]


def runs_left() -> int:
    """How many runs are in the table that were not there when the test began."""
    return len(set(RUNS._runs) - _before)  # pyright: ignore[reportPrivateUsage]
