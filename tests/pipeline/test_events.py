"""Updates of a node with `@stream_event`."""

import logging
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command, RetryPolicy

from lg_streaming import (
    StreamEventType,
    UpdateFilter,
    current_emitter,
    current_progress,
    stream_event,
    stream_progress,
    stream_token,
    streaming_options,
)
from lg_streaming.errors import StreamingConfigError
from lg_streaming.events import priority_of
from lg_streaming.module import StreamingModule
from lg_streaming.settings import EventDefaults, StreamingSettings
from tests.capture.graphs import Input, Run, State, Update, graph_of, model, read

INPUT: Input = {"topic": "secret rivers"}
ABOUT_THE_NODE = ["node_start", "node_complete"]


async def run_of(streaming: StreamingModule, node: Any, *, given: Input = INPUT) -> Run:
    await graph_of(node, names=("node",)).ainvoke(given, streaming.config(execution_id="e"))
    return await read(streaming, "e")


def inside(run: Run) -> list[str]:
    """The types without those of the run itself."""
    return [each for each in run.types if not each.startswith("workflow_")]


async def answer(state: State) -> Update:
    return {"text": (await model("two words").ainvoke("go")).text, "messages": [AIMessage("hello", id="m1")]}


# --- which types ---------------------------------------------------------------------------------------------


@pytest.mark.row("HIVE-31")
@pytest.mark.row("HIVE-D4")
async def test_by_default_node_tool_and_model_events_leave_and_never_the_state(streaming: StreamingModule) -> None:
    run = await run_of(streaming, stream_event(answer))
    assert inside(run) == ["node_start", "llm_start", "llm_complete", "node_complete"]
    assert run.one("node_complete").data["result"]["text"] == "two words"
    assert "secret" not in "".join(str(update.data) for update in run.updates)


@pytest.mark.row("HIVE-31")
@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], ABOUT_THE_NODE),
        (["llm_start"], ["node_start", "llm_start", "node_complete"]),
        ([StreamEventType.USAGE], ["node_start", "usage", "node_complete"]),
        (["values"], ["node_start", "values", "node_complete"]),
        (["updates", "messages"], ["node_start", "updates", "messages", "node_complete"]),
    ],
)
async def test_only_what_is_asked_for_leaves_beside_the_start_and_end(
    streaming: StreamingModule, events: list[str], expected: list[str]
) -> None:
    run = await run_of(streaming, stream_event(events=events)(answer))
    assert inside(run) == expected
    assert "result" not in run.one("node_complete").data


@pytest.mark.row("HIVE-31")
async def test_what_the_graphs_own_modes_hold(streaming: StreamingModule) -> None:
    run = await run_of(streaming, stream_event(events=["values", "updates", "messages", "usage"])(answer))
    assert run.one("values").data == {"topic": "secret rivers", "messages": []}
    update = run.one("updates").data["node"]
    assert (update["text"], update["messages"][0]["content"]) == ("two words", "hello")
    assert [message["content"] for message in run.one("messages").data["messages"]] == ["hello"]
    usage = run.one("usage").data
    assert usage["output_tokens"] > 0
    assert usage["model"]


@pytest.mark.parametrize(
    ("result", "update", "messages"),
    [
        (None, None, None),
        ({"text": "x"}, {"text": "x"}, None),
        (Command(update={"text": "x"}), {"text": "x"}, None),
        ([Command(update={"text": "x"}), {"topic": "y"}], [{"text": "x"}, {"topic": "y"}], None),
        ({"messages": HumanMessage("hi")}, None, ["hi"]),
        (Command(update={"messages": [HumanMessage("hi"), AIMessage("ho")]}), None, ["hi", "ho"]),
    ],
)
async def test_updates_are_what_a_node_returns_for_the_state(
    streaming: StreamingModule, result: Any, update: Any, messages: list[str] | None
) -> None:
    def node(state: State) -> Any:
        return result

    run = await run_of(streaming, stream_event(events=["updates", "messages"])(node))
    if messages is None:
        assert run.one("updates").data == {"node": update}
        assert run.of("messages") == []
    else:
        assert [each["content"] for each in run.one("messages").data["messages"]] == messages


