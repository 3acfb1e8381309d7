"""The event tape: what holds for every run, filter and reader."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_streaming.gateway.dialects.langgraph.channels import CHANNELS, Selection
from lg_streaming.gateway.dialects.langgraph.event_shapes import parse_event_id
from lg_streaming.gateway.dialects.langgraph.tape import SLOTS, Tape
from lg_streaming.log.base import StoredUpdate
from tests.wires.recordings import EXECUTION, RECORDINGS, record_all
from tests.wires.sequences import updates

Event = dict[str, Any]
ALL = Selection(CHANNELS)


def frame(method: bytes, event_id: bytes, json: bytes) -> bytes:
    event = orjson.loads(json)
    assert (event["method"].encode(), event["event_id"].encode()) == (method, event_id)
    assert b"\n" not in json
    return json + b"\n"


def tape_of(*selections: Selection, since: int = -1) -> Tape:
    return Tape(frame, selections or [ALL], lambda run, epoch, at: f"{run}+{at}", since=since)


def events(records: Sequence[StoredUpdate], *selections: Selection, since: int = -1) -> list[Event]:
    wire = tape_of(*selections, since=since).encode(EXECUTION, records).wire
    return [orjson.loads(line) for line in wire.split(b"\n")[:-1]]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Sequence[StoredUpdate]]:
    return {name: each.records for name, each in asyncio.run(record_all()).items()}


def accepted(event: Event, selection: Selection) -> bool:
    """Return whether a filter accepts an event, as the clients themselves decide it."""
    method, data = event["method"], event["params"]["data"]
    channel = {"input.requested": "input", "input.answered": "input"}.get(method, method)
    if method == "custom" and f"custom:{data['name']}" in selection.channels:
        channel = f"custom:{data['name']}"
    return channel in selection.channels and selection.covers(tuple(event["params"]["namespace"]))


def check(found: list[Event]) -> None:
    """Check what holds for every tape."""
    numbers = [event["seq"] for event in found]
    assert numbers == sorted(set(numbers))
    assert len({event["event_id"] for event in found}) == len(found)
    for event in found:
        parsed = parse_event_id(event["event_id"])
        assert parsed is not None
        assert parsed[1] == event["seq"]
        is_root = event["method"] == "lifecycle" and not event["params"]["namespace"]
        assert event["event_id"].startswith("synth:") == is_root
    check_runs(found)
    check_pairs(found)
    check_messages(found)


def check_runs(found: list[Event]) -> None:
    """Each part of a run begins and ends under one id."""
    roots = [event for event in found if event["method"] == "lifecycle" and not event["params"]["namespace"]]
    running = None
    for event in roots:
        run = event["event_id"].split(":")[1]
        if event["params"]["data"]["event"] == "running":
            assert running is None
            running = run
        else:
            assert run == running or event["params"]["data"]["event"] != "completed"
            running = None
    asked: set[str] = set()
    for event in found:
        if event["method"] == "input.requested":
            data = event["params"]["data"]
            assert data["value"] == data["payload"]
            assert data["interrupt_id"] not in asked
            asked.add(data["interrupt_id"])
        elif event["method"] == "input.answered":
            asked -= set(event["params"]["data"]["interrupt_ids"])


def check_pairs(found: list[Event]) -> None:
    """A checkpoint is followed by its values."""
    for event, after in itertools.pairwise(found):
        if event["method"] == "checkpoints":
            assert after["method"] == "values"
            assert after["params"]["namespace"] == event["params"]["namespace"]
    assert not found or found[-1]["method"] != "checkpoints"


def check_messages(found: list[Event]) -> None:
    """Messages have a start and an end, and blocks that do not overlap and are whole at their end."""
    assembler = Assembler()
    for event in found:
        if event["method"] == "messages":
            assembler.feed(event)
    assert not assembler.open or found[-1]["params"]["data"].get("event") not in {"completed", "failed", "interrupted"}


class Assembler:
    """Reader of messages with the rules by which the official clients assign events to messages."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, ...], dict[str, Any]] = {}
        self.last: dict[tuple[str, ...], tuple[str, ...]] = {}
        self.done: dict[str, dict[str, Any]] = {}

    def feed(self, event: Event) -> None:
        params, data = event["params"], event["params"]["data"]
        slot = ("|".join(params["namespace"]), params.get("node") or "")
        if data["event"] == "message-start":
            key = (*slot, data["id"])
            assert key not in self.open
            self.open[key] = {"id": data["id"], "blocks": [], "current": None}
            self.last[slot] = key
            return
        key = (*slot, data["run_id"]) if "run_id" in data else self.last[slot]
        assert data.get("message_id", key[-1]) == key[-1]
        self.apply(key, slot, self.open[key], data)

    def apply(self, key: tuple[str, ...], slot: tuple[str, ...], message: dict[str, Any], data: Any) -> None:
        blocks = message["blocks"]
        match data["event"]:
            case "content-block-start":
                assert message["current"] is None
                assert data["index"] == len(blocks)
                message["current"] = data["index"]
                blocks.append(dict(data["content"]))
            case "content-block-delta":
                assert data["index"] == message["current"]
                self.change(blocks[-1], data["delta"])
            case "content-block-finish":
                assert data["index"] == message["current"]
                message["current"] = None
                self.compare(blocks[-1], data["content"])
                blocks[-1] = data["content"]
            case "message-finish":
                assert message["current"] is None
                self.done[message["id"]] = message
            case other:
                assert other == "error"
        if data["event"] in {"message-finish", "error"}:
            del self.open[key]
            if self.last.get(slot) == key:
                del self.last[slot]

    def change(self, block: dict[str, Any], delta: Any) -> None:
        match delta["type"]:
            case "text-delta":
                block["text"] += delta["text"]
            case "reasoning-delta":
                block["reasoning"] += delta["reasoning"]
            case other:
                assert other == "block-delta"
                assert delta["fields"]["args"].startswith(block["args"])
                block.update(delta["fields"])

    def compare(self, streamed: dict[str, Any], whole: dict[str, Any]) -> None:
        if whole["type"] == "tool_call":
            assert orjson.loads(streamed["args"] or "{}") == whole["args"]
            assert (streamed["id"], streamed["name"]) == (whole["id"], whole["name"])
        elif whole["type"] == "invalid_tool_call":
            assert streamed["args"] == whole["args"]
        else:
            assert streamed == whole


