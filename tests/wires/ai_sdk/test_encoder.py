"""The encoder alone: each rule of the client's, for recorded runs and for made-up ones, in pages of any size."""

import asyncio
import functools
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_streaming.codec import Codec, add_position
from lg_streaming.events import Scope
from lg_streaming.gateway.dialects.ai_sdk.encoder import Form, UiMessageStream
from lg_streaming.globs import Globs
from lg_streaming.log.base import StoredUpdate
from tests.wires.ai_sdk.reader import Reader, chunks_of
from tests.wires.conversation import Conversation
from tests.wires.recordings import EXECUTION, RECORDINGS, Recording, record_all
from tests.wires.sequences import Run, updates

ENDS = {"workflow_complete", "workflow_error", "workflow_cancelled", "workflow_abandoned"}


@functools.cache
def recorded() -> dict[str, Recording]:
    return asyncio.run(record_all())


def first_message(records: Sequence[StoredUpdate]) -> Sequence[StoredUpdate]:
    """The updates of the first run."""
    end = next((index for index, each in enumerate(records) if each.type in ENDS), len(records))
    return records[: end + 1]


def encode(records: Sequence[StoredUpdate], sizes: Sequence[int] = (), **options: Any) -> list[bytes]:
    """Encode updates in pages of these sizes: streams, each of which ends with the run or where it waits."""
    options = {"form": Form(data=Globs(("progress",))), **options}
    encoder, bodies = UiMessageStream(**options), [b""]
    at, left = 0, list(sizes)
    while at < len(records):
        size = left.pop(0) if left else len(records)
        bodies[-1] += encoder.encode(EXECUTION, records[at : at + size]).wire
        at += size
        is_over = at >= len(records) and records[-1].type in ENDS
        if (at >= len(records) or size % 2) and not is_over:  # else the reader lags
            bodies[-1] += encoder.caught_up()
        if encoder.is_complete and at < len(records):
            bodies[-1] += encoder.on_end(None, run_is_over=False)
            encoder = UiMessageStream(**options)
            encoder.prime(EXECUTION, records[:at])
            encoder.go_on(None, {each: {} for each in encoder.questions})
            bodies.append(b"")
    bodies[-1] += encoder.on_end(None, run_is_over=records[-1].type in ENDS)
    return bodies


def read(records: Sequence[StoredUpdate], sizes: Sequence[int] = (), **options: Any) -> Reader:
    message = Reader(approvals=options.pop("approvals", True), latest=options.pop("latest", False))
    for body in encode(records, sizes, **options):
        message.read(chunks_of(body))
        assert not message.would_send()
        for part in message.calls:
            if part["state"] == "approval-requested":
                part["state"] = "approval-responded"
    return message


def check_same(message: Reader, records: Sequence[StoredUpdate]) -> None:
    """Check that a message has the texts and the calls of a run."""
    wanted = Conversation.of(records, takes_back=False)
    texts: dict[str, str] = {}
    for part in message.parts:
        if part["type"] == "text":
            key = str(part["langgraph"]["message_id"])
            texts[key] = texts.get(key, "") + part["text"]
    assert {name: text for name, text in texts.items() if name in wanted.texts} == wanted.texts
    calls = {each["toolCallId"]: each for each in message.calls if each["type"] != "dynamic-tool"}
    assert calls.keys() >= wanted.calls.keys()
    for call_id, call in wanted.calls.items():
        if call.error is not None:
            assert calls[call_id]["errorText"] == call.error


@pytest.mark.parametrize("name", RECORDINGS)
@pytest.mark.parametrize("sizes", [(), (1,) * 400, (3, 50, 2) * 100], ids=["at once", "one by one", "mixed"])
def test_a_recorded_run(name: str, sizes: Sequence[int]) -> None:
    records = first_message(recorded()[name].records)
    message = read(records, sizes)
    if name != "evicted beginning":
        check_same(message, records)