@pytest.mark.row("HIVE-D4")
@pytest.mark.row("HIVE-D6")
async def test_include_state_sends_the_state_the_node_was_called_with(streaming: StreamingModule) -> None:
    class Writer:
        @stream_event(include_state=True)
        def method(self, state: State) -> Update:
            state["topic"] = "changed"
            return {}

    run = await run_of(streaming, Writer().method)
    assert inside(run)[:2] == ["node_start", "values"]
    assert run.one("values").data["topic"] == "secret rivers"


@pytest.mark.row("HIVE-83")
async def test_tool_events(streaming: StreamingModule) -> None:
    @tool
    def weather(city: str) -> str:
        """Return the weather."""
        if city == "nowhere":
            raise ValueError("no such city")
        return "rain"

    calls = [
        {"name": "weather", "args": {"city": city}, "id": city, "type": "tool_call"} for city in ("Rome", "nowhere")
    ]
    node = stream_event(events=["tool_start", "tool_complete", "tool_error"])(
        ToolNode([weather], handle_tool_errors=True)
    )
    run = await run_of(streaming, node, given={"messages": [AIMessage("", tool_calls=calls)]})
    started = {update.metadata.tool_call_id: update.data for update in run.of("tool_start")}
    assert started["Rome"]["input"] == {"city": "Rome"}
    assert (run.one("tool_complete").metadata.tool_call_id, run.one("tool_complete").data["output"]) == ("Rome", "rain")
    assert run.one("tool_error").metadata.tool_call_id == "nowhere"
    assert run.one("tool_error").metadata.priority == "high"


# --- the filter ----------------------------------------------------------------------------------------------


@pytest.mark.row("HIVE-35")
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ({"event_types": ["llm_start"]}, ["node_start", "llm_start", "node_complete"]),
        ({"event_types": ["events"]}, ["node_start", "llm_start", "llm_complete", "node_complete"]),
        ({"event_types": ["own:*"]}, ["node_start", "own:thing", "own:error", "node_complete"]),
        (
            {"event_types": ["llm_*", "own:*"], "exclude_types": ["llm_*", "own:error"]},
            ["node_start", "own:thing", "node_complete"],
        ),
        ({"min_priority": "high"}, ["node_start", "own:error", "own:urgent", "node_complete"]),
        ({"min_priority": "critical"}, ["node_start", "own:urgent", "node_complete"]),
        (
            {"include_debug": True, "exclude_types": ["own:*", "llm_*"]},
            ["node_start", "debug", "debug:more", "node_complete"],
        ),
        ({"include_debug": True, "event_types": ["debug"]}, ["node_start", "debug", "node_complete"]),
    ],
)
async def test_the_filter(streaming: StreamingModule, condition: dict[str, Any], expected: list[str]) -> None:
    @stream_event(filter=condition)
    async def node(state: State) -> Update:
        emitter = current_emitter()
        await model("x").ainvoke("go")
        emitter.event("own:thing")
        emitter.event("own:error")
        emitter.event("own:urgent", priority="critical") if "min_priority" in condition else None
        emitter.event("debug")
        emitter.event("debug:more")
        return {"text": "done"}

    run = await run_of(streaming, node)
    assert inside(run) == expected


@pytest.mark.row("HIVE-35")
async def test_debug_leaves_only_when_it_is_included(streaming: StreamingModule) -> None:
    @stream_event(events=["debug"])
    def quiet(state: State) -> Update:
        current_emitter().event("debug", "mine")
        return {}

    @stream_event(events=["debug"], filter={"include_debug": True})
    def loud(state: State) -> Update:
        return {}

    graph = graph_of(quiet, loud)
    await graph.ainvoke(INPUT, streaming.config(execution_id="e"))
    debug = (await read(streaming, "e")).one("debug")
    assert (debug.metadata.node_id, debug.metadata.priority, debug.data["step"]) == ("loud", "low", 2)
    assert debug.data["triggers"]


