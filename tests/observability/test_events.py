"""Events of a gateway, in the log and for an observer."""

import asyncio
import dataclasses
import io
import json
import logging
import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from lg_streaming.errors import StreamingConfigError
from lg_streaming.observability.events import (
    ClientConnected,
    ClientDisconnected,
    ClientRefused,
    ExecutionSubscribed,
    ExecutionUnsubscribed,
    GapReported,
    GatewayEvent,
    GatewayEvents,
    GatewayFailed,
    MessageReceived,
    RoomJoined,
    RoomLeft,
    SubscriptionResumed,
    UpdatesMerged,
    UpdatesSent,
)
from lg_streaming.observability.logs import FIELDS, JsonFormatter, log_event

WHO: dict[str, Any] = {"connection_id": "c1", "transport": "sse", "subject": "alice"}
EVENTS: list[GatewayEvent] = [
    ClientConnected(**WHO),
    ClientDisconnected(**WHO, code=4400, reason="slow", duration_s=1.5),
    ClientRefused(connection_id="", transport="socketio", code=4010, reason="a token is required"),
    ExecutionSubscribed(**WHO, execution_id="e", recovered=False),
    ExecutionUnsubscribed(**WHO, execution_id="e", reason="ended"),
    SubscriptionResumed(**WHO, execution_id="e", recovered=True),
    RoomJoined(**WHO, room_id="r"),
    RoomLeft(**WHO, room_id="r"),
    MessageReceived(**WHO, message_name="ping", duration_s=0.25),
    UpdatesSent(**WHO, execution_id="e", updates=3, bytes=400),
    UpdatesMerged(**WHO, updates=7),
    GapReported(**WHO, execution_id="e", reason="evicted"),
    GatewayFailed(**WHO, code=5030, reason="the log cannot be reached", execution_id="e"),
]


@pytest.fixture
def lines() -> Generator[io.StringIO]:
    """Lines of a JSON handler of the gateway's logger, from DEBUG on."""
    written = io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("lg_streaming.gateway")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield written
    logger.setLevel(before)
    logger.removeHandler(handler)


def parsed(lines: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def test_an_observer_is_told_everything_in_order() -> None:
    told: list[GatewayEvent] = []
    events = GatewayEvents(told.append)
    for event in EVENTS:
        events.notify(event)
    assert told == EVENTS
    assert len({event.name for event in EVENTS}) == len(EVENTS)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.name)
def test_a_record_has_the_event_s_fields_as_json(event: GatewayEvent, lines: io.StringIO) -> None:
    GatewayEvents().notify(event)
    (line,) = parsed(lines)
    known = {name: value for name, value in dataclasses.asdict(event).items() if value is not None}
    assert {name: line[name] for name in line if name in FIELDS} == {"event": event.name, **known}
    assert line["level"] == logging.getLevelName(event.level).lower()
    assert line["logger"] == "lg_streaming.gateway"
    assert line["timestamp"].endswith("Z")
    assert line["message"].startswith(event.name)


def test_only_an_observer_or_a_log_at_debug_takes_an_event_a_page(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lg_streaming.gateway")
    assert not GatewayEvents().is_verbose
    assert GatewayEvents(lambda event: None).is_verbose
    for event in EVENTS:
        GatewayEvents().notify(event)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO", "INFO", "INFO", "WARNING"]
    caplog.set_level(logging.DEBUG, "lg_streaming.gateway")
    assert GatewayEvents().is_verbose


@pytest.mark.parametrize("error", [ValueError("mine"), asyncio.CancelledError(), SystemExit(1)], ids=repr)
def test_an_observer_that_raises_disturbs_nobody(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[GatewayEvent] = []

    def observer(event: GatewayEvent) -> None:
        calls.append(event)
        raise error

    events = GatewayEvents(observer)
    for event in EVENTS:
        events.notify(event)
    assert calls == EVENTS
    assert events.observer_errors == len(EVENTS)
    assert len([record for record in caplog.records if record.exc_info]) == 1, "the log is flooded"


def test_an_async_observer_is_refused() -> None:
    async def observer(event: GatewayEvent) -> None: ...

    class Observing:
        async def __call__(self, event: GatewayEvent) -> None: ...

    for wrong in (observer, Observing()):
        with pytest.raises(StreamingConfigError, match="give a plain function"):
            GatewayEvents(wrong)


def test_nobody_can_forge_a_line(lines: io.StringIO) -> None:
    forged = 'x\n{"level":"info","event":"gateway.client.connected"}'
    GatewayEvents().notify(ClientRefused(**WHO, code=4000, reason=forged))
    GatewayEvents().notify(MessageReceived(**WHO, message_name="a\r\nb\ud800"))
    GatewayEvents().notify(MessageReceived(**WHO, message_name="x" * 60_000))
    first, second, third = parsed(lines)
    assert first["reason"] == forged
    assert "\n" not in first["message"]
    assert second["message_name"] == "a\r\nb\ud800"
    assert len(third["message_name"]) == 501
    assert len(lines.getvalue()) < 4_000


def test_records_of_others_are_written_too(lines: io.StringIO) -> None:
    logger = logging.getLogger("lg_streaming.gateway")
    logger.warning("%d left", 3)
    try:
        raise ValueError("no")
    except ValueError:
        logger.exception("oh")
    plain, failed = parsed(lines)
    assert (plain["message"], plain["level"]) == ("3 left", "warning")
    assert set(plain) == {"timestamp", "level", "logger", "message"}
    assert failed["exception"].splitlines()[-1] == "ValueError: no"


def test_a_message_of_one_s_own_with_fields(lines: io.StringIO) -> None:
    logger = logging.getLogger("lg_streaming.gateway")
    log_event(logger, logging.INFO, "gateway.drained", "100 % of the clients are told", code=4500, subject=None)
    (line,) = parsed(lines)
    assert (line["event"], line["code"], line["message"]) == ("gateway.drained", 4500, "100 % of the clients are told")
    assert "subject" not in line


def test_the_page_has_every_event_with_its_level_and_fields(root: Path) -> None:
    page = (root / "docs" / "guide" / "observability.md").read_text(encoding="utf-8")
    told = {
        name: (level, frozenset(re.findall(r"`(\w+)`", about)))
        for names, level, about in re.findall(r"^\| (`gateway\.[^|]*) \| (\w+) \|(.*)\|$", page, re.MULTILINE)
        for name in re.findall(r"`([a-z.]+)`", names)
    }
    assert told == {
        event.name: (
            logging.getLevelName(event.level).lower(),
            frozenset(field.name for field in dataclasses.fields(event)) - WHO.keys(),
        )
        for event in EVENTS
    }
