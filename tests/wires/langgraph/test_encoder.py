"""Frames of the encoder: their order, and their places: what follows any place is what followed it without a break."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver

from lg_streaming import StreamHub
from lg_streaming.codec import Codec
from lg_streaming.events import Scope
from lg_streaming.gateway.dialects.langgraph.encoder import RunEncoder
from lg_streaming.gateway.dialects.langgraph.view import Place, RunView
from lg_streaming.log.base import PendingUpdate, StoredUpdate
from lg_streaming.runs import GraphRegistry, GraphRunner
from tests.wires.langgraph.graphs import builder

MODES = [
    "values",
    "updates",
    "messages-tuple",
    "messages",
    "custom",
    "debug",
    "tasks",
    "checkpoints",
    "events",
    "tools",
]
EPOCH = "1645bb62"
RUN = "01a22745-df7d-7425-ba04-fd9f3f02dc7c"
CODEC = Codec()

Frame = tuple[str, Any, str]
"""Event, data and id."""


def parsed(wire: bytes) -> list[Frame]:
    found: list[Frame] = []
    for block in wire.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append((fields["event"], json.loads(fields["data"]), fields.get("id", "")))
    return found


def encode(
    records: Sequence[StoredUpdate], modes: Sequence[str], *, after: str | None = None, subgraphs: bool = True
) -> list[Frame]:
    view = RunView(
        thread_id="t",
        run_id=records[0].scope.run_id or "",
        own_run=records[0].scope.run_id or "",
        modes=frozenset(modes),
        subgraphs=subgraphs,
        after=None if after is None else Place.parse(after),
    )
    encoder = RunEncoder(view)
    return parsed(b"".join(encoder.encode("t", (record,)).wire for record in records))


def record(seq: int, type: str, data: object, scope: Scope) -> StoredUpdate:
    body = CODEC.encode("t", type, data, scope, "medium", 1_795_876_701.0 + seq)
    pending = PendingUpdate(type=type, scope=scope, priority="medium", timestamp=1_795_876_701.0 + seq, body=body)
    return StoredUpdate.from_pending(pending, seq, EPOCH)


# --- runs of graphs ---------------------------------------------------------------------------------------------------
QUESTIONS = ["say one two three", "tool Oslo", "think deep", "custom", "child one two", "both a b", "fail now"]


async def recorded(question: str) -> list[StoredUpdate]:
    hub, graphs = StreamHub({"runs": {"publish_states": True}}), GraphRegistry()
    graphs["agent"] = builder.compile(checkpointer=InMemorySaver())
    runner = GraphRunner(hub, graphs)
    run = await runner.start("agent", {"messages": [("user", question)]}, execution_id="t")
    try:
        await run
    except ValueError:
        assert question.startswith("fail")
    found = await hub.log.read("t", 0, 10_000)
    assert found is not None
    await runner.aclose()
    await hub.aclose()
    return list(found.records)


@pytest.mark.anyio
@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_rest_after_each_place_is_exact(question: str) -> None:
    records = await recorded(question)
    for modes in (["values", "messages-tuple"], ["messages"], MODES):
        whole = encode(records, modes)
        assert len({place for _, _, place in whole}) == len(whole)
        for at, (_, _, place) in enumerate(whole, 1):
            assert encode(records, modes, after=place) == whole[at:]


@pytest.mark.anyio
@pytest.mark.parametrize("question", QUESTIONS)
async def test_the_order_of_frames(question: str) -> None:
    records = await recorded(question)
    frames = encode(records, ["values", "updates", "messages-tuple"], subgraphs=False)
    names = [name for name, _, _ in frames]
    assert names[0] == "metadata"
    assert names.count("metadata") == 1
    assert "|" not in "".join(names)
    if "messages" in names:
        assert names.index("values") < names.index("messages")
    assert names[-1] == ("error" if question.startswith("fail") else "values")
    streamed: dict[str, str] = {}
    shown: set[str] = set()
    for name, data, _ in frames:
        if name == "messages":
            message = data[0]
            assert message["id"] not in shown, "a part after the values that have the message"
            streamed[message["id"]] = streamed.get(message["id"], "") + text_of(message["content"])
        elif name == "values":
            for message in data["messages"]:
                shown.add(message["id"])
                if message["id"] in streamed:
                    assert text_of(message["content"]) == streamed[message["id"]]
    assert frames[-1][0] == "error" or streamed.keys() <= shown


def text_of(content: Any) -> str:
    return content if isinstance(content, str) else "".join(each.get("text", "") for each in content)


@pytest.mark.anyio
async def test_the_input_comes_before_the_first_text() -> None:
    frames = encode(await recorded("say x"), ["values", "messages-tuple"])
    assert [each["type"] for each in frames[1][1]["messages"]] == ["human"]


@pytest.mark.anyio
async def test_a_reader_of_one_mode_gets_only_it() -> None:
    records = await recorded("tool Oslo")
    for mode in MODES:
        names = {name.partition("/")[0] for name, _, _ in encode(records, [mode])}
        assert names <= {"metadata", "messages" if mode == "messages-tuple" else mode}


# --- updates of any kind ----------------------------------------------------------------------------------------------
NAMESPACES = st.sampled_from(["write:a", "write:b", "child:c|inner:d", "child:c|other:e", None])
TEXTS = st.text(max_size=5)
MESSAGES = st.sampled_from(["m1", "m2", "m3"])


def token(text: str) -> dict[str, Any]:
    return {"content": text, "role": "ai"}


def args(call: str, text: str) -> dict[str, Any]:
    return {"tool_call_id": call, "tool": "search", "args": text}


def state(ids: list[str], step: int) -> dict[str, Any]:
    messages = [{"type": "ai", "id": each, "content": "x"} for each in ids]
    return {"values": {"messages": messages}, "next": ["write"], "checkpoint_id": "c", "step": step}


def returned(id_: str | None) -> dict[str, Any]:
    return {"node_id": "write", "result": {"messages": [{"type": "tool", "id": id_, "content": "r"}]}}


DATA: dict[str, st.SearchStrategy[Any]] = {
    "token": st.builds(token, TEXTS),
    "thinking": st.builds(token, TEXTS),
    "tool_args": st.builds(args, st.sampled_from(["c1", "c2"]), TEXTS),
    "llm_complete": st.just({"model": "m", "usage": {"input_tokens": 1}}),
    "state": st.builds(state, st.lists(MESSAGES, max_size=3, unique=True), st.integers(0, 9)),
    "node_start": st.just({"node_id": "write"}),
    "node_complete": st.builds(returned, st.one_of(st.none(), st.sampled_from(["t1", "t2"]))),
    "node_error": st.just({"node_id": "write", "error": {"message": "no", "type": "ValueError"}}),
    "tool_start": st.just({"tool": "search", "tool_call_id": "c1", "input": {}}),
    "tool_complete": st.just({"tool": "search", "tool_call_id": "c1", "output": "r"}),
    "custom": st.just({"name": "stream_writer", "data": {"step": 1}}),
    "progress": st.just({"progress": 5, "status": "running"}),
    "an_own_type": st.one_of(st.none(), st.just([1]), st.just("text"), st.just({"a": 1})),
}
ENDS: dict[str, Any] = {
    "workflow_complete": {"result": {}},
    "workflow_error": {"error": {"message": "boom", "type": "ValueError"}},
    "workflow_cancelled": {"reason": "cancelled"},
    "workflow_abandoned": {"reason": "process lost"},
    "workflow_interrupted": {"interrupts": [{"id": "i1", "value": "Go on?"}], "prompts": []},
}


@st.composite
def runs(draw: st.DrawFn) -> list[StoredUpdate]:
    scope = Scope(run_id=RUN)
    records = [record(1, "workflow_start", {"run_id": RUN, "name": "agent"}, scope)]
    for seq, (name, namespace, message) in enumerate(
        draw(st.lists(st.tuples(st.sampled_from(sorted(DATA)), NAMESPACES, MESSAGES), max_size=25)), 2
    ):
        is_text = name in {"token", "thinking", "tool_args", "llm_complete"}
        place = None if name == "state" and namespace is not None and "|" not in namespace else namespace
        node = None if namespace is None else namespace.rpartition("|")[2].partition(":")[0]
        found = Scope(
            run_id=RUN,
            node_id=node,
            namespace=place,
            message_id=message if is_text else None,
            request_id="r" if is_text and message == "m1" else None,
        )
        records.append(record(seq, name, draw(DATA[name]), found))
    end = draw(st.sampled_from(sorted(ENDS)))
    records.append(record(len(records) + 1, end, ENDS[end], scope))
    return records


@given(runs(), st.sets(st.sampled_from(MODES), min_size=1), st.booleans(), st.data())
def test_any_run_goes_on_exactly_after_any_place(
    records: list[StoredUpdate], modes: set[str], subgraphs: bool, data: st.DataObject
) -> None:
    chosen = sorted(modes)
    whole = encode(records, chosen, subgraphs=subgraphs)
    at = data.draw(st.integers(0, len(whole) - 1))
    assert encode(records, chosen, after=whole[at][2], subgraphs=subgraphs) == whole[at + 1 :]
    # A place between two updates, which no frame has.
    seq = data.draw(st.integers(0, len(records)))
    later = [each for each in whole if int(each[2].partition(":")[2].partition(".")[0]) > seq]
    assert encode(records, chosen, after=f"{EPOCH}:{seq}", subgraphs=subgraphs) == later


@given(runs(), st.sets(st.sampled_from(MODES), min_size=1), st.data())
def test_pages_make_no_difference(records: list[StoredUpdate], modes: set[str], data: st.DataObject) -> None:
    view = RunView(thread_id="t", run_id=RUN, own_run=RUN, modes=frozenset(modes), subgraphs=True)
    encoder = RunEncoder(view)
    whole = b"".join(encoder.encode("t", (each,)).wire for each in records)
    again, paged = RunEncoder(view), b""
    for page in pages(records, data):
        paged += again.encode("t", page).wire
    assert paged == whole
    assert encoder.is_complete
    assert again.is_complete


def pages(records: list[StoredUpdate], data: st.DataObject) -> Iterator[list[StoredUpdate]]:
    left = records
    while left:
        size = data.draw(st.integers(1, len(left)))
        yield left[:size]
        left = left[size:]


@given(runs(), st.booleans())
def test_updates_of_other_runs_are_not_shown(records: list[StoredUpdate], early: bool) -> None:
    other = Scope(run_id="another")
    strange = [
        record(seq, name, {"content": "secret", "run_id": "another"}, other)
        for seq, name in enumerate(["workflow_start", "token", "workflow_complete"], 1)
    ]
    moved = [each._replace(seq=each.seq + len(strange)) for each in records]
    last = [each._replace(seq=each.seq + len(strange) + len(records)) for each in strange]
    mixed = [*strange, *moved, *last] if early else [*moved, *last]
    view = RunView(thread_id="t", run_id=RUN, own_run=RUN, modes=frozenset(MODES), subgraphs=True)
    encoder = RunEncoder(view)
    assert b"secret" not in b"".join(encoder.encode("t", (each,)).wire for each in mixed)
    assert encoder.is_complete


def test_names_have_the_graphs_namespace() -> None:
    records = [
        record(1, "workflow_start", {}, Scope(run_id=RUN)),
        record(2, "token", {"content": "a"}, Scope(run_id=RUN, namespace="child:c|inner:d", message_id="m")),
        record(3, "token", {"content": "b"}, Scope(run_id=RUN, namespace="write:a", message_id="n")),
    ]
    assert [name for name, _, _ in encode(records, ["messages-tuple"])] == ["metadata", "messages|child:c", "messages"]
    assert [name for name, _, _ in encode(records, ["messages-tuple"], subgraphs=False)] == ["metadata", "messages"]


def test_an_interrupt_has_the_newest_values() -> None:
    scope, asked = Scope(run_id=RUN), ENDS["workflow_interrupted"]
    records = [
        record(1, "workflow_start", {}, scope),
        record(2, "state", {"values": {"note": "x"}, "source": "loop"}, scope),
        record(3, "workflow_interrupted", asked, scope),
    ]
    shown = [{"id": "i1", "value": "Go on?"}]
    assert encode(records, ["values"])[-1][:2] == ("values", {"note": "x", "__interrupt__": shown})
    assert encode(records, ["updates"])[-1][:2] == ("updates", {"__interrupt__": shown})
    assert encode(records, ["custom"])[-1][:2] == ("values", {"__interrupt__": shown})
    assert encode(records, ["values"], after=f"{EPOCH}:2")[-1][:2] == ("values", {"note": "x", "__interrupt__": shown})


def test_a_pause_of_an_operator_does_not_end_the_stream() -> None:
    scope = Scope(run_id=RUN)
    encoder = RunEncoder(RunView(thread_id="t", run_id=RUN, own_run=RUN))
    paused = record(2, "workflow_interrupted", {"paused": True}, scope)
    encoder.encode("t", [record(1, "workflow_start", {}, scope), paused])
    assert not encoder.is_complete


def test_a_segment_begins_when_its_run_resumes() -> None:
    scope, asked = Scope(run_id=RUN), ENDS["workflow_interrupted"]
    records = [
        record(1, "workflow_start", {}, scope),
        record(2, "workflow_interrupted", asked, scope),
        record(3, "human_response", {"prompt_id": "i1", "response": "yes"}, scope),
        record(4, "status", {"status": "resumed"}, scope),
        record(5, "state", {"values": {"note": "y"}, "source": "loop"}, scope),
        record(6, "workflow_complete", {}, scope),
    ]
    view = RunView(thread_id="t", run_id="second", own_run=RUN, begin=2, resumed=True)
    encoder = RunEncoder(view)
    frames = parsed(encoder.encode("t", records).wire)
    assert [(name, data) for name, data, _ in frames] == [
        ("metadata", {"run_id": "second", "attempt": 1}),
        ("values", {"note": "y"}),
    ]
    first = RunEncoder(RunView(thread_id="t", run_id=RUN, own_run=RUN))
    assert parsed(first.encode("t", records).wire)[-1][1] == {"__interrupt__": [{"id": "i1", "value": "Go on?"}]}


def test_parts_of_a_tool_call_name_it_once() -> None:
    scope = Scope(run_id=RUN, namespace="write:a", message_id="m", request_id="r")
    records = [
        record(1, "workflow_start", {}, Scope(run_id=RUN)),
        *(
            record(seq, "tool_args", {"tool_call_id": call, "tool": "search", "args": args}, scope)
            for seq, (call, args) in enumerate([("c1", '{"q"'), ("c2", "{"), ("c1", ": 1}")], 2)
        ),
    ]
    parts = [
        data[0]["tool_call_chunks"][0] for name, data, _ in encode(records, ["messages-tuple"]) if name == "messages"
    ]
    assert [(each["name"], each["id"], each["index"]) for each in parts] == [
        ("search", "c1", 0),
        ("search", "c2", 1),
        (None, None, 0),
    ]
    whole = [data[0] for name, data, _ in encode(records, ["messages"]) if name == "messages/partial"][-1]
    assert [each["args"] for each in whole["tool_calls"]] == [{"q": 1}, {}]


@pytest.mark.parametrize("text", ["", "-1", "nope", "1:2:3", "a:b", "a:1.x", "a:1.2.3", "a:1" * 20, "ä:1"])
def test_other_texts_are_no_places(text: str) -> None:
    assert Place.parse(text) is None
