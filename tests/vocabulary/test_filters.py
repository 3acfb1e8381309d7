"""Updates that match a filter."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.errors import BadRequestError
from lg_streaming.events import NO_SCOPE, PRIORITIES, Priority, Scope, StreamEventType, StreamUpdate, kind_of
from lg_streaming.filters import ALL, UpdateFilter
from tests.vocabulary.wire import update


def accepts(wanted: UpdateFilter, type: str = "token", scope: Scope = NO_SCOPE, priority: Priority = "medium") -> bool:
    """By both ways of asking, which must agree."""
    shown: StreamUpdate = update(type=type, scope=scope, priority=priority)
    verdict = wanted.matches(shown)
    assert wanted.accepts(type, scope, priority, shown.metadata.timestamp) == verdict
    return verdict


@pytest.mark.parametrize("type", [*StreamEventType, "task:progress", "my own", ""])
def test_no_filter_lets_everything_through(type: str) -> None:
    assert accepts(ALL, type)
    assert accepts(UpdateFilter.of(), type)
    assert UpdateFilter.of().is_empty


@pytest.mark.parametrize(
    ("events", "passing", "others"),
    [
        (["token"], ["token", "thinking"], ["progress", "status", "custom"]),
        (["progress"], ["progress", "milestone", "workflow_progress"], ["token", "status"]),
        (["status"], ["status", "workflow_start", "workflow_complete"], ["token", "node_start"]),
        (["event"], ["custom", "values", "node_start", "task:created", "my own"], ["token", "milestone", "status"]),
        (["thinking"], ["thinking"], ["token"]),
        (["task:*"], ["task:", "task:created", "task:a:b"], ["task", "subtask:x", "token"]),
        (["*:error"], ["task:error", "llm:request:error"], ["error", "task:errors"]),
        (["a*b*c"], ["abc", "aXbYc", "abbcc"], ["acb", "ab", "bc"]),
        (["*"], ["token", "x", ""], []),
        (["token", "llm:*", "custom"], ["thinking", "llm:token", "custom"], ["values", "status"]),
        (["a.b*"], ["a.b", "a.bc"], ["aXb"]),
        (["a*c"], ["a/b/c", "a//c"], ["a/b/d"]),
    ],
)
def test_events_are_kinds_types_and_globs(events: list[str], passing: list[str], others: list[str]) -> None:
    wanted = UpdateFilter.of(events=events)
    assert [type for type in passing if not accepts(wanted, type)] == []  # noqa: A001
    assert [type for type in others if accepts(wanted, type)] == []  # noqa: A001


def test_types_are_exact() -> None:
    wanted = UpdateFilter.of(types=["token", "task:*"])
    assert accepts(wanted, "token")
    assert accepts(wanted, "task:created")
    assert not accepts(wanted, "thinking")


@given(st.text("ab*", max_size=6), st.text("ab", max_size=8))
def test_a_star_stands_for_anything(pattern: str, type: str) -> None:
    expected = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), type) is not None
    if pattern:
        assert UpdateFilter.of(types=[pattern]).accepts_type(type) == expected


def test_a_pattern_made_to_be_slow_is_not() -> None:
    wanted = UpdateFilter.of(types=["*a" * 100 + "*b"])
    assert not wanted.accepts_type("a" * 250)


@pytest.mark.parametrize(
    ("part", "field"), [("node_ids", "node_id"), ("agent_types", "agent_type"), ("categories", "category")]
)
def test_scopes_match_exactly(part: str, field: str) -> None:
    kwargs: dict[str, Any] = {part: ["write", "plan"]}
    wanted = UpdateFilter.of(**kwargs)
    assert accepts(wanted, scope=NO_SCOPE.derive(**{field: "write"}))
    assert not accepts(wanted, scope=NO_SCOPE.derive(**{field: "writer"}))
    assert not accepts(wanted, scope=NO_SCOPE)


def test_all_parts_must_agree() -> None:
    wanted = UpdateFilter.of(events=["token"], node_ids=["write"], min_priority="high")
    assert accepts(wanted, "token", Scope(node_id="write"), "high")
    assert not accepts(wanted, "custom", Scope(node_id="write"), "high")
    assert not accepts(wanted, "token", Scope(node_id="plan"), "high")
    assert not accepts(wanted, "token", Scope(node_id="write"), "medium")


@pytest.mark.parametrize("least", PRIORITIES)
def test_priorities_are_ordered(least: Priority) -> None:
    wanted = UpdateFilter.of(min_priority=least)
    passing = [priority for priority in PRIORITIES if accepts(wanted, priority=priority)]
    assert passing == list(PRIORITIES[PRIORITIES.index(least) :])


def test_normal_is_read_as_medium() -> None:
    assert UpdateFilter.of(min_priority="normal") == UpdateFilter.of(min_priority="medium")


def test_time_bounds_are_inclusive() -> None:
    shown = update(timestamp=1_700_000_000.1239)
    moment, tick = shown.metadata.timestamp, timedelta(milliseconds=1)
    assert UpdateFilter.of(since=moment, until=moment).matches(shown)
    assert UpdateFilter.of(since=moment - tick, until=moment + tick).matches(shown)
    assert not UpdateFilter.of(since=moment + tick).matches(shown)
    assert not UpdateFilter.of(until=moment - tick).matches(shown)


@pytest.mark.parametrize(
    "wrong",
    [
        {"events": "token"},
        {"node_ids": "write"},
        {"types": [""]},
        {"types": ["x" * 257]},
        {"events": [f"a{index}" for index in range(129)]},
        {"min_priority": "urgent"},
        {"since": datetime(2026, 7, 1)},  # noqa: DTZ001 (it is the lack that is tested)
        {"until": datetime(2026, 7, 1)},  # noqa: DTZ001
    ],
    ids=str,
)
def test_what_makes_no_filter_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadRequestError):
        UpdateFilter.of(**wrong)


@pytest.mark.parametrize("name", ["since", "until"])
@pytest.mark.parametrize("moment", ["interupted", 5, "2026-07-01"])
def test_what_is_no_moment_is_refused_with_what_there_is(name: str, moment: Any) -> None:
    with pytest.raises(BadRequestError, match=f"{name} is a datetime with a time zone") as refused:
        UpdateFilter.of(**{name: moment})
    assert ("or 'interrupted'" in refused.value.message) == (name == "until")


names = st.lists(st.sampled_from(["token", "event", "custom", "task:*", "a*", "write"]), max_size=3)
filters = st.builds(
    UpdateFilter.of,
    events=names,
    types=names,
    node_ids=names,
    categories=names,
    min_priority=st.sampled_from([None, "low", "high"]),
    since=st.sampled_from([None, datetime(2026, 7, 1, tzinfo=UTC)]),
)


@given(filters, filters, st.sampled_from(["token", "thinking", "task:a", "values"]))
def test_filters_are_values(one: UpdateFilter, other: UpdateFilter, type: str) -> None:
    accepts(one, type)  # what it remembers does not make it another filter
    assert one == UpdateFilter(
        kinds=one.kinds,
        types=one.types,
        globs=one.globs,
        node_ids=one.node_ids,
        categories=one.categories,
        min_priority=one.min_priority,
        since=one.since,
    )
    if one == other:
        assert hash(one) == hash(other)
        assert accepts(one, type) == accepts(other, type)
    assert len({one, other}) == (1 if one == other else 2)


@given(st.lists(st.text(min_size=1, max_size=3), max_size=900), names)
def test_what_a_filter_remembers_never_changes_its_verdict(types: list[str], events: list[str]) -> None:
    remembering, wanted = UpdateFilter.of(events=events), set(events)
    for type in [*types, *types]:  # noqa: A001
        assert remembering.accepts_type(type) == UpdateFilter.of(events=events).accepts_type(type)
        if not wanted or kind_of(type) in wanted:
            assert remembering.accepts_type(type)


@pytest.mark.parametrize("category", [None, "", "default"])
def test_an_update_without_a_category_is_one_of_the_default_category(category: str | None) -> None:
    scope = Scope(category=category)
    assert UpdateFilter.of(categories=["default"]).accepts("note", scope, "medium")
    assert UpdateFilter.of(categories=["chat", "default"]).accepts("note", scope, "medium")
    assert not UpdateFilter.of(categories=["chat"]).accepts("note", scope, "medium")
    assert not UpdateFilter.of(categories=["default"]).accepts("note", Scope(category="chat"), "medium")
