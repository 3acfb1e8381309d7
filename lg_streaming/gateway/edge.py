"""What all transports of a gateway share."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lg_streaming.errors import ServerRestartError
from lg_streaming.gateway.compression import Compression
from lg_streaming.gateway.deflate import Framings
from lg_streaming.gateway.frames import Chunks, Pacer

if TYPE_CHECKING:
    from lg_streaming.gateway.auth import Policy
    from lg_streaming.gateway.limits import Census
    from lg_streaming.hub import StreamHub
    from lg_streaming.settings import StreamingSettings

__all__ = ["Edge"]

_RETRY_MS = (500, 3_000)


@dataclass(slots=True, kw_only=True)
class Edge:
    """Hub, settings, rules and counters, and whether the server is going away.

    Args:
        hub: Where executions are.
        settings: All settings.
        policy: Who may come in and see what.
        census: Open connections.
        wall: Seconds since 1970.
        monotonic: Seconds.
        jitter: Source of the delays clients are given, so that they do not all come back at once.
    """

    hub: StreamHub
    settings: StreamingSettings
    policy: Policy
    census: Census
    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    jitter: random.Random = field(default_factory=random.Random)
    draining: bool = False
    """Set when the server shuts down: nobody is let in any more."""
    chunks: Chunks = field(default_factory=Chunks)
    pacer: Pacer = field(init=False)
    compression: Compression = field(init=False)
    framings: Framings = field(init=False)

    def __post_init__(self) -> None:
        gateway = self.settings.gateway
        self.pacer = Pacer(gateway.frame_interval)
        self.compression = Compression(gateway.compression)
        self.framings = Framings(gateway.compression)

    def check_open(self) -> None:
        """Lets nobody in while the server goes away.

        Raises:
            ServerRestartError: It does.
        """
        if self.draining:
            raise ServerRestartError(retry_after=self.retry_ms() / 1000)

    def retry_ms(self) -> int:
        """When a client should come back, in milliseconds; different for each."""
        return self.jitter.randint(*_RETRY_MS)