@pytest.mark.row("HIVE-35")
@pytest.mark.parametrize("condition", [{"event_types": ["custom"]}, {"exclude_types": ["node_*"]}])
async def test_the_start_and_end_of_a_node_always_pass_but_say_no_more_than_that(
    streaming: StreamingModule, condition: dict[str, Any]
) -> None:
    @stream_event(filter=condition)
    def node(state: State) -> Update:
        return {"text": "hidden"}

    run = await run_of(streaming, node)
    assert inside(run) == ABOUT_THE_NODE
    assert run.one("node_start").data == {"node_id": "node", "node_name": "node", "attempt": 1}
    assert run.one("node_complete").data.keys() == {"node_id", "node_name", "duration_s"}


@pytest.mark.row("HIVE-31")
async def test_what_a_node_says_itself_leaves_whatever_events_names(streaming: StreamingModule) -> None:
    @stream_event(events=[], filter={"exclude_types": ["custom"]})
    def node(state: State) -> Update:
        current_emitter().event("note", 1)
        current_emitter().scoped(task_id="t").event("note", 2)
        current_emitter().custom("hidden")
        current_emitter().status("busy")
        return {}

    run = await run_of(streaming, node)
    assert inside(run) == ["node_start", "note", "note", "status", "node_complete"]
    assert [update.metadata.task_id for update in run.of("note")] == [None, "t"]


# --- priorities ----------------------------------------------------------------------------------------------


@pytest.mark.row("HIVE-35")
@pytest.mark.parametrize(
    ("name", "priority"),
    [
        ("error", "high"),
        ("tool_error", "high"),
        ("task:error", "high"),
        ("workflow_start", "high"),
        ("workflow_cancelled", "high"),
        ("node_interrupted", "high"),
        ("human_prompt", "high"),
        ("updates_lost", "high"),
        ("node_start", "medium"),
        ("tool_start", "medium"),
        ("token", "medium"),
        ("my own", "medium"),
        ("debug", "low"),
        ("debug:x", "low"),
        ("debugger", "medium"),
    ],
)
def test_priorities_of_types(name: str, priority: str) -> None:
    assert priority_of(name) == priority


@pytest.mark.row("HIVE-35")
async def test_readers_can_ask_for_what_is_important(streaming: StreamingModule) -> None:
    streaming.hub.publish("e", "debug")
    streaming.hub.publish("e", "tool_error")
    streaming.hub.publish("e", "note", priority="critical")
    await streaming.hub.close("e")
    important = streaming.hub.subscribe("e", filter=UpdateFilter.of(min_priority="high"))
    assert [update.type async for update in important] == [
        "workflow_start",
        "tool_error",
        "note",
        "workflow_complete",
    ]


# --- transformer and redact ----------------------------------------------------------------------------------


@pytest.mark.row("HIVE-34")
@pytest.mark.row("HIVE-D6")
async def test_what_the_transformer_returns_is_what_readers_get(streaming: StreamingModule) -> None:
    seen: list[dict[str, Any]] = []

    def transformer(event: dict[str, Any]) -> dict[str, Any]:
        seen.append(event)
        if event["type"] == "llm_complete":
            return {"type": "answered", "data": {"by": event["metadata"]["node_id"]}, "priority": "high"}
        event["data"]["seen"] = True
        return event

    run = await run_of(streaming, stream_event(transformer=transformer)(answer))
    assert inside(run) == ["node_start", "llm_start", "answered", "node_complete"]
    assert (run.one("answered").data, run.one("answered").metadata.priority) == ({"by": "node"}, "high")
    assert run.one("llm_start").data["seen"] is True
    assert run.one("node_complete").data["result"]["text"] == "two words"
    assert [event["type"] for event in seen] == ["node_start", "llm_start", "llm_complete", "node_complete"]
    assert seen[1]["metadata"]["execution_id"] == "e"
    assert seen[1]["metadata"]["attempt"] == 1
    assert type(seen[3]["data"]["result"]["messages"][0]) is dict


