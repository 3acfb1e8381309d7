"""The text arrives exactly, for any tokens, options and times."""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reactivex.testing import TestScheduler

from lg_streaming import StreamHub
from lg_streaming.pipeline import TokenFilter
from lg_streaming.timer import use_scheduler
from lg_streaming.views import TokenStreamingService
from tests.pipeline.streams import joined, seen


class Say(NamedTuple):
    text: str
    type: Literal["token", "thinking"]
    message: str | None


class Pass(NamedTuple):
    seconds: float


class Flush(NamedTuple):
    pass


class Change(NamedTuple):
    options: dict[str, Any]


SAYS = st.builds(
    Say,
    st.one_of(st.text(min_size=1, max_size=5), st.sampled_from([" ", "\n", "word ", "é", '"', "\0"])),
    st.sampled_from(["token", "token", "thinking"]),
    st.sampled_from([None, "m1", "m2"]),
)
PLAIN: dict[str, st.SearchStrategy[Any]] = {
    "buffer_size": st.integers(1, 12),
    "batch_size": st.integers(1, 6),
    "flush_interval": st.sampled_from([0.0, 0.05, 0.1, 1.0]),
    "first_token_immediately": st.booleans(),
}
FILTERS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "min_length": st.integers(0, 3),
        "exclude_whitespace": st.booleans(),
        "pattern": st.sampled_from(["[a-z]", "^w", "é|x"]),
    },
)
OPTIONS: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    PLAIN, optional={"format": st.sampled_from(["text", "json", "structured"]), "filter": FILTERS}
)
STEPS = st.lists(
    st.one_of(
        SAYS,
        SAYS,
        SAYS,
        st.builds(Pass, st.sampled_from([0.01, 0.049, 0.1, 2.0])),
        st.builds(Flush),
        st.builds(Change, st.fixed_dictionaries({}, optional=PLAIN)),
    ),
    min_size=4,  # short lists show little
    max_size=60,
)


def play(
    hub: StreamHub, service: TokenStreamingService, clock: TestScheduler, steps: list[Any], look: Callable[[], None]
) -> None:
    for step in steps:
        match step:
            case Say(text, type, message):
                service.stream_token("e", "n", text, type=type, message_id=message)
            case Pass(seconds):
                clock.advance_by(seconds)
            case Flush():
                service.flush_tokens("e", "n")
            case Change(options):
                hub.configure("e", token=options)
            case _:
                raise AssertionError(step)
        look()


@settings(max_examples=300)
@given(steps=STEPS, options=OPTIONS)
@pytest.mark.row("HIVE-22")
@pytest.mark.row("HIVE-23")
@pytest.mark.row("HIVE-24")
@pytest.mark.row("HIVE-D9")
@pytest.mark.row("HIVE-D13")
def test_the_joined_text_is_what_the_filter_let_through(steps: list[Any], options: dict[str, Any]) -> None:
    clock = TestScheduler()
    with use_scheduler(clock):
        hub = StreamHub()
        service = TokenStreamingService(hub)
        try:
            service.initialize_token_stream("e", "n", options)

            def look() -> None:
                (stream,) = service.get_active_token_streams()
                assert 0 <= stream.buffered < max(2, stream.buffer_size)

            play(hub, service, clock, steps, look)
            service.close_token_stream("e", "n")
            check(hub, [step for step in steps if isinstance(step, Say)], options)
            assert service.get_active_token_streams() == []
        finally:
            close(hub)


def close(hub: StreamHub) -> None:
    asyncio.run(hub.aclose())


def check(hub: StreamHub, said: list[Say], options: dict[str, Any]) -> None:
    chosen = TokenFilter.from_value(options.get("filter", {}))
    expected: dict[tuple[str, str | None], str] = defaultdict(str)
    for text, kind, message in said:
        if chosen.passes(text):
            expected[kind, message] += text
    updates = seen(hub)
    assert joined(updates) == dict(expected)
    assert [each.metadata.sequence_number for each in updates] == list(range(1, len(updates) + 1))
    for message in (None, "m1", "m2"):
        kinds = [kind for text, kind, about in said if about == message and chosen.passes(text)]
        sent = [each.type for each in updates if "content" in (each.data or {}) and each.metadata.message_id == message]
        assert [kind for kind, _ in itertools.groupby(kinds)] == [kind for kind, _ in itertools.groupby(sent)]


@given(steps=st.lists(st.one_of(SAYS, st.builds(Pass, st.sampled_from([0.01, 0.1, 0.5]))), max_size=40))
@pytest.mark.row("HIVE-24")
def test_no_token_waits_longer_than_the_interval(steps: list[Any]) -> None:
    clock = TestScheduler()
    with use_scheduler(clock):
        hub = StreamHub()
        service = TokenStreamingService(hub)
        try:
            service.initialize_token_stream("e", "n", {"flush_interval": 0.1, "buffer_size": 9})
            said = 0
            waiting: list[tuple[float, int]] = []

            def look() -> None:
                delivered = sum(each.data.get("batch_size", 1) for each in seen(hub) if each.type != "workflow_start")
                late = [number for at, number in waiting if number > delivered and clock.clock > at + 0.1001]  # pyright: ignore[reportOperatorIssue]
                assert not late

            for step in steps:
                play(hub, service, clock, [step], lambda: None)
                if isinstance(step, Say):
                    said += 1
                    waiting.append((float(clock.clock), said))  # pyright: ignore[reportArgumentType]
                look()
        finally:
            close(hub)
