"""An update over `limits.update_bytes` leaves: text in several that join, all else shortened. Nothing is lost."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from lg_streaming import StreamingModule, current_emitter, stream_event, stream_token
from lg_streaming.errors import UpdateTooLargeError
from lg_streaming.events import Scope
from lg_streaming.hub import StreamHub
from lg_streaming.publisher import UpdateRequest
from lg_streaming.settings import LimitSettings, StreamingSettings
from lg_streaming.shorten import shorten, split_text
from lg_streaming.values import SAFE_INTEGER, to_json
from tests.hub.helpers import MakeHub, collect, types

LEAST = 1_024
DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-SAFE_INTEGER, SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.text(min_size=1).map(lambda text: text * 300),
    lambda inner: (
        st.lists(inner, max_size=20)
        | st.dictionaries(
            st.text(max_size=40) | st.sampled_from(["node_id", "tool", "result", "truncated", "…"]), inner, max_size=20
        )
    ),
    max_leaves=40,
)
TYPES = st.sampled_from(["note", "node_complete", "values", "token", "thinking", "tool_args", "error"])


def records_of(hub: StreamHub, execution_id: str = "e") -> Any:
    found = asyncio.run(hub.log.read(execution_id, 0, 100_000))
    assert found is not None
    return found.records


@settings(deadline=None)
@given(TYPES, DATA, st.integers(LEAST, 8_000), st.dictionaries(st.text(max_size=10), DATA, max_size=3), st.booleans())
def test_whatever_it_is_it_leaves_within_the_limit(
    type_: str, data: object, limit: int, extra: dict[str, Any], redacts: bool
) -> None:
    hub = StreamHub(
        StreamingSettings(limits=LimitSettings(update_bytes=limit)), redact=(lambda _, data: data) if redacts else None
    )
    scope = Scope(node_id="write", namespace="write:0000-1111|model:2222-3333", message_id="m1", extra=extra)
    hub.publish("e", type_, data, scope=scope, large="shorten")
    start, *records = records_of(hub)
    assert start.type == "workflow_start"
    assert records
    updates = [record.update for record in records]
    for record, update in zip(records, updates, strict=True):
        assert len(record.json) <= limit
        assert update.type == type_
        assert update.metadata.execution_id == "e"
        about = (update.metadata.node_id, update.metadata.namespace, update.metadata.message_id)
        assert about == ("write", "write:0000-1111|model:2222-3333", "m1")
    field = "args" if type_ == "tool_args" else "content"
    if type_ in {"token", "thinking", "tool_args"} and isinstance(data, str):
        assert "".join(update.data for update in updates) == data
    elif type_ in {"token", "thinking", "tool_args"} and isinstance(data, dict) and isinstance(data.get(field), str):
        assert "".join(update.data[field] for update in updates) == data[field]
    else:
        assert len(updates) == 1
        if updates[0].data != data:
            assert updates[0].data["truncated"]


@settings(deadline=None)
@given(
    st.text(min_size=1).map(lambda text: text * 40), st.integers(LEAST, 3_000), st.sampled_from(["token", "thinking"])
)
def test_text_of_any_limit_joins_and_its_index_is_coherent(text: str, limit: int, type_: str) -> None:
    hub = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=limit)))
    emitter = hub.emitter("e", node_id="write")
    emit = emitter.token if type_ == "token" else emitter.thinking
    for piece in ("before ", text, " after"):
        emit(piece)
    updates = [record.update for record in records_of(hub)][1:]
    assert "".join(update.data["content"] for update in updates) == f"before {text} after"
    indexes = [update.data["index"] for update in updates]
    assert indexes == sorted(indexes)
    assert set(indexes) == {0, 1, 2}
    parts = [update.data["part"] for update in updates if "part" in update.data]
    assert parts == list(range(1, len(parts) + 1))
    assert all(update.data["parts"] == len(parts) for update in updates if "parts" in update.data)


@settings(deadline=None)
@given(DATA, st.integers(64, 3_000))
def test_shortened_json_fits_and_is_always_the_same(data: object, room: int) -> None:
    json = to_json(data)
    short = shorten(json, room)
    assert len(short) <= room
    assert short == shorten(json, room)
    assert "truncated" in orjson.loads(short)


@settings(deadline=None)
@given(
    st.text(min_size=1).map(lambda text: text * 30),
    st.dictionaries(st.text(), DATA, max_size=4),
    st.integers(256, 3_000),
)
def test_split_text_joins_whatever_is_beside_it(text: str, beside: dict[str, Any], room: int) -> None:
    pieces = split_text("token", to_json({**beside, "content": text, "json": "{}"}), room)
    assert all(len(piece) <= room for piece in pieces)
    data = [orjson.loads(piece) for piece in pieces]
    assert "".join(each["content"] for each in data) == text
    assert all(orjson.loads(each["json"])["content"] == each["content"] for each in data if "json" in each)


@pytest.mark.parametrize("limit", [LEAST, 2_000, 10_000, 32_767, 32_768, 32_769, 262_144])
@pytest.mark.parametrize("size", [500, 20_000, 40_000, 1_000_000])
async def test_a_node_begins_and_ends_at_any_limit(limit: int, size: int) -> None:
    @stream_event(events=["events", "values", "updates"])
    async def node(state: MessagesState) -> dict[str, Any]:
        current_emitter().event("note", {"text": "x" * size})
        current_emitter().tool_start("search", "x" * size).tool_complete(["y" * size])
        return {"messages": [AIMessage("z" * size)]}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    async with StreamingModule(StreamingSettings(limits=LimitSettings(update_bytes=limit))) as streaming:
        given: Any = {"messages": "x" * size}
        await graph.ainvoke(given, streaming.config(execution_id="e"))
        got = await collect(streaming.hub.subscribe("e"))
        found = await streaming.hub.log.read("e", 0, 100)
    expected = ["node_start", "values", "note", "tool_start", "tool_complete", "updates", "node_complete"]
    assert types(got) == ["workflow_start", *expected, "workflow_complete"]
    assert {update.data["node_id"] for update in got if update.type.startswith("node_")} == {"node"}
    assert found is not None
    assert all(len(record.json) <= limit for record in found.records)


@pytest.mark.parametrize(
    "output", ["x" * 300_000, {"rows": [{"id": n, "text": "y" * 99} for n in range(5_000)]}, b"\xff" * 300_000]
)
async def test_a_tool_with_a_large_output_ends(output: Any) -> None:
    @tool
    def read_page(url: str) -> Any:
        """Read."""
        return output

    call = AIMessage("", tool_calls=[{"name": "read_page", "args": {"url": "u"}, "id": "c1"}])
    tools = stream_event(ToolNode([read_page]))
    graph = StateGraph(MessagesState).add_node("tools", tools).add_edge(START, "tools").compile()
    async with StreamingModule() as streaming:
        await graph.ainvoke({"messages": [call]}, streaming.config(execution_id="e"))
        got = await collect(streaming.hub.subscribe("e", types=["tool_*"]))
    assert types(got) == ["tool_start", "tool_complete"]
    assert (got[1].data["tool"], got[1].data["tool_call_id"]) == ("read_page", "c1")
    assert set(got[1].data["truncated"]) == {"output"}


async def test_small_fields_stay_whole_beside_a_large_one(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=2_000)
    error = {"message": "m" * 5_000, "type": "ValueError", "code": 401, "stack": "s" * 50_000}
    hub.publish("e", "node_error", {"node_id": "n", "error": error, "duration_s": 0.5}, large="shorten")
    (_, record) = (await hub.log.read("e", 0, 9)).records  # pyright: ignore[reportOptionalMemberAccess]
    data = record.update.data
    assert (data["node_id"], data["duration_s"], set(data["truncated"])) == ("n", 0.5, {"error"})
    assert (data["error"]["type"], data["error"]["code"]) == ("ValueError", 401)
    assert 300 < len(data["error"]["message"]) < 5_000
    assert 300 < len(data["error"]["stack"]) < 5_000


async def test_metadata_that_is_too_large_is_shortened_and_ids_stay(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=LEAST)
    emitter = hub.emitter("e", node_id="n", extra={"tenant": 7, "blob": "x" * 5_000})
    emitter.event("note", {"a": 1}, large="shorten")
    emitter.token("hello")
    _, note, token = [record.update for record in (await hub.log.read("e", 0, 9)).records]  # pyright: ignore[reportOptionalMemberAccess]
    for update in (note, token):
        assert (update.metadata.node_id, update.metadata.extra["tenant"]) == ("n", 7)
        assert update.metadata.extra["truncated"] == {"blob": 5_002}
    assert (note.data, token.data["content"]) == ({"a": 1}, "hello")


async def test_a_program_is_told_unless_it_asked_for_less(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=LEAST)
    emitter = hub.emitter("e")
    calls: list[Callable[[Any], None]] = [
        lambda large: hub.publish("e", "note", "x" * 5_000, large=large),
        lambda large: hub.emit("e", "note", "x" * 5_000, large=large),
        lambda large: emitter.event("note", "x" * 5_000, large=large),
        lambda large: hub.publisher.publish_all("e", [UpdateRequest("note", "x" * 5_000)], large=large),
    ]
    for call in calls:
        for large in (None, "refuse"):
            with pytest.raises(UpdateTooLargeError, match=r"limits\.update_bytes allows 1024"):
                call(large)
        call("shorten")
    assert (hub.statistics().dropped["too_large"], hub.statistics().shortened) == (8, 4)
    shortening = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=LEAST, large_updates="shorten")))
    shortening.emitter("e").event("note", "x" * 5_000)
    assert shortening.statistics().shortened == 1
    await shortening.aclose()


async def test_pieces_of_a_text_that_is_to_come_once_come_once(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=LEAST)
    for _ in range(3):
        hub.publish("e", "token", {"content": "x" * 5_000}, delivery="exactly-once", key="k")
    await hub.close("e")
    got = await collect(hub.subscribe("e", types=["token"]))
    assert "".join(update.data["content"] for update in got) == "x" * 5_000
    assert hub.statistics().repeated == 2 * len(got)


async def test_pieces_follow_each_other_in_a_batch(make_hub: MakeHub) -> None:
    hub = make_hub(update_bytes=LEAST)
    hub.open("e")
    text = UpdateRequest("token", {"content": "x" * 3_000, "index": 4})
    hub.publisher.publish_all("e", [UpdateRequest("note", 1), text, UpdateRequest("note", 2)])
    await hub.close("e")
    got = await collect(hub.subscribe("e"))
    pieces = got[2:-2]
    assert (got[1].data, got[-2].data) == (1, 2)
    assert {update.type for update in pieces} == {"token"}
    assert [update.data["part"] for update in pieces] == list(range(1, len(pieces) + 1))


async def test_redact_is_called_once_and_nothing_it_hides_comes_back() -> None:
    calls: list[str] = []

    def redact(type_: str, data: Any) -> Any:
        calls.append(type_)
        return {**data, "secret": "…"}

    hub = StreamHub(StreamingSettings(limits=LimitSettings(update_bytes=LEAST)), redact=redact)
    hub.publish("e", "note", {"secret": "hunter2", "text": "x" * 5_000}, large="shorten")
    hub.publish("e", "token", {"secret": "hunter2", "content": "x" * 5_000})
    await hub.close("e")
    assert calls == ["workflow_start", "note", "token", "workflow_complete"]
    found = await hub.log.read("e", 0, 100)
    assert found is not None
    assert not any(b"hunter2" in record.json for record in found.records)
    await hub.aclose()


async def test_the_log_says_it_once_for_each_execution(make_hub: MakeHub, caplog: pytest.LogCaptureFixture) -> None:
    hub = make_hub(update_bytes=LEAST)
    for execution_id in ("a", "b"):
        for _ in range(3):
            hub.publish(execution_id, "note", "x" * 5_000, large="shorten")
    told = [record for record in caplog.records if "update_bytes" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.WARNING] * 2
    assert "'a'" in told[0].getMessage()


@pytest.mark.parametrize("options", [{}, {"format": "json"}, {"format": "structured"}, {"batch_size": 1}])
async def test_a_node_s_text_joins_at_the_least_limit(options: dict[str, Any]) -> None:
    @stream_token(**options)
    async def node(state: MessagesState) -> dict[str, Any]:
        emitter = current_emitter()
        for piece in ("a" * 700, "é" * 4_000, "\n\u2028" * 1_000, "😀" * 1_000):
            emitter.token(piece)
        return {}

    graph = StateGraph(MessagesState).add_node("node", node).add_edge(START, "node").compile()
    async with StreamingModule(StreamingSettings(limits=LimitSettings(update_bytes=LEAST))) as streaming:
        given: Any = {"messages": "x"}
        await graph.ainvoke(given, streaming.config(execution_id="e"))
        got = await collect(streaming.hub.subscribe("e", types=["token"]))
    text = "".join(update.data["content"] for update in got)
    assert text == "a" * 700 + "é" * 4_000 + "\n\u2028" * 1_000 + "😀" * 1_000