@pytest.mark.row("HIVE-34")
async def test_none_drops_an_event_but_of_the_start_and_end_only_what_they_say(streaming: StreamingModule) -> None:
    run = await run_of(streaming, stream_event(transformer=lambda event: None)(answer))
    assert inside(run) == ABOUT_THE_NODE
    assert run.one("node_complete").data.keys() == {"node_id", "node_name", "duration_s"}


async def test_the_start_and_end_keep_their_type(streaming: StreamingModule) -> None:
    run = await run_of(streaming, stream_event(transformer=lambda event: {**event, "type": "other"})(answer))
    assert inside(run) == ["node_start", "other", "other", "node_complete"]


@pytest.mark.row("HIVE-34")
@pytest.mark.row("HIVE-85")
@pytest.mark.parametrize(
    "result",
    [
        LookupError("cannot"),
        "not an event",
        {"type": "x"},
        {"type": "workflow_complete", "data": 1},
        {"type": "node_start", "data": 1},
        {"type": "token", "data": 1},
        {"type": "", "data": 1},
        {"data": 1, "priority": "urgent"},
    ],
)
async def test_an_event_passes_as_it_was_when_the_transformer_fails(
    streaming: StreamingModule, result: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def only_models(event: dict[str, Any]) -> Any:
        if not event["type"].startswith("llm_"):
            return event
        event["data"] = "spoilt"
        if isinstance(result, Exception):
            raise result
        return result

    with caplog.at_level(logging.WARNING):
        run = await run_of(streaming, stream_event(transformer=only_models)(answer))
    errors = run.of("error")
    assert inside(run)[:3] == ["node_start", "error", "llm_start"]
    assert run.one("llm_start").data["model"]
    assert run.one("llm_complete").data["usage"]
    assert run.final == "workflow_complete"
    assert {key: errors[0].data[key] for key in ("code", "option", "node_id")} == {
        "code": "transformer_failed",
        "option": "transformer",
        "node_id": "node",
    }
    assert errors[0].data["message"]
    assert (errors[0].metadata.node_id, errors[0].metadata.priority) == ("node", "high")
    assert len([record for record in caplog.records if "transformer" in record.message]) == 1
    assert streaming.hub.statistics().callable_errors == 2


@pytest.mark.row("HIVE-D4")
async def test_redact_sees_every_event_of_the_node_last(streaming: StreamingModule) -> None:
    def redact(type: str, data: Any) -> Any:
        seen.append(type)
        return {key: "***" if key in {"text", "topic"} else value for key, value in data.items()}

    seen: list[str] = []

    def transformer(event: dict[str, Any]) -> dict[str, Any]:
        return {**event, "data": {"text": "put in by the transformer", **event["data"]}}

    run = await run_of(streaming, stream_event(redact=redact, transformer=transformer, include_state=True)(answer))
    assert seen == ["node_start", "values", "llm_start", "llm_complete", "node_complete"]
    assert run.one("values").data["topic"] == "***"
    assert run.one("llm_start").data["text"] == "***"


@pytest.mark.row("HIVE-D4")
async def test_data_is_withheld_when_redact_fails(streaming: StreamingModule) -> None:
    def redact(type: str, data: Any) -> Any:
        raise KeyError("oops")

    run = await run_of(streaming, stream_event(redact=redact, include_state=True)(answer))
    assert inside(run).count("error") == 2  # the first failure, and how many there were
    assert run.one("values").data == {"message": "withheld: redaction failed"}
    assert run.one("node_complete").data.keys() == {"node_id", "node_name", "duration_s", "message"}
    assert "secret" not in "".join(str(update.data) for update in run.updates)


# --- how a node is left alone --------------------------------------------------------------------------------


@pytest.mark.row("HIVE-36")
@pytest.mark.row("HIVE-85")
async def test_a_failing_transformer_changes_neither_result_nor_exception(streaming: StreamingModule) -> None:
    error = ValueError("its own")

    def fail(*_: object) -> Any:
        raise LookupError("cannot")

    @stream_event(transformer=fail, redact=fail)
    async def node(state: State) -> Update:
        raise error

    with pytest.raises(ValueError, match="its own") as raised:
        await run_of(streaming, node)
    assert raised.value is error
    assert "node_error" in (await read(streaming, "e")).types


async def test_what_is_too_large_leaves_shortened() -> None:
    settings = StreamingSettings.model_validate({"limits": {"update_bytes": 50_000}})
    async with StreamingModule(settings) as streaming:

        @stream_event
        def node(state: State) -> Update:
            current_emitter().event("note", "x" * 60_000)
            current_emitter().event("note", "small")
            return {"text": "x" * 60_000}

        run = await run_of(streaming, node)
    assert inside(run) == ["node_start", "note", "note", "node_complete"]
    assert run.of("note")[0].data["truncated"] == {"value": 60_002}
    end = run.one("node_complete").data
    assert end["truncated"] == {"result": 60_011}
    assert end["node_id"] == "node"
    assert "duration_s" in end
    assert 40_000 < len(end["result"]["text"]) < 50_000


async def test_a_wrong_priority_in_a_node_is_logged_and_raises_nothing(
    streaming: StreamingModule, caplog: pytest.LogCaptureFixture
) -> None:
    @stream_event
    def node(state: State) -> Update:
        current_emitter().event("note", priority="urgent")  # pyright: ignore[reportArgumentType]
        current_emitter().event("note", key="")
        current_emitter().event("note")
        return {}

    assert inside(await run_of(streaming, node)) == ["node_start", "note", "node_complete"]
    assert "urgent" in caplog.text


# --- options -------------------------------------------------------------------------------------------------


@pytest.mark.row("HIVE-D6")
@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"events": "values"}, "list"),
        ({"events": ["token"]}, "stream_token"),
        ({"events": ["tool_args"]}, "stream_token"),
        ({"events": ["my_own"]}, "emits itself"),
        ({"buffer_size": 0}, "buffer_size"),
        ({"buffer_size": 10_001}, "buffer_size"),
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 1_001}, "batch_size"),
        ({"flush_interval": -1}, "flush_interval"),
        ({"flush_interval": float("inf")}, "flush_interval"),
        ({"delivery": "twice"}, "delivery"),
        ({"transformer": 1}, "transformer"),
        ({"redact": "x"}, "redact"),
        ({"filter": {"event_type": ["x"]}}, "event_type"),
        ({"filter": {"event_types": "x"}}, "event_types"),
        ({"filter": {"event_types": []}}, "event_types"),
        ({"filter": {"exclude_types": [""]}}, "exclude_types"),
        ({"filter": {"min_priority": "urgent"}}, "min_priority"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_at_once(option: dict[str, Any], message: str) -> None:
    with pytest.raises(StreamingConfigError, match=message):
        stream_event(**option)


def test_an_async_transformer_is_refused() -> None:
    async def transformer(event: dict[str, Any]) -> dict[str, Any]:
        return event

    with pytest.raises(StreamingConfigError, match="plain function"):
        stream_event(transformer=transformer)  # pyright: ignore[reportArgumentType, reportCallIssue]


async def test_defaults_come_from_the_settings_and_the_decorators_own_value_wins() -> None:
    settings = StreamingSettings(event_defaults=EventDefaults(include_state=True, min_priority="high"))
    async with StreamingModule(settings) as streaming:

        @stream_event
        def module_wide(state: State) -> Update:
            current_emitter().event("note")
            return {}

        @stream_event(include_state=False, filter={"min_priority": "low"})
        def own(state: State) -> Update:
            current_emitter().event("note")
            return {}

        await graph_of(module_wide, own).ainvoke(INPUT, streaming.config(execution_id="e"))
        run = await read(streaming, "e")
    assert [(each.metadata.node_id, each.type) for each in run.of("values", "note")] == [("own", "note")]


@pytest.mark.row("HIVE-80")
async def test_options_change_while_a_node_runs(streaming: StreamingModule) -> None:
    @stream_event
    def node(state: State) -> Update:
        emitter = current_emitter()
        emitter.event("one")
        streaming.hub.configure("e", event={"min_priority": "high"})
        emitter.event("two")
        streaming.hub.configure("e", event={"min_priority": "low", "include_debug": True})
        emitter.event("debug", "three")
        streaming.hub.configure("e", event={"enabled": False})
        emitter.event("four")
        return {"text": "result"}

    run = await run_of(streaming, node)
    assert inside(run) == ["node_start", "one", "debug", "four", "node_complete"]
    assert "result" not in run.one("node_complete").data


async def test_a_node_that_is_switched_off_module_wide() -> None:
    settings = StreamingSettings(event_defaults=EventDefaults(enabled=False))
    async with StreamingModule(settings) as streaming:
        run = await run_of(streaming, stream_event(answer))
        assert inside(run) == ABOUT_THE_NODE
        assert "result" not in run.one("node_complete").data
        graph = graph_of(stream_event(enabled=True)(answer))
        await graph.ainvoke(INPUT, streaming.config(execution_id="f"))
        assert "llm_start" in (await read(streaming, "f")).types


async def test_a_retried_node_is_told_apart_by_its_attempts(streaming: StreamingModule) -> None:
    tries: list[int] = []

    @stream_event(transformer=lambda event: None)
    @stream_token
    def node(state: State) -> Update:
        tries.append(1)
        if len(tries) == 1:
            raise ConnectionError
        return {}

    builder: Any = StateGraph(State)
    builder.add_node("node", node, retry_policy=RetryPolicy(initial_interval=0.001, jitter=False))
    graph = builder.add_edge(START, "node").add_edge("node", END).compile()
    await graph.ainvoke(INPUT, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert [(each.type, each.metadata.attempt) for each in run.updates if each.type.startswith("node_")] == [
        ("node_start", 1),
        ("node_error", 1),
        ("node_start", 2),
        ("node_complete", 2),
    ]


# --- what the seeds' examples ask for ---------------------------------------------------------------------------


def progress_of(run: Run) -> list[tuple[str, float]]:
    return [(update.type, update.data["progress"]) for update in run.updates if update.kind == "progress"]


async def work(state: State) -> Update:
    current_progress().update(1, 2)
    current_progress().update(2, 2)
    return {"text": "done"}


async def test_keys_that_a_transformer_adds_leave_as_metadata(streaming: StreamingModule) -> None:
    def transformer(event: dict[str, Any]) -> dict[str, Any]:
        event["metadata"]["tenant"] = 7
        return {**event, "timestamp": "2020-01-01", "node_id": "forged", "enriched": True, "odd": {1, 2}}

    @stream_event(events=["tool_start", "tool_complete", "progress", "values"], transformer=transformer)
    async def node(state: State) -> Update:
        current_emitter().event("note", {"a": 1})
        return {}

    run = await run_of(streaming, node)
    for type_ in ("node_start", "note", "progress", "values", "node_complete"):
        metadata = run.of(type_)[0].metadata
        assert metadata.extra == {"enriched": True, "odd": [1, 2], "tenant": 7}
        assert (metadata.node_id, metadata.timestamp.year > 2020) == ("node", True)


async def test_keys_that_are_added_keep_those_of_the_scope(streaming: StreamingModule) -> None:
    @stream_event(transformer=lambda event: {**event, "mine": 1, "a": 3})
    async def node(state: State) -> Update:
        current_emitter().scoped(extra={"a": 2, "b": 2}).event("note")
        return {}

    assert (await run_of(streaming, node)).one("note").metadata.extra == {"a": 3, "b": 2, "mine": 1}


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        (
            ["progress"],
            [("progress", 0), ("milestone", 50.0), ("progress", 50.0), ("progress", 100), ("progress", 100)],
        ),
        (["milestone"], [("milestone", 50.0)]),
        (["events"], []),
    ],
)
async def test_the_progress_of_a_node_leaves_where_it_is_named(events: list[str], expected: list[Any]) -> None:
    settings = StreamingSettings.model_validate({"progress_defaults": {"milestones": [50], "granularity": "detailed"}})
    async with StreamingModule(settings) as streaming:
        run = await run_of(streaming, stream_event(events=events)(work))
    assert progress_of(run) == expected
    assert inside(run)[-1] == "node_complete"