@settings(max_examples=25)
@given(updates(), st.lists(st.integers(1, 9), max_size=20), st.sampled_from(["live", "replay", "5", "7"]))
def test_made_up_runs(records: list[StoredUpdate], sizes: list[int], form: str) -> None:
    first = first_message(records)
    if form in {"5", "7"}:
        clients = Form(clients="5" if form == "5" else "7")
        read(first, sizes, form=clients, approvals=form != "5", latest=form == "7")
        return
    message = read(first, sizes, replay_until=first[-1].seq if form == "replay" else 0)
    check_same(message, first)
    if form == "replay":
        assert not message.transient


@settings(max_examples=25)
@given(updates(), st.integers(1, 60), st.lists(st.integers(1, 9), max_size=9))
def test_a_stream_that_begins_in_a_gap(records: list[StoredUpdate], start: int, sizes: list[int]) -> None:
    rest = first_message(records)[start:]
    if rest:
        read(rest, sizes, run_id="r-1")


def test_only_version_7_takes_text_back() -> None:
    records = first_message(recorded()["retries"].records)
    latest = read(records, (1,) * 400, form=Form(clients="7"), latest=True)
    assert [each["text"] for each in latest.parts if each["type"] == "text"] == [
        "A text that is taken back twice.",
        "Then.",
    ]
    assert read(records).text.count("A text") == 3


def test_a_replay_is_small() -> None:
    records = first_message(recorded()["custom data"].records)
    live, replay = read(records, (1,) * 400), read(records, replay_until=records[-1].seq)
    assert [each for each in live.parts if each["type"] != "data-gap"] == replay.parts
    assert live.transient
    assert not replay.transient
    text = first_message(recorded()["text"].records)
    assert b"".join(encode(text)).count(b"text-delta") == 1 < b"".join(encode(text, (1,) * 400)).count(b"text-delta")


def test_a_question_of_the_program_is_data() -> None:
    run = Run(cast("Any", None), run_id="r-1")
    run.add("workflow_start", {"run_id": "r-1"})
    run.add("human_prompt", {"prompt_id": "p-1", "prompt": "Go on?", "type": "approval"})
    run.add("workflow_complete", {})
    message = read(run.records)
    assert [each["type"] for each in message.parts] == ["step-start", "data-human-prompt"]


def test_an_approved_call_that_the_graph_leaves_out_is_closed() -> None:
    """A client would send its approval again and again."""
    records = first_message(recorded()["approval"].records)
    start = next(index for index, each in enumerate(records) if each.type == "tool_start")
    message = read([each for each in records if not each.type.startswith(("tool_start", "tool_complete"))], (1,) * 400)
    assert start
    assert [each["state"] for each in message.calls] == ["output-available"]
    assert message.calls[0]["output"] is None


@pytest.mark.parametrize("streamed", [True, False])
def test_a_shortened_input_replaces_no_whole_one(streamed: bool) -> None:
    long, scope = "q" * 2_000, Scope(run_id="r", node_id="n", message_id="m")
    call = {"tool": "search", "tool_call_id": "c", "index": 0}
    updates: list[tuple[str, Any]] = [
        ("tool_args", {**call, "args": f'{{"query":"{long}"}}'}),
        ("tool_start", {**call, "input": {"query": long}}),
        ("tool_complete", {**call, "input": {"query": long}, "output": "found"}),
    ]
    codec, records = Codec(max_bytes=1_000), list[StoredUpdate]()
    for name, data in updates if streamed else updates[1:]:
        options: dict[str, Any] = {"scope": scope, "priority": "medium", "timestamp": 1.0}
        for body in codec.encode_fitting(EXECUTION, name, codec.encode_data(name, data), **options)[1]:
            seq = len(records) + 1
            records.append(StoredUpdate(name, scope, "medium", 1.0, add_position(body, seq, "1"), None, seq, "1"))
    encoder = UiMessageStream(Form(), run_id="r")
    body = encoder.encode(EXECUTION, records).wire + encoder.on_end(None, run_is_over=True, state="completed")
    (part,) = Reader().read(chunks_of(body)).calls
    assert (part["input"]["query"] == long) is streamed
    assert part["output"] == "found"
