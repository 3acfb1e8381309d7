"""Each option of `@stream_token` has its effect."""

import asyncio
import contextvars
import json
import re
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from reactivex.testing import TestScheduler

from lg_streaming import StreamingSettings, current_emitter, stream_token, streaming_options
from lg_streaming.errors import (
    CODES,
    DeadPeerError,
    LoginTimeoutError,
    SlowReaderError,
    StreamingConfigError,
    StreamingError,
    TokenStreamingError,
    WebSocketError,
)
from lg_streaming.module import StreamingModule
from lg_streaming.pipeline import TokenFilter
from lg_streaming.pipeline.token_options import TokenOptions
from lg_streaming.settings import TokenDefaults
from lg_streaming.testing import ScriptedChatModel
from tests.capture.graphs import State, graph_of, read
from tests.pipeline.streams import Update, feed, texts, tokens

WORDS = ("one ", "two ", "three ", "four ", "five ", "six ", "seven")


def contents(data: list[Update]) -> list[str]:
    return [each["content"] for each in data]


@pytest.mark.row("HIVE-22")
@pytest.mark.row("HIVE-D10")
async def test_a_full_buffer_leaves_at_once(streaming: StreamingModule, clock: TestScheduler) -> None:
    after: list[list[str]] = []

    def look() -> None:
        after.append(texts(streaming.hub))

    feed(streaming, *WORDS, between=look, buffer_size=3, batch_size=3, first_token_immediately=False)
    assert after == [[], [], *[["one two three "]] * 3, *[["one two three ", "four five six "]] * 2]
    assert texts(streaming.hub) == ["one two three ", "four five six ", "seven"]


@pytest.mark.row("HIVE-23")
@pytest.mark.row("HIVE-82")
@pytest.mark.row("HIVE-54")
async def test_tokens_are_joined_into_batches(streaming: StreamingModule, clock: TestScheduler) -> None:
    feed(streaming, *WORDS, batch_size=3, first_token_immediately=False)
    assert tokens(streaming.hub) == [
        {"content": "one two three ", "index": 0, "role": "ai", "batch_size": 3},
        {"content": "four five six ", "index": 3, "role": "ai", "batch_size": 3},
        {"content": "seven", "index": 6, "role": "ai"},
    ]


@pytest.mark.row("HIVE-24")
@pytest.mark.row("HIVE-D10")
async def test_a_lone_token_waits_one_interval(streaming: StreamingModule, clock: TestScheduler) -> None:
    @stream_token(flush_interval=0.5, first_token_immediately=False)
    def node() -> None:
        current_emitter().token("alone")
        clock.advance_by(0.49)
        assert texts(streaming.hub) == []
        clock.advance_by(0.02)
        assert texts(streaming.hub) == ["alone"]
        clock.advance_by(0.3)
        current_emitter().token("again")  # its time begins with itself
        clock.advance_by(0.4)
        assert texts(streaming.hub) == ["alone"]
        clock.advance_by(0.11)
        assert texts(streaming.hub) == ["alone", "again"]

    with streaming.execution("e"):
        node()


async def test_what_left_by_size_does_not_shorten_the_next_ones_time(
    streaming: StreamingModule, clock: TestScheduler
) -> None:
    @stream_token(flush_interval=0.5, buffer_size=2, first_token_immediately=False)
    def node() -> None:
        current_emitter().token("a")
        clock.advance_by(0.4)
        current_emitter().token("b")
        current_emitter().token("c")
        clock.advance_by(0.4)  # past the time of "a"
        assert texts(streaming.hub) == ["ab"]
        clock.advance_by(0.2)
        assert texts(streaming.hub) == ["ab", "c"]

    with streaming.execution("e"):
        node()


@pytest.mark.row("HIVE-24")
@pytest.mark.row("HIVE-D9")
async def test_the_nodes_end_lets_out_the_rest_before_it(streaming: StreamingModule, clock: TestScheduler) -> None:
    run = feed(streaming, *WORDS, buffer_size=1000, batch_size=1000, flush_interval=60.0)
    assert run.texts() == {"node": "".join(WORDS)}
    assert run.types[-2:] == ["node_complete", "workflow_complete"]


async def test_a_failing_nodes_text_leaves_too(streaming: StreamingModule, clock: TestScheduler) -> None:
    @stream_token
    def node() -> None:
        current_emitter().token("so ")
        current_emitter().token("far")
        raise ValueError("no further")

    with pytest.raises(ValueError, match="no further"), streaming.execution("e"):
        node()
    assert texts(streaming.hub) == ["so ", "far"]


