"""The events of recorded and made-up runs: their order, their form, and what they add up to."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lg_streaming.events import Scope
from lg_streaming.gateway.dialects.agui.reading import Reading
from lg_streaming.log.base import StoredUpdate
from tests.support.npm import run_checks
from tests.wires.agui.translating import parts_of, requests, stream
from tests.wires.conversation import Conversation
from tests.wires.recordings import EXECUTION, RECORDINGS, Recording, record_all
from tests.wires.sequences import updates

JS = Path(__file__).parent / "js"
MODERN = Reading(thread_id=EXECUTION, run_id="r-1", log_run_id=None)
OLD = Reading(thread_id=EXECUTION, run_id="r-1", log_run_id=None, is_modern=False)
LIKE = {"new": MODERN, "old": OLD}


@pytest.fixture(scope="module")
def recorded() -> dict[str, Recording]:
    return asyncio.run(record_all())


def texts(events: Iterable[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = defaultdict(str)
    for each in events:
        if each["type"] == "TEXT_MESSAGE_CONTENT":
            found[each["messageId"]] += each["delta"]
    return dict(found)


def calls(events: Iterable[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    names = {each["toolCallId"]: each["toolCallName"] for each in events if each["type"] == "TOOL_CALL_START"}
    args: dict[str, str] = defaultdict(str)
    for each in events:
        if each["type"] == "TOOL_CALL_ARGS":
            args[each["toolCallId"]] += each["delta"]
    return {id_: (name, args[id_]) for id_, name in names.items()}


@pytest.mark.parametrize("client", LIKE)
@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recorded_run_keeps_the_order_and_its_text(recorded: dict[str, Recording], name: str, client: str) -> None:
    records = recorded[name].records
    streams = list(requests(records, LIKE[client]))
    events = [event for each in streams for event in each.events]
    expected = Conversation.of(records, takes_back=False)
    shown = texts(events)
    assert {id_: shown.get(id_) for id_ in expected.texts} == expected.texts
    announced = {id_: (call, json.loads(args)) for id_, (call, args) in calls(events).items()}
    assert announced == {id_: (each.name, each.input) for id_, each in expected.calls.items()}
    results = [each["toolCallId"] for each in events if each["type"] == "TOOL_CALL_RESULT"]
    assert len(results) == len(set(results))
    served = {id_ for id_, each in expected.calls.items() if each.output or each.error}
    assert set(results) == (set(expected.calls) if name == "rejection" else served)  # the graph itself rejects


@settings(max_examples=25)
@given(records=updates(), cuts=st.lists(st.integers(1, 80), max_size=6), client=st.sampled_from(["new", "old"]))
def test_made_up_runs_keep_the_order(records: list[StoredUpdate], cuts: list[int], client: str) -> None:
    whole = list(requests(records, LIKE[client]))
    cut = list(requests(records, LIKE[client], cuts))
    assert [each.events for each in whole] == [each.events for each in cut]
    expected = Conversation.of(records, takes_back=False)
    shown = texts(event for each in whole for event in each.events)
    assert {id_: shown.get(id_) for id_ in expected.texts} == expected.texts


@settings(max_examples=25)
@given(records=updates(), cuts=st.lists(st.integers(1, 80), max_size=6), start=st.integers(0, 60))
def test_a_replay_has_the_text_of_the_run_once(records: list[StoredUpdate], cuts: list[int], start: int) -> None:
    run_id = records[-1].scope.run_id
    part = [each for each in records if each.scope.run_id == run_id]
    replaying = Reading(thread_id=EXECUTION, run_id="r-1", log_run_id=run_id, replays=True)
    events = stream(part, replaying, cuts).events
    expected = Conversation.of(part, takes_back=False).texts
    shown = texts(events)
    assert {id_: shown.get(id_) for id_ in expected} == expected
    # From the middle, as when the beginning is evicted: what is shown is an end of the text.
    late = stream(part[min(start, len(part) - 1) :], replaying, cuts, gap=0).events
    for id_, text in texts(late).items():
        assert expected.get(id_, text).endswith(text)


@settings(max_examples=25)
@given(records=updates(), start=st.integers(1, 80), missing=st.integers(1, 20))
def test_a_gap_in_the_middle_keeps_the_order(records: list[StoredUpdate], start: int, missing: int) -> None:
    _, part = next(parts_of(records))
    start = min(start, len(part) - 1)
    read = [*part[:start], *part[min(start + missing, len(part) - 1) :]]
    assert stream(read, MODERN, [start], gap=start).events


@pytest.mark.parametrize("name", ["text", "large texts"])
def test_a_reader_after_a_gap_opens_no_lost_message(recorded: dict[str, Recording], name: str) -> None:
    records = recorded[name].records
    first = next(place for place, each in enumerate(records) if each.type == "token")
    events = stream(records[first + 1 :], MODERN, gap=0).events
    lost = records[first].scope.message_id
    assert lost not in texts(events)
    if name == "text":  # the state of the other is too large for its update
        snapshot = next(each for each in events if each["type"] == "MESSAGES_SNAPSHOT")
        assert lost in {each["id"] for each in snapshot["messages"]}


@pytest.mark.parametrize("client", [("@ag-ui/client", "new"), ("client059", "old")], ids=["1.0.0", "0.0.59"])
async def test_the_clients_own_checks_accept_all_recorded_runs(
    recorded: dict[str, Recording], client: tuple[str, str], tmp_path: Path
) -> None:
    module, reading = client
    bodies = {
        name: [each.body.decode() for each in requests(recorded[name].records, LIKE[reading])] for name in RECORDINGS
    }
    path = tmp_path / "bodies.json"
    path.write_text(json.dumps(bodies), encoding="utf-8")
    found = await run_checks(JS / "rules.mjs", module, str(path))
    assert {name for name in bodies if not found[name].passed} == set(), found.output


def test_the_parts_of_a_run_are_those_of_its_requests(recorded: dict[str, Recording]) -> None:
    assert len(list(parts_of(recorded["interrupt"].records))) == 2
    assert len(list(parts_of(recorded["two runs"].records))) == 2


def test_updates_of_other_runs_are_left_out(recorded: dict[str, Recording]) -> None:
    records = recorded["two runs"].records
    last = records[-1].scope.run_id
    reading = Reading(thread_id=EXECUTION, run_id="r-1", log_run_id=last)
    expected = Conversation.of([each for each in records if each.scope.run_id == last], takes_back=False).texts
    assert texts(stream(records, reading).events) == expected
    assert Scope(run_id=last) != records[0].scope
