"""Harnesses of the logs for the contract suite."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, cast

from lg_streaming.log import EventLog, MemoryLog
from lg_streaming.log.redis.log import RedisLog
from lg_streaming.settings import RedisSettings, RetentionSettings
from lg_streaming.testing.log_contract import LogHarness

if TYPE_CHECKING:
    from tests.support.redis_server import RedisServer

PREFIXES = itertools.count()


class Clock:
    """Clock that a test sets, in seconds since 1970."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class MemoryHarness(LogHarness):
    def __init__(self) -> None:
        self.clock = Clock()

    def make(self, retention: RetentionSettings) -> EventLog:
        return MemoryLog(retention, clock=self.clock, monotonic=self.clock)

    async def advance(self, seconds: float) -> bool:
        self.clock.now += seconds
        return True

    def now(self) -> float:
        return self.clock.now


class RedisHarness(LogHarness):
    """Logs on a server of the tests. Time passes by an offset of their clock, and by shorter expiry times of keys."""

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.logs: list[RedisLog] = []
        self.offset = 0.0

    def make(self, retention: RetentionSettings) -> EventLog:
        self.retention, self.settings = retention, RedisSettings(prefix=f"t{next(PREFIXES)}", check_interval=0.5)
        self.logs.clear()
        return self.connect()

    def connect(self) -> EventLog:
        self.logs.append(RedisLog(self.server.url, retention=self.retention, redis=self.settings, clock=self.now))
        return self.logs[-1]

    async def advance(self, seconds: float) -> bool:
        self.offset += seconds
        with self.server.client() as client:
            for key in cast("list[bytes]", client.keys(f"{self.settings.prefix}:{{*")):
                left = client.pttl(key) - round(seconds * 1000)
                client.pexpire(key, max(left, 0))
        for log in self.logs:
            log._swept_at -= seconds  # pyright: ignore[reportPrivateUsage]
        return True

    async def lose_data(self) -> bool:
        self.server.flush()
        return True

    def process_id(self, log: EventLog) -> str | None:
        return cast("RedisLog", log).fleet.process_id

    def now(self) -> float:
        return time.time() + self.offset
