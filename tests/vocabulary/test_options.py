"""Durations, counts and rates are refused in the same words wherever they are taken."""

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from lg_streaming import stream_event, stream_progress, stream_token
from lg_streaming.activity import AgentStream, TaskStream
from lg_streaming.backoff import Backoff
from lg_streaming.checks import Number, count, rate, seconds
from lg_streaming.client.config import ClientConfig
from lg_streaming.errors import StreamingError
from lg_streaming.gateway import sse_response
from lg_streaming.hub import StreamHub
from lg_streaming.hub.sink import SendPolicy
from lg_streaming.settings import (
    CompressionSettings,
    EventDefaults,
    GatewaySettings,
    LimitSettings,
    ProgressDefaults,
    RetentionSettings,
    StreamingSettings,
    TokenDefaults,
)
from lg_streaming.sinks import LoggingSink, WebhookSink
from lg_streaming.views import TokenStreamingService
from lg_streaming.views.update_operators import aggregate_tokens, batched

NEVER: Final = (-1, math.nan, -math.inf, True)
"""Values that no option accepts."""
REFUSED = (StreamingError, ValueError, ValidationError)

ZERO_MEANS_SOMETHING: Final = {
    "leeway", "threshold", "level", "frame_interval", "idle_timeout", "cancel_grace", "flush_interval", "interval",
    "precision",
}  # fmt: skip


def numeric(model: type[BaseModel]) -> list[str]:
    kinds: dict[str, set[Any]] = {
        name: {each.annotation, *get_args(each.annotation)} for name, each in model.model_fields.items()
    }
    return [name for name, types in kinds.items() if types & {int, float} and bool not in types]


MODELS = (
    LimitSettings, GatewaySettings, RetentionSettings, CompressionSettings,
    TokenDefaults, EventDefaults, ProgressDefaults,
)  # fmt: skip
SETTINGS = [(model, name) for model in MODELS for name in numeric(model)]


@pytest.mark.parametrize(("model", "name"), SETTINGS, ids=lambda each: getattr(each, "__name__", each))
def test_every_number_of_the_settings(model: type[BaseModel], name: str) -> None:
    for value in (*NEVER, math.inf, *(() if name in ZERO_MEANS_SOMETHING else (0,))):
        with pytest.raises(ValidationError) as caught:
            model.model_validate({name: value})
        (error,) = caught.value.errors()
        assert error["loc"] == (name,)
        assert " a number" in error["msg"] or " a whole number" in error["msg"]
        assert error["msg"].startswith("is ")
        assert error["msg"].endswith(f", not {value!r}")
    if name in ZERO_MEANS_SOMETHING:
        model.model_validate({name: 0})
    if type(None) in get_args(model.model_fields[name].annotation):
        assert getattr(model.model_validate({name: None}), name) is None


def test_numbers_may_come_as_text_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LG_STREAMING_RETENTION__TTL", "60")
    assert StreamingSettings().retention.ttl == 60.0
    monkeypatch.setenv("LG_STREAMING_RETENTION__TTL", "0")
    with pytest.raises(ValidationError, match="is a number of seconds above 0, not a str"):
        StreamingSettings()


@pytest.mark.parametrize("value", ["0/minute", "-1/second", "often", "", "5"])
@pytest.mark.parametrize("name", ["connects_per_address", "failed_logins_per_address"])
def test_a_rate_of_the_settings(name: str, value: str) -> None:
    with pytest.raises(ValidationError, match=r"is a rate above 0, such as '10/second' .*, or None for no limit, not "):
        LimitSettings.model_validate({name: value})
    assert getattr(LimitSettings.model_validate({name: None}), name) is None