@pytest.mark.parametrize(
    ("filter", "passes"),
    [
        ({"event_types": ["progress"], "min_priority": "medium", "exclude_types": ["debug"]}, True),
        ({"exclude_types": ["progress"]}, False),
        ({"min_priority": "high"}, False),
        ({"event_types": ["tool_*"]}, False),
    ],
)
async def test_the_filter_holds_for_progress_too(
    streaming: StreamingModule, filter: dict[str, Any], passes: bool
) -> None:
    run = await run_of(streaming, stream_event(events=["progress"], filter=filter)(work))
    assert bool(progress_of(run)) == passes


async def test_progress_comes_with_each_try_however_it_is_delivered(streaming: StreamingModule) -> None:
    tries: list[int] = []

    @stream_event(events=["progress"], delivery="exactly-once")
    async def node(state: State) -> Update:
        tries.append(1)
        current_progress().update(1, 2)
        if len(tries) == 1:
            raise ConnectionError
        return {}

    builder = StateGraph(State).add_node("node", node, retry_policy=RetryPolicy(initial_interval=0.001))
    graph = builder.add_edge(START, "node").compile()
    given: Any = INPUT
    await graph.ainvoke(given, streaming.config(execution_id="e"))
    run = await read(streaming, "e")
    assert [update.metadata.attempt for update in run.of("progress") if update.data["progress"] == 0] == [1, 2]


