"""The receiving half of a WebSocket: count frames and bytes, and close a peer that sends too many.

A server answers pings, drops pongs and collects fragments below ASGI. Each costs time or memory, and none is a message
that a rate limit would count.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from lg_streaming.errors import DeadPeerError, MessageRateError, StreamingError
from lg_streaming.token_bucket import TokenBucket

if TYPE_CHECKING:
    from lg_streaming.settings import LimitSettings

__all__ = ["InboundMeter"]

Refuse = Callable[[StreamingError], None]
Admit = Callable[[int], bool]

_SPARE_MESSAGES: Final = 100
"""Beyond `message_burst`: the connection's rules refuse messages with an answer, and close on the third."""
_SPARE_SIZES: Final = 4
"""Messages beyond `message_burst` whose bytes are accepted, so that a message that is too large gets an error."""
_LEAST_BYTES: Final = 524_288
"""Bytes that may always arrive at once, as a server reads up to 256 KiB before this check."""
_LONGEST_TIMEOUT: Final = 86_400.0


class InboundMeter:
    """Counter of a connection's inbound frames and bytes, which closes it beyond a limit.

    Args:
        limits: The limits.
        refuse: Closes the connection; called once, with the reason.
        admit: Counts bytes that the server writes itself against the backlog; returns whether it may.
    """

    __slots__ = (
        "_admit",
        "_bytes",
        "_charged",
        "_clock",
        "_deadline",
        "_decoded",
        "_exceeded",
        "_frames",
        "_limits",
        "_messages",
        "_moved",
        "_now",
        "_received",
        "_refuse",
    )

    def __init__(self, limits: LimitSettings, refuse: Refuse, admit: Admit) -> None:
        self._clock = asyncio.get_running_loop().time
        now, size = self._clock(), limits.inbound_bytes
        self._now = now
        self._limits = limits
        self._refuse: Refuse | None = refuse
        self._admit: Admit | None = admit
        self._frames = TokenBucket(_rate(limits.frames_per_second), limits.frame_burst, now)
        rate = _rate(limits.messages_per_second)
        self._messages = TokenBucket(rate, limits.message_burst + _SPARE_MESSAGES, now)
        self._bytes = TokenBucket(rate * size, max((limits.message_burst + _SPARE_SIZES) * size, _LEAST_BYTES), now)
        self._received = self._decoded = self._charged = 0
        self._exceeded = self._moved = False
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def exceeded(self) -> bool:
        """Return whether the connection exceeds a limit."""
        return self._exceeded

    def receive(self, size: int) -> bool:
        """Count `size` bytes from the network; return whether they may be read."""
        if self._exceeded:
            return False
        self._now = self._clock()
        self._received += size
        return self._take_bytes()

    def frame(self, size: int, *, message: bool) -> bool:
        """Count a frame; return whether it may be handled.

        Args:
            size: Bytes of its payload, inflated.
            message: Whether the frame is a whole message.
        """
        self._decoded += size
        if message:
            self._moved = True
            rate = self._limits.messages_per_second
            if rate is not None and not self._messages.take(self._now):
                self._exceed(f"at most {rate:g} messages a second")
        else:
            self._take_frame()
        return not self._exceeded and self._take_bytes()

    def packet(self) -> bool:
        """Count a packet that carries no message; return whether it may be handled."""
        self._now = self._clock()
        self._take_frame()
        return not self._exceeded

    def pong(self, size: int) -> bool:
        """Count a pong of `size` bytes against the backlog; return whether it may be sent."""
        return self._admit is not None and self._admit(size)

    def complete(self) -> None:
        """Record that a message in fragments is complete."""
        self._moved = True

    def rest(self, *, partial: bool, paused: Callable[[], bool]) -> None:
        """Start, restart or stop the deadline, once all arrived bytes are read.

        Args:
            partial: Whether a message or frame has begun and is not complete.
            paused: Whether the server itself does not read at the moment.
        """
        if self._deadline is not None and (self._moved or not partial):
            self._deadline.cancel()
            self._deadline = None
        self._moved = False
        if partial and self._deadline is None and self._refuse is not None:
            self._start_deadline(paused)

    def stop(self) -> None:
        """Stop the deadline of a connection that has closed or closes soon. Its remaining bytes still count."""
        self._refuse = self._admit = None
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close(self, error: StreamingError) -> None:
        refuse = self._refuse
        self.stop()
        if refuse is not None:
            refuse(error)

    def _exceed(self, why: str) -> None:
        if not self._exceeded:
            self._exceeded = True
            self._close(MessageRateError(f"{why}: slow down"))

    def _take_frame(self) -> None:
        rate = self._limits.frames_per_second
        if rate is not None and not self._frames.take(self._now):
            self._exceed(f"at most {rate:g} pings, pongs and fragments a second")

    def _take_bytes(self) -> bool:
        # The larger of the compressed and the inflated bytes counts.
        used = max(self._received, self._decoded)
        due, self._charged = used - self._charged, used
        if due and not self._bytes.take(self._now, due):
            limits = self._limits
            rate = (limits.messages_per_second or limits.message_burst) * limits.inbound_bytes
            self._exceed(f"at most {rate:.0f} bytes a second")
        return not self._exceeded

    def _start_deadline(self, paused: Callable[[], bool]) -> None:
        timeout = min(self._limits.message_timeout, _LONGEST_TIMEOUT)
        self._deadline = asyncio.get_running_loop().call_later(timeout, self._expire, paused)

    def _expire(self, paused: Callable[[], bool]) -> None:
        self._deadline = None
        if paused():
            self._start_deadline(paused)
        else:
            self._close(DeadPeerError(f"a message was not complete after {self._limits.message_timeout:g} s"))


def _rate(per_second: float | None) -> float:
    return math.inf if per_second is None else per_second