async def test_the_first_token_of_each_message_leaves_at_once(streaming: StreamingModule, clock: TestScheduler) -> None:
    @stream_token
    def node() -> None:
        emitter = current_emitter()
        one, two = emitter.scoped(message_id="1"), emitter.scoped(message_id="2")
        one.thinking("hm")
        one.token("a")
        assert texts(streaming.hub, "e", "token", "thinking") == ["hm", "a"]
        one.token("b")
        assert texts(streaming.hub) == ["a"]
        two.token("c")
        assert texts(streaming.hub) == ["a", "b", "c"]

    with streaming.execution("e"):
        node()


@pytest.mark.parametrize(
    ("format", "data"),
    [
        ("text", {"content": "Hello", "index": 2, "role": "ai", "batch_size": 2}),
        (
            "structured",
            {"content": "Hello", "index": 2, "role": "ai", "batch_size": 2, "total_tokens": 4, "message_id": "m"},
        ),
    ],
)
@pytest.mark.row("HIVE-25")
@pytest.mark.row("HIVE-D6")
async def test_formats(streaming: StreamingModule, clock: TestScheduler, format: Any, data: Update) -> None:
    @stream_token(format=format, filter={"pattern": "[a-z]"})
    def node() -> None:
        emitter = current_emitter().scoped(message_id="m")
        for word in ("x", "-", "Hel", "lo"):
            emitter.token(word)

    with streaming.execution("e"):
        node()
    assert tokens(streaming.hub)[1] == data


@pytest.mark.row("HIVE-25")
async def test_the_json_format_has_the_object_as_a_string_and_the_text_as_ever(streaming: StreamingModule) -> None:
    feed(streaming, "Hel", "lo", format="json", first_token_immediately=False)
    (data,) = tokens(streaming.hub)
    assert json.loads(data.pop("json")) == {**data, "total_tokens": 2}
    assert data == {"content": "Hello", "index": 0, "role": "ai", "batch_size": 2}


@pytest.mark.row("HIVE-26")
@pytest.mark.row("HIVE-D6")
async def test_metadata_comes_when_asked_for(streaming: StreamingModule) -> None:
    for include in (False, True):

        @stream_token(include_metadata=include)
        async def node(state: State) -> Update:
            await ScriptedChatModel(answers=["a b c"]).ainvoke("go")
            return {}

        await graph_of(node).ainvoke({"topic": ""}, streaming.config({"metadata": {"secret": "s"}}, execution_id="e"))
    without, with_it = [each.data for each in (await all_of(streaming)).of("token") if each.data["index"] == 0]
    assert "metadata" not in without
    metadata = with_it["metadata"]
    assert metadata["model"] == "ScriptedChatModel"
    assert (metadata["langgraph_node"], metadata["langgraph_step"]) == ("node", 1)
    assert "secret" not in metadata


async def all_of(streaming: StreamingModule) -> Any:
    return await read(streaming, "e", follow=True)


@pytest.mark.row("HIVE-27")
async def test_a_processor_changes_what_leaves(streaming: StreamingModule, clock: TestScheduler) -> None:
    told: list[Mapping[str, Any]] = []

    def shout(token: str, metadata: Mapping[str, Any]) -> str:
        told.append(metadata)
        return token.upper() if token != "two " else ""

    run = feed(streaming, *WORDS, processor=shout, filter={"exclude_whitespace": True, "pattern": "[^s]even|o"})
    assert run.texts() == {"node": "ONE FOUR "}
    assert told[0] == {"type": "token", "index": 0, "role": "ai", "execution_id": "e", "node_id": "node"}
    assert [each["index"] for each in told] == [0, 1, 3]


def test_a_processor_may_wait_for_a_thread_that_flushes() -> None:
    streaming, ended = StreamingModule(), list[bool]()

    def waiting(token: str, metadata: Mapping[str, Any]) -> str:
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(current_emitter().log, "info", "between")
        )
        thread.start()
        thread.join(5)
        ended.append(not thread.is_alive())
        return token

    run = feed(streaming, *WORDS[:2], processor=waiting)
    asyncio.run(streaming.aclose())
    assert ended == [True, True]
    assert run.texts() == {"node": "one two "}


@pytest.mark.parametrize("result", [None, 3, b"bytes"])
@pytest.mark.row("HIVE-27")
async def test_a_processor_that_gives_no_text(streaming: StreamingModule, result: Any) -> None:
    def odd(token: str, metadata: Mapping[str, Any]) -> Any:
        return result if token == "a" else token

    run = feed(streaming, "a", "b", processor=odd)
    assert run.texts() == {"node": "ab"}
    assert run.one("error").data["type"] == "TypeError"


class OddError(BaseException):
    pass


