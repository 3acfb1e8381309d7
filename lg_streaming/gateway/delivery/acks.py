"""What a reader that acknowledges has to get again, and when; without I/O."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import BadPositionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.events import Position

__all__ = ["AckTracker"]

_LONGEST_WAIT: Final = 60.0


class AckTracker:
    """The account of one subscription with `delivery` `at-least-once`.

    An acknowledgement is for everything up to its position. When a reader has acknowledged nothing new for `timeout`
    seconds although something is outstanding, it gets again all that it has not acknowledged: `due` says so, and
    where to begin. Each further silence lets it wait twice as long, up to 60 seconds or `timeout`, whichever is
    longer; an acknowledgement of something new begins with `timeout` again.

    Args:
        start: Where the reader stands; None before the first update of an execution.
        timeout: Seconds.
        clock: Seconds, monotonic.
    """

    def __init__(
        self, start: Position | None, *, timeout: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._timeout = timeout
        self._clock = clock
        self._epoch = start.epoch if start is not None else None
        self._acked = start.seq if start is not None else 0
        self._sent = self._acked
        self._furthest = self._acked
        self._since = clock()
        self._silences = 0

    @property
    def outstanding(self) -> int:
        """How many sequence numbers were sent and not acknowledged; those the filter left out count too."""
        return self._furthest - self._acked

    @property
    def furthest(self) -> int:
        """The last sequence number that was ever sent in the present epoch: the reader may have all up to here."""
        return self._furthest

    @property
    def wait(self) -> float | None:
        """Seconds until `due` has something to say if the reader stays silent.

        None while nothing is outstanding, or what is has not all left again: then only `sent` or `acked` change that.
        """
        if not self.outstanding or self._sent < self._furthest:
            return None
        return max(0.0, self._since + self._patience - self._clock())

    @property
    def _patience(self) -> float:
        longest = max(self._timeout, _LONGEST_WAIT)
        doubled = self._timeout * 2.0 ** min(self._silences, 64)
        return min(doubled, longest)

    def sent(self, position: Position) -> None:
        """All updates up to `position` have left; it is the last update's own, since that is what gets acknowledged.

        A position of another epoch begins a new account.
        """
        if position.epoch != self._epoch:
            self._epoch = position.epoch
            self._acked = self._sent = self._furthest = 0
            self._silences = 0
        # While it gets again what it had, its time begins when that has left; new updates give it no more time.
        if not self.outstanding or self._sent < self._furthest:
            self._since = self._clock()
        self._sent = position.seq
        self._furthest = max(self._furthest, position.seq)

    def acked(self, position: Position) -> None:
        """The reader has everything up to `position`. An old position, or one of another epoch, changes nothing.

        Raises:
            BadPositionError: That was never sent.
        """
        if position.epoch != self._epoch or position.seq <= self._acked:
            return
        if position.seq > self._furthest:
            raise BadPositionError(f"{str(position)!r} was not sent yet: acknowledge the position of what you got")
        self._acked = position.seq
        self._since = self._clock()
        self._silences = 0

    def due(self) -> int | None:
        """The sequence number after which everything has to be sent again now; None when nothing has to.

        When it says a number, that counts as a silence: the next one comes later.
        """
        if self.wait != 0.0:
            return None
        self._silences += 1
        self._since = self._clock()
        self._sent = self._acked
        return self._acked
