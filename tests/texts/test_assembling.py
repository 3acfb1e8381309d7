"""Void text is in no text of any assembler: one table of cases for all assemblers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.codec import Codec
from lg_streaming.events import NAMES, Scope
from lg_streaming.gateway.delivery.merge import merge
from lg_streaming.log.base import Batch, PendingUpdate, StoredUpdate
from lg_streaming.log.memory import MemoryLog
from tests.log.drafts import read_now
from tests.texts.histories import histories
from tests.texts.rules import HERE, Listed, Update, by_javascript, by_python, by_rules, by_terminal, numbered

CASES: list[dict[str, Any]] = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
CASE_NAMES = [case["name"] for case in CASES]

Assemble = Callable[[Sequence[Update]], dict[str, Listed]]


@pytest.fixture(scope="module")
def in_javascript() -> list[dict[str, dict[str, Listed]]]:
    return by_javascript([numbered(case["updates"]) for case in CASES])


def in_any_order(found: dict[str, Listed]) -> dict[str, Listed]:
    return {what: sorted(messages) for what, messages in found.items()}


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_python_module(case: dict[str, Any]) -> None:
    found = by_python(numbered(case["updates"]))
    assert found["messages"] == case["messages"]
    assert found["thinking"] == case.get("thinking", [])


@pytest.mark.parametrize("case", CASES, ids=CASE_NAMES)
def test_terminal(case: dict[str, Any]) -> None:
    found = in_any_order(by_terminal(numbered(case["updates"])))
    assert found == {"messages": sorted(case["messages"]), "thinking": case.get("thinking", [])}


@pytest.mark.parametrize("index", range(len(CASES)), ids=CASE_NAMES)
def test_browser_module(in_javascript: list[dict[str, dict[str, Listed]]], index: int) -> None:
    case, found = CASES[index], in_javascript[index]["module"]
    assert found["thinking"] == case.get("thinking", [])
    assert found["messages"] == case["messages"]


@pytest.mark.parametrize("index", range(len(CASES)), ids=CASE_NAMES)
def test_page(in_javascript: list[dict[str, dict[str, Listed]]], index: int) -> None:
    case, found = CASES[index], in_any_order(in_javascript[index]["page"])
    assert found == {"messages": sorted(case["messages"]), "thinking": case.get("thinking", [])}


@pytest.mark.parametrize("assemble", [by_python, by_terminal], ids=["python", "terminal"])
@given(updates=histories())
def test_assembling_is_replaying_the_rules(assemble: Assemble, updates: list[Update]) -> None:
    expected = by_rules(updates)
    assert in_any_order(assemble(updates)) == in_any_order(expected)


def test_javascript_replays_the_rules_as_well() -> None:
    found: list[list[Update]] = []

    @given(updates=histories())
    def collect(updates: list[Update]) -> None:
        found.append(updates)

    collect()
    for updates, made in zip(found, by_javascript(found), strict=True):
        expected = in_any_order(by_rules(updates))
        assert in_any_order(made["module"]) == expected, updates
        assert in_any_order(made["page"]) == expected, updates


@given(updates=histories(), atomic=st.booleans())
def test_a_merged_stream_gives_the_same_texts(updates: list[Update], atomic: bool) -> None:
    found = merge(_records_of(updates), atomic=atomic)
    # Pieces of messages that alternate may be merged, so a message may begin earlier or later than another.
    merged = by_python([orjson.loads(record.json) for record in found])
    assert in_any_order(merged) == in_any_order(by_python(updates))


@pytest.mark.parametrize("atomic", [True, False])
def test_nothing_is_merged_across_an_error_that_takes_text_back(atomic: bool) -> None:
    about = {"namespace": "write:1", "attempt": 1, "message_id": "a"}
    pieces = [["token", {"content": f"{number} "}, about] for number in range(4)]
    updates = numbered([*pieces[:2], ["llm_error", {}, about], *pieces[2:]])
    found = [orjson.loads(record.json) for record in merge(_records_of(updates), atomic=atomic)]
    assert [(each["type"], each["data"].get("content")) for each in found] == [
        ("token", "0 1 "),
        ("llm_error", None),
        ("token", "2 3 "),
    ]


def _records_of(updates: Sequence[Update]) -> Sequence[StoredUpdate]:
    codec, log = Codec(), MemoryLog(new_epoch=lambda: "k")
    drafts: list[PendingUpdate] = []
    for update in updates:
        about = {name: value for name, value in update["metadata"].items() if name in NAMES}
        scope, kind = Scope(**about), update["type"]
        body = codec.encode("e", kind, update["data"], scope=scope, priority="medium", timestamp=0.0)
        drafts.append(PendingUpdate(kind, scope, "medium", 0.0, body))
    log.append(Batch("e", drafts, "p", 1))
    found = read_now(log, "e", 0, len(drafts))
    assert found is not None
    return found.records
