"""Text that was taken back is in no text, whoever assembles it: one table of cases for all assemblers."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.texts.rules import HERE, Listed, Update, by_javascript, by_python, by_rules, by_terminal, numbered

CASES: list[dict[str, Any]] = json.loads((HERE / "cases.json").read_text(encoding="utf-8"))
NAMES = [case["name"] for case in CASES]

Assemble = Callable[[Sequence[Update]], dict[str, Listed]]


@pytest.fixture(scope="module")
def in_javascript() -> list[dict[str, dict[str, Listed]]]:
    return by_javascript([numbered(case["updates"]) for case in CASES])


def in_any_order(found: dict[str, Listed]) -> dict[str, Listed]:
    return {what: sorted(messages) for what, messages in found.items()}


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_python_module(case: dict[str, Any]) -> None:
    found = by_python(numbered(case["updates"]))
    assert found["messages"] == case["messages"]
    assert found["thinking"] == case.get("thinking", [])


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_terminal(case: dict[str, Any]) -> None:
    found = in_any_order(by_terminal(numbered(case["updates"])))
    assert found == {"messages": sorted(case["messages"]), "thinking": case.get("thinking", [])}


@pytest.mark.parametrize("index", range(len(CASES)), ids=NAMES)
def test_browser_module(in_javascript: list[dict[str, dict[str, Listed]]], index: int) -> None:
    case, found = CASES[index], in_javascript[index]["module"]
    assert found["thinking"] == case.get("thinking", [])
    assert found["messages"] == case["messages"]


@pytest.mark.parametrize("index", range(len(CASES)), ids=NAMES)
def test_page(in_javascript: list[dict[str, dict[str, Listed]]], index: int) -> None:
    case, found = CASES[index], in_any_order(in_javascript[index]["page"])
    assert found == {"messages": sorted(case["messages"]), "thinking": case.get("thinking", [])}


SPACES = ["a:1", "a:1|b:2", "a:1|b:2|c:3", "a:1/d:4", "a:12", "e:5"]


@st.composite
def histories(draw: st.DrawFn) -> list[Update]:
    """Updates as runs make them: attempts of a node rise, and each start is a new attempt."""
    attempts = dict.fromkeys(SPACES, 0)
    made: list[list[Any]] = []
    for number in range(draw(st.integers(1, 30))):
        space = draw(st.sampled_from(SPACES))
        type = draw(  # noqa: A001
            st.sampled_from(
                ["node_start", "token", "token", "token", "thinking", "llm_error", "node_error", "node_interrupted"]
            )
        )
        attempts[space] += type == "node_start"
        attempt = max(1, attempts[space] - draw(st.sampled_from([0, 0, 0, 0, 1])) * (type == "token"))
        metadata: dict[str, Any] = {"namespace": space, "attempt": attempt}
        if type in ("token", "thinking", "llm_error"):
            metadata["message_id"] = f"{space} {draw(st.sampled_from('mn'))}"
        made.append([type, {"content": f"{number} "}, metadata])
        attempts[space] = max(1, attempts[space])
    return numbered(made)


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
