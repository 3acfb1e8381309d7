"""The log that the settings name: made by the hub, unless it is given one."""

import sys
from types import ModuleType
from typing import Any, ClassVar

import pytest

from lg_streaming import StreamHub, StreamingModule, StreamingSettings
from lg_streaming.errors import MissingExtraError
from lg_streaming.log import MemoryLog


class SharedLog(MemoryLog):
    """Replacement of the log on Redis."""

    made: ClassVar[list["SharedLog"]] = []

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.closed = 0
        self.made.append(self)

    @classmethod
    def from_settings(cls, settings: StreamingSettings) -> "SharedLog":
        return cls(settings.log)

    async def aclose(self) -> None:
        self.closed += 1
        await super().aclose()


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> list[SharedLog]:
    module: Any = ModuleType("lg_streaming.log.redis")
    module.RedisLog = SharedLog
    monkeypatch.setitem(sys.modules, "lg_streaming.log.redis", module)
    monkeypatch.setattr(SharedLog, "made", [])
    return SharedLog.made


async def test_a_hub_makes_the_log_of_its_settings_and_closes_it(shared: list[SharedLog]) -> None:
    hub = StreamHub(StreamingSettings(log="redis://db.example"))
    assert hub.log is shared[0]
    assert shared[0].url == "redis://db.example"
    await hub.aclose()
    assert shared[0].closed == 1


async def test_a_module_takes_the_log_from_the_environment(
    shared: list[SharedLog], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LG_STREAMING_LOG", "rediss://db.example")
    async with StreamingModule() as streaming:
        assert streaming.hub.log is shared[0]
    assert shared[0].closed == 1


async def test_a_log_that_is_given_wins(shared: list[SharedLog]) -> None:
    given = MemoryLog()
    async with StreamingModule(StreamingSettings(log="redis://db.example"), log=given) as streaming:
        assert streaming.hub.log is given
    assert not shared


async def test_the_default_is_this_processs_memory() -> None:
    hub = StreamHub(clock=lambda: 5.0, monotonic=lambda: 6.0)
    assert isinstance(hub.log, MemoryLog)
    assert (hub.log.monotonic(), hub.log.fleet) == (6.0, None)
    await hub.aclose()


def test_without_the_package_redis_the_error_names_the_extra_and_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lg-streaming\[redis\]'") as caught:
        StreamHub(StreamingSettings(log="redis://:hunter2@db.example"))
    assert "hunter2" not in str(caught.value)