CALLS: list[tuple[str, Callable[[StreamHub, Any], object], bool]] = [
    ("idle_timeout", lambda hub, value: hub.open("e", idle_timeout=value), True),
    ("idle_timeout", lambda hub, value: hub.create(idle_timeout=value), True),
    ("max_duration", lambda hub, value: sse_response(hub, "e", max_duration=value), False),
    ("heartbeat_interval", lambda hub, value: sse_response(hub, "e", heartbeat_interval=value), False),
    ("timeout_s", lambda hub, value: hub.emitter("e").human_prompt("?", timeout_s=value), False),
    ("eta_s", lambda hub, value: hub.emitter("e").progress(1, 2, eta_s=value), True),
    ("eta_s", lambda hub, value: hub.emitter("e").workflow_progress(1, 2, eta_s=value), True),
    ("completed_nodes", lambda hub, value: hub.emitter("e").workflow_progress(value, 2), True),
    ("total_nodes", lambda hub, value: hub.emitter("e").workflow_progress(1, value), True),
    ("progress", lambda hub, value: hub.emitter("e").milestone("half", value), True),
    ("progress", lambda hub, value: hub.emitter("e").milestone(value), True),
    ("attempt", lambda hub, value: hub.emitter("e").node_start("n", attempt=value), False),
    ("input_tokens", lambda hub, value: hub.emitter("e").usage(value, 1), True),
    ("output_tokens", lambda hub, value: hub.emitter("e").usage(1, value), True),
    ("total_tokens", lambda hub, value: hub.emitter("e").usage(1, 1, total_tokens=value), True),
    ("cost", lambda hub, value: hub.emitter("e").usage(1, 1, cost=value), True),
    ("interval", lambda hub, value: TaskStream(hub.emitter("e"), interval=value), True),
    ("interval", lambda hub, value: AgentStream(hub.emitter("e"), interval=value), True),
    ("buffer_size", lambda hub, value: AgentStream(hub.emitter("e"), buffer_size=value), True),
    ("interval", lambda hub, value: TokenStreamingService(hub).get_token_stats(interval=value), False),
    ("size", lambda hub, value: batched(value), False),
    ("debounce", lambda hub, value: batched(1, value), True),
    ("quiet", lambda hub, value: aggregate_tokens(value), True),
    ("batch_size", lambda hub, value: SendPolicy(batch_size=value), False),
    ("interval", lambda hub, value: SendPolicy(interval=value), True),
    ("timeout", lambda hub, value: SendPolicy(timeout=value), False),
    ("attempts", lambda hub, value: SendPolicy(attempts=value), False),
    ("timeout", lambda hub, value: WebhookSink("http://h", timeout=value), False),
    ("interval", lambda hub, value: WebhookSink("http://h", batch_interval=value), True),
    ("level", lambda hub, value: LoggingSink(level=value), False),
    ("delay", lambda hub, value: Backoff(delay=value), True),
    ("max_delay", lambda hub, value: Backoff(max_delay=value), True),
    ("factor", lambda hub, value: Backoff(factor=value), False),
    ("reconnect_delay", lambda hub, value: ClientConfig(url="http://h", reconnect_delay=value), True),
    ("connect_timeout", lambda hub, value: ClientConfig(url="http://h", connect_timeout=value), False),
    ("silence_timeout", lambda hub, value: ClientConfig(url="http://h", silence_timeout=value), False),
    ("max_event_bytes", lambda hub, value: ClientConfig(url="http://h", max_event_bytes=value), False),
    ("max_reconnect_attempts", lambda hub, value: ClientConfig(url="http://h", max_reconnect_attempts=value), True),
    ("buffer_size", lambda hub, value: stream_token(buffer_size=value), False),
    ("batch_size", lambda hub, value: stream_token(batch_size=value), False),
    ("flush_interval", lambda hub, value: stream_token(flush_interval=value), True),
    ("buffer_size", lambda hub, value: stream_event(buffer_size=value), False),
    ("flush_interval", lambda hub, value: stream_event(flush_interval=value), True),
    ("interval", lambda hub, value: stream_progress(interval=value), True),
    ("milestones", lambda hub, value: stream_progress(milestones=[value]), False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "call", "takes_zero"), CALLS, ids=lambda each: each if isinstance(each, str) else "")
async def test_every_number_of_a_call(name: str, call: Callable[[StreamHub, Any], object], takes_zero: bool) -> None:
    hub = StreamHub()
    for value in (*NEVER, *(() if takes_zero else (0,))):
        with pytest.raises(REFUSED) as caught:
            call(hub, value)
        text = str(caught.value)
        assert name in text
        assert " is a number" in text or " is a whole number" in text
        assert f", not {value!r}" in text
    if takes_zero:
        call(hub, 0)
    await hub.aclose()


@given(st.floats() | st.integers() | st.booleans() | st.none() | st.text() | st.decimals())
def test_a_duration_is_finite_and_above_nothing(value: Any) -> None:
    fits = (
        isinstance(value, (int, float, Decimal))
        and not isinstance(value, bool)
        and not (value.is_nan() if isinstance(value, Decimal) else math.isnan(value))
        and not math.isinf(value)
        and value > 0
    )
    assert seconds().accepts(value) == fits
    assert seconds(none="for never").accepts(value) == (fits or value is None)
    assert count("things").accepts(value) == (fits and isinstance(value, int))


def test_numbers_of_other_kinds_are_numbers() -> None:
    assert count("things").accepts(np.int64(3))
    assert seconds().accepts(np.float32(0.5))
    assert not count("things").accepts(np.bool_(True))
    assert not count("things").accepts(3.0)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (seconds(), "a number of seconds above 0"),
        (seconds(none="for never", most=60), "a number of seconds above 0, up to 60, or None for never"),
        (seconds(zero="holds none"), "a number of seconds from 0 on (0 holds none)"),
        (count("updates"), "a whole number of updates from 1 on"),
        (count("bytes", least=1024), "a whole number of bytes from 1024 on"),
        (count("tokens", most=1000), "a whole number of tokens from 1 to 1000"),
        (rate("updates", none="for no limit"), "a number of updates a second above 0, or None for no limit"),
        (Number(least=-math.inf), "a number that is finite"),
    ],
)
def test_the_words(number: Number, expected: str) -> None:
    assert number.expected == expected