def texts(found: list[Event]) -> dict[str, str]:
    """Return the texts of the finished messages, by id."""
    assembler = Assembler()
    for event in found:
        if event["method"] == "messages":
            assembler.feed(event)
    return {
        id_: "".join(block.get("text", "") for block in message["blocks"]) for id_, message in assembler.done.items()
    }


def written(content: str | list[Any]) -> str:
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    return "".join(part.get("text", "") for part in parts if part["type"] == "text")


# ---------------------------------------------------------------- recorded runs
@pytest.mark.parametrize("name", RECORDINGS)
def test_recorded_runs(name: str, recorded: dict[str, Sequence[StoredUpdate]]) -> None:
    records = recorded[name]
    found = events(records)
    if name == "evicted beginning":
        return
    check(found)
    streamed = texts(found)
    values = [event["params"]["data"] for event in found if event["method"] == "values"]
    state: list[Any] = values[-1].get("messages", []) if values else []
    messages = [each for each in state if each["type"] == "ai"]
    for each in messages:
        assert streamed.get(each["id"], "") == written(each["content"])
        calls = {call["id"]: call["args"] for call in each.get("tool_calls", [])}
        assert calls == _calls(found, each["id"])
    if name not in {"branches", "failure", "large texts"}:
        assert messages or name in {"cancel", "custom data"}


def _calls(found: list[Event], message_id: str) -> dict[str, Any]:
    assembler = Assembler()
    for event in found:
        if event["method"] == "messages":
            assembler.feed(event)
    blocks: list[Any] = assembler.done[message_id]["blocks"] if message_id in assembler.done else []
    return {block["id"]: block["args"] for block in blocks if block["type"] == "tool_call"}