async def test_a_decorator_of_its_own_decides_what_progress_is(streaming: StreamingModule) -> None:
    coarse = stream_progress(granularity="coarse", milestones=[50])(work)
    alone = progress_of(await run_of(streaming, coarse))
    await graph_of(stream_event(events=["progress"])(coarse)).ainvoke(INPUT, streaming.config(execution_id="both"))
    assert progress_of(await read(streaming, "both")) == alone
    assert ("milestone", 50.0) in alone
    off = stream_event(events=["progress"])(stream_progress(enabled=False)(work))
    await off_graph(streaming, off)


async def off_graph(streaming: StreamingModule, node: Any) -> None:
    await graph_of(node).ainvoke(INPUT, streaming.config(execution_id="off"))
    assert progress_of(await read(streaming, "off")) == []


async def test_error_stands_for_the_errors_of_nodes_tools_and_models(streaming: StreamingModule) -> None:
    @stream_event(events=["error"])
    async def node(state: State) -> Update:
        await model().ainvoke("go")
        current_emitter().error("small")
        return {"text": ""}

    assert inside(await run_of(streaming, node)) == ["node_start", "error", "node_complete"]
    options = streaming_options(node)
    assert options is not None
    assert options.event is not None
    assert {each for each in StreamEventType if options.event.wants(each)} >= {"tool_error", "llm_error", "error"}
