"""Make the log that the settings name."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from lg_streaming.errors import MissingExtraError
from lg_streaming.log.memory import MemoryLog

if TYPE_CHECKING:
    from collections.abc import Callable

    from lg_streaming.log.base import EventLog
    from lg_streaming.settings import StreamingSettings

__all__ = ["make_log"]


def make_log(settings: StreamingSettings, *, clock: Callable[[], float], monotonic: Callable[[], float]) -> EventLog:
    """Return the log at ``settings.log``. A log on Redis connects with its first use.

    Args:
        settings: All settings.
        clock: Seconds since 1970, for a log in this process's memory.
        monotonic: Seconds that never go back, for a log in this process's memory.

    Raises:
        StreamingConfigError: If the URL cannot be used.
        MissingExtraError: If the log needs ``pip install 'lg-streaming[redis]'``.
    """
    if settings.log == "memory://":
        return MemoryLog(settings.retention, clock=clock, monotonic=monotonic)
    if find_spec("redis") is None:
        raise MissingExtraError(f"log={settings.log!r} needs the package redis: pip install 'lg-streaming[redis]'")
    from lg_streaming.log.redis import RedisLog  # noqa: PLC0415 (needs the extra `redis`)

    return RedisLog.from_settings(settings)