# ---------------------------------------------------------------- every run, filter and reader
_SELECTIONS = st.builds(
    Selection,
    st.frozensets(st.sampled_from([*sorted(CHANNELS - {"custom"}), "custom:weather", "custom"]), min_size=1),
    st.lists(st.sampled_from([(), ("write",), ("plan:1",), ("write", "inner")]), max_size=2).map(tuple),
    st.none() | st.integers(0, 2),
)


@settings(max_examples=25)
@given(updates())
def test_every_run(records: list[StoredUpdate]) -> None:
    check(events(records))


@settings(max_examples=25)
@given(updates(), st.lists(_SELECTIONS, min_size=1, max_size=2))
def test_a_filter_leaves_events_out_and_changes_none(records: list[StoredUpdate], selections: list[Selection]) -> None:
    wanted = [event for event in events(records) if any(accepted(event, each) for each in selections)]
    assert events(records, *selections) == wanted


@settings(max_examples=25)
@given(updates(), st.data())
def test_a_reader_continues_after_its_last_event(records: list[StoredUpdate], data: st.DataObject) -> None:
    found = events(records)
    cut = data.draw(st.integers(0, len(found) - 1))
    assert events(records, since=found[cut]["seq"]) == found[cut + 1 :]


@settings(max_examples=25)
@given(updates(), st.data())
def test_pages_do_not_change_the_tape(records: list[StoredUpdate], data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(records)), max_size=5)))
    tape, whole = tape_of(), tape_of().encode(EXECUTION, records)
    pages = [records[start:end] for start, end in itertools.pairwise([0, *cuts, len(records)])]
    assert b"".join(tape.encode(EXECUTION, page).wire for page in pages) == whole.wire
    assert tape.written == whole.count


@settings(max_examples=25)
@given(updates(), st.data())
def test_filters_that_come_later(records: list[StoredUpdate], data: st.DataObject) -> None:
    """A connection with two subscriptions has one tape, whose filters change."""
    at = data.draw(st.integers(0, len(records)))
    tape = tape_of(Selection(frozenset({"lifecycle"})))
    head = tape.encode(EXECUTION, records[:at])
    tape.select([ALL])
    tail = tape.encode(EXECUTION, records[at:]).wire
    expected = [event for event in events(records) if event["seq"] >= (at + 1) * SLOTS]
    assert [orjson.loads(line) for line in tail.split(b"\n")[:-1]] == expected
    assert head.count == len(events(records[:at], Selection(frozenset({"lifecycle"}))))


@settings(max_examples=25)
@given(updates(), st.data())
def test_a_reader_after_a_gap_gets_events_of_the_whole_tape(records: list[StoredUpdate], data: st.DataObject) -> None:
    """A message whose beginning is missing is left out, and comes with the next values."""
    at = data.draw(st.integers(0, len(records) - 1))
    tape = tape_of(Selection(frozenset({"messages", "values", "checkpoints", "input"})))
    tape.note_gap()
    wire = tape.encode(EXECUTION, records[at:]).wire
    found = [orjson.loads(line) for line in wire.split(b"\n")[:-1]]
    whole = {event["seq"]: event for event in events(records)}
    assembler = Assembler()
    for event in found:
        if event["method"] == "input.requested" and event["seq"] not in whole:
            continue  # the question was asked in a missing update, and is repeated when the run stops
        known = whole[event["seq"]]
        assert known["event_id"] == event["event_id"]
        assert _without_ids(known["params"]["data"]) == _without_ids(event["params"]["data"])
        if event["method"] == "messages":
            assembler.feed(event)


def _without_ids(data: Any) -> Any:
    """Return data without the members that depend on updates before those of the event."""
    return {key: value for key, value in data.items() if key not in {"run_id", "message_id", "metadata"}}


# ---------------------------------------------------------------- ids
@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("17003", (None, 17003)),
        ("99-17003", (99, 17003)),
        ("synth:run-1:99-17003", (99, 17003)),
        ("", None),
        ("-5", None),
        ("x-5", None),
        ("1e9", None),
        ("9" * 17, None),
        ("newest:1f", None),
        ("٣", None),
    ],
)
def test_ids(text: str, parsed: tuple[int | None, int] | None) -> None:
    assert parse_event_id(text) == parsed