@pytest.mark.parametrize("error", [ValueError("bad word"), OddError("odd"), SystemExit(1)])
@pytest.mark.row("HIVE-27")
async def test_a_raising_processor_is_an_error_update(streaming: StreamingModule, error: BaseException) -> None:
    def raising(token: str, metadata: Mapping[str, Any]) -> str:
        if "e" in token:
            raise error
        return token

    run = feed(streaming, *WORDS, processor=raising)
    assert run.texts() == {"node": "".join(WORDS)}
    first, last = run.of("error")
    assert first.data["option"] == "processor"
    assert first.data["code"] == "processor_failed"
    assert first.data["node_id"] == "node"
    assert first.data["message"] == str(error)
    assert last.data["count"] == 4
    assert run.final == "workflow_complete"


@pytest.mark.parametrize(
    ("conditions", "left"),
    [
        ({}, ["a", " ", "bc", "\n\n", "def"]),
        ({"min_length": 2}, ["bc", "\n\n", "def"]),
        ({"max_length": 2}, ["a", " ", "bc", "\n\n"]),
        ({"exclude_whitespace": True}, ["a", "bc", "def"]),
        ({"pattern": "c|e"}, ["bc", "def"]),
        ({"pattern": re.compile("^B", re.IGNORECASE)}, ["bc"]),
        ({"min_length": 1, "max_length": 2, "exclude_whitespace": True, "pattern": "[a-z]"}, ["a", "bc"]),
    ],
)
@pytest.mark.parametrize("made", [TokenFilter.from_value, dict])
@pytest.mark.row("HIVE-28")
async def test_a_filter(streaming: StreamingModule, conditions: Update, left: list[str], made: Any) -> None:
    feed(streaming, "a", " ", "bc", "\n\n", "def", filter=made(conditions), batch_size=1)
    assert texts(streaming.hub) == left
    assert streaming.tokens.statistics().total_tokens == 5


@pytest.mark.row("HIVE-D12")
async def test_a_pattern_keeps_no_state(streaming: StreamingModule) -> None:
    feed(streaming, *["ab"] * 5, filter={"pattern": re.compile("a")}, batch_size=1)
    assert texts(streaming.hub) == ["ab"] * 5


@pytest.mark.row("HIVE-17")
async def test_disabled_by_the_decorator_or_the_settings(streaming: StreamingModule) -> None:
    def node() -> str:
        current_emitter().token("x")
        return "done"

    assert stream_token(enabled=False)(node) is not None
    with streaming.execution("e"):
        assert stream_token(enabled=False)(node)() == "done"
    async with StreamingModule(StreamingSettings(token_defaults=TokenDefaults(enabled=False))) as off:
        with off.execution("e"):
            assert stream_token(node)() == "done"
            assert stream_token(enabled=True)(node)() == "done"
        assert texts(off.hub) == ["x"]
    assert texts(streaming.hub) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"buffer_size": 0}, r"buffer_size=…\) is a whole number of tokens from 1 to 1000, not 0$"),
        ({"buffer_size": 1001}, r"buffer_size=…\) is a whole number of tokens from 1 to 1000, not 1001$"),
        ({"buffer_size": "50"}, "from 1 to 1000, not '50'$"),
        ({"buffer_size": 1.5}, "buffer_size"),
        ({"buffer_size": True}, "buffer_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 1001}, "batch_size"),
        ({"flush_interval": -0.1}, "flush_interval"),
        ({"flush_interval": 61}, "flush_interval"),
        ({"flush_interval": float("nan")}, "flush_interval"),
        ({"format": "xml"}, r"format=…\): .*'text', 'json' or 'structured', not 'xml'"),
        ({"include_metadata": "yes"}, "include_metadata"),
        ({"first_token_immediately": 1}, "first_token_immediately"),
        ({"enabled": "no"}, "enabled"),
        ({"processor": "upper"}, "processor is a function"),
        ({"filter": 7}, "TokenFilter or a mapping"),
        ({"filter": {"minLength": 1}}, "filter has no minLength: it has min_length, max_length"),
        ({"filter": {"min_length": -1}}, "min_length"),
        ({"filter": {"min_length": 3, "max_length": 2}}, "no token is from 3 to 2"),
        ({"filter": {"exclude_whitespace": 1}}, "exclude_whitespace"),
        ({"filter": {"pattern": "("}}, "no regular expression"),
        ({"filter": {"pattern": b"a"}}, "not bytes"),
        ({"filter": {"pattern": 5}}, "no regular expression"),
    ],
)
@pytest.mark.row("HIVE-13")
@pytest.mark.row("HIVE-84")
def test_a_bad_value_is_refused_at_decoration(options: dict[str, Any], told: str) -> None:
    with pytest.raises(TokenStreamingError, match=told) as raised:
        stream_token(**options)
    assert isinstance(raised.value, StreamingConfigError)
    assert isinstance(raised.value, StreamingError)


