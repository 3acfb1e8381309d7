"""Published updates in the program's own log: each once, redacted, and never on the publisher's account."""

import asyncio
import json
import logging
import threading
from collections.abc import Generator
from typing import Any

import pytest

from lg_streaming import StreamingSettings
from lg_streaming.hub import StreamHub
from lg_streaming.hub.update_logger import UpdateLogger
from lg_streaming.log import PendingUpdate
from lg_streaming.observability.logs import JsonFormatter
from lg_streaming.publisher import NO_SCOPE
from tests.hub.faulty import FaultyLog
from tests.hub.helpers import PATIENCE, until

updates_logger = logging.getLogger("lg_streaming.updates")


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO, "lg_streaming.updates")
    return caplog


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "lg_streaming.updates"]


def hub_that_logs(**more: Any) -> StreamHub:
    return StreamHub(StreamingSettings(log_events=True), **more)


@pytest.mark.row("FLOW-11")
@pytest.mark.parametrize("blocking", [False, True])
async def test_each_update_is_logged_once(logged: pytest.LogCaptureFixture, blocking: bool) -> None:
    hub = hub_that_logs(log=FaultyLog()) if blocking else hub_that_logs()
    readers = [hub.subscribe("exec-1") for _ in range(3)]
    hub.open("exec-1")
    hub.publish("exec-1", "note", {"text": "a\nb", "rows": 3})
    hub.emitter("exec-1").token("Hel")
    await hub.close("exec-1")
    await hub.aclose()
    assert len(readers) == 3
    start, note, token, end = messages(logged)
    assert start.startswith("update execution_id='exec-1' type='workflow_start' data={\"run_id\":")
    assert note == r"""update execution_id='exec-1' type='note' data={"text":"a\nb","rows":3}"""
    assert '"content":"Hel"' in token
    assert "type='workflow_complete'" in end


@pytest.mark.row("FLOW-11")
async def test_without_the_setting_nothing_is_logged(logged: pytest.LogCaptureFixture) -> None:
    hub = StreamHub()
    threads = threading.active_count()
    hub.publish("e", "note")
    assert threading.active_count() <= threads + 1  # the timer's
    await hub.aclose()
    assert messages(logged) == []


async def test_what_is_redacted_is_not_in_the_log_and_what_is_long_is_cut(logged: pytest.LogCaptureFixture) -> None:
    def redact(name: str, data: Any) -> Any:
        return {"shown": "***"} if name == "secret" else data

    hub = hub_that_logs(redact=redact)
    hub.publish("e", "secret", {"password": "hunter2"})
    hub.publish("e", "long", "x" * 50_000)
    await hub.aclose()
    _, secret, long = messages(logged)
    assert secret.endswith('data={"shown":"***"}')
    assert "hunter2" not in logged.text
    assert len(long) < 1_100
    assert long.endswith("x…")


async def test_a_record_has_fields_and_nobody_can_forge_a_line(logged: pytest.LogCaptureFixture) -> None:
    hub = hub_that_logs()
    hub.publish("e", "x\nforged", {"text": "hidden"})
    await hub.aclose()
    record = next(each for each in logged.records if "forged" in each.getMessage())
    line = JsonFormatter().format(record)
    assert "\n" not in line
    fields = json.loads(line)
    assert (fields["event"], fields["execution_id"], fields["update_type"]) == ("update", "e", "x\nforged")
    assert [name for name, value in fields.items() if "hidden" in str(value)] == ["message"]


class Slow(logging.Handler):
    """A handler that blocks until it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.go = threading.Event(), threading.Event()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.entered.set()
        self.go.wait(PATIENCE)
        self.lines.append(record.getMessage())


@pytest.fixture
def slow() -> Generator[Slow]:
    handler = Slow()
    before = updates_logger.level
    updates_logger.addHandler(handler)
    updates_logger.setLevel(logging.INFO)
    yield handler
    handler.go.set()
    updates_logger.setLevel(before)
    updates_logger.removeHandler(handler)


async def test_a_slow_handler_holds_up_no_publisher(slow: Slow) -> None:
    hub = hub_that_logs()
    for number in range(100):
        hub.publish("e", "note", number)
    await until(slow.entered.is_set)
    assert slow.lines == []
    slow.go.set()
    await hub.aclose()
    assert len(slow.lines) == 101, "what waited is written before the hub is closed"


class Publishing(logging.Handler):
    """Publishes what is logged, to the very execution it comes from."""

    def __init__(self, hub: StreamHub) -> None:
        super().__init__()
        self._hub = hub

    def emit(self, record: logging.LogRecord) -> None:
        self._hub.publish("e", "log", {"message": record.getMessage()})


async def test_a_handler_may_publish_without_going_in_circles() -> None:
    hub = hub_that_logs()
    handler = Publishing(hub)
    updates_logger.addHandler(handler)
    updates_logger.setLevel(logging.INFO)
    try:
        for number in range(5):
            hub.publish("e", "note", number)
        logger = hub.writer.logger
        assert logger is not None
        await asyncio.to_thread(logger.close, PATIENCE)
    finally:
        updates_logger.setLevel(logging.NOTSET)
        updates_logger.removeHandler(handler)
    found = await hub.log.read("e", 0, 100)
    assert found is not None
    assert [record.type for record in found.records].count("log") == 6  # the start's, and one for each note
    await hub.aclose()


def test_what_is_too_much_is_left_out_and_counted(slow: Slow) -> None:
    logger = UpdateLogger(max_waiting=10)
    draft = PendingUpdate("note", NO_SCOPE, "medium", 0.0, b'{"type":"note","data":1,"metadata":{"timestamp":"x"')
    logger.put("e", [draft])
    assert slow.entered.wait(PATIENCE)
    for _ in range(30):
        logger.put("e", [draft])
    slow.go.set()
    logger.close(PATIENCE)
    assert len(slow.lines) == 1 + 10 + 1
    assert slow.lines[-1] == "20 updates were not logged: handlers of the log are too slow"


def test_nothing_waits_where_nobody_listens() -> None:
    updates_logger.setLevel(logging.WARNING)
    try:
        logger = UpdateLogger()
        logger.put("e", [PendingUpdate("note", NO_SCOPE, "medium", 0.0, b"{")])
        assert logger._thread is None  # pyright: ignore[reportPrivateUsage]
        logger.close(PATIENCE)
    finally:
        updates_logger.setLevel(logging.NOTSET)