@pytest.mark.row("HIVE-84")
def test_the_seeds_errors_are_there() -> None:
    assert issubclass(TokenStreamingError, StreamingError)
    assert issubclass(WebSocketError, StreamingError)
    assert {4080, 4400, 4401} == {each.code for each in (LoginTimeoutError, SlowReaderError, DeadPeerError)}
    assert all(issubclass(each, WebSocketError) for each in (LoginTimeoutError, SlowReaderError, DeadPeerError))
    assert {4080, 4400, 4401} <= CODES.keys()


@pytest.mark.row("HIVE-87")
def test_options_can_be_made_and_read() -> None:
    assert TokenOptions.from_arguments(buffer_size=7) == TokenOptions(chosen={"buffer_size": 7})
    options = streaming_options(stream_token(buffer_size=7, filter={"min_length": 2})(lambda: None))
    assert options is not None
    assert options.token == TokenOptions(chosen={"buffer_size": 7}, filter=TokenFilter(min_length=2))
    with pytest.raises(TokenStreamingError, match="no option 'bufferSize'"):
        TokenOptions.from_arguments(bufferSize=7)


@pytest.mark.row("HIVE-12", "HIVE-D2")
async def test_the_defaults_are_looked_up_when_the_node_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    @stream_token(first_token_immediately=False)
    def node() -> None:
        for word in WORDS:
            current_emitter().token(word)

    monkeypatch.setenv("LG_STREAMING_TOKEN_DEFAULTS__BATCH_SIZE", "2")
    async with StreamingModule() as streaming:
        with streaming.execution("a"):
            node()
        streaming.hub.configure("b", token={"batch_size": 4})
        with streaming.execution("b"):
            node()
        with streaming.execution("c"):
            stream_token(batch_size=1)(node)()
        assert contents(tokens(streaming.hub, "a"))[0] == "one two "
        assert contents(tokens(streaming.hub, "b"))[0] == "one two three four "
        assert contents(tokens(streaming.hub, "c")) == list(WORDS)


@pytest.mark.row("HIVE-80")
async def test_a_running_node_follows_a_change(streaming: StreamingModule, clock: TestScheduler) -> None:
    @stream_token(first_token_immediately=False)
    def node() -> None:
        emitter = current_emitter()
        configure = streaming.hub.configure
        emitter.token("a")
        configure("e", token={"flush_interval": 5.0})
        emitter.token("b")  # what was held before leaves
        clock.advance_by(4.9)
        assert texts(streaming.hub) == ["a"]
        clock.advance_by(0.2)
        assert texts(streaming.hub) == ["a", "b"]
        emitter.token("b'")
        configure("e", token={"flush_interval": 0.5})
        emitter.token("b, ")  # held for less than what was held before it
        clock.advance_by(0.51)
        assert texts(streaming.hub) == ["a", "b", "b'", "b, "]
        configure("e", token={"flush_interval": 5.0, "buffer_size": 2, "batch_size": 1})
        emitter.token("c")
        emitter.token("d")
        assert texts(streaming.hub) == ["a", "b", "b'", "b, ", "c", "d"]
        configure("another", token={"buffer_size": 1})
        emitter.token("e")
        assert texts(streaming.hub) == ["a", "b", "b'", "b, ", "c", "d"]
        configure("e", token={"enabled": False})
        emitter.token("lost")
        configure("e", token={"enabled": True})

    with streaming.execution("e"):
        node()
    assert texts(streaming.hub) == ["a", "b", "b'", "b, ", "c", "d", "e"]


async def test_roles_are_not_joined_and_updates_stay_small(streaming: StreamingModule, clock: TestScheduler) -> None:
    @stream_token(first_token_immediately=False)
    def node() -> None:
        emitter = current_emitter()
        emitter.token("a", role="user")
        emitter.token("b")
        for letter in "cde":
            emitter.token(letter * 4_000)

    with streaming.execution("e"):
        node()
    assert [(each["role"], each["content"][0], len(each["content"])) for each in tokens(streaming.hub)] == [
        ("user", "a", 1),
        ("ai", "b", 8_001),
        ("ai", "e", 4_000),
    ]


async def test_what_is_said_after_the_nodes_end_leaves_at_once(
    streaming: StreamingModule, clock: TestScheduler
) -> None:
    @stream_token
    def node() -> Any:
        emitter = current_emitter()
        emitter.token("in time, ")
        return emitter

    with streaming.execution("e"):
        emitter = node()
        emitter.token("late, ")
        emitter.token("later")
        assert texts(streaming.hub) == ["in time, ", "late, ", "later"]
