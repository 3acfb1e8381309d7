"""Invariants of any sequence of reports, at any time."""

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.progress_kit import tracker

numbers = st.one_of(
    st.integers(-5, 120), st.floats(-5, 120), st.sampled_from([float("nan"), float("inf"), 0, 100, "no number", None])
)
updates = st.tuples(st.just("update"), numbers, st.one_of(st.just(100), numbers))
sleeps = st.tuples(st.just("sleep"), st.sampled_from([0.0, 0.05, 0.3, 1.0, 7.0]), st.none())
options = st.fixed_dictionaries(
    {
        "interval": st.sampled_from([0.0, 0.1, 1.0, 5.0]),
        "granularity": st.sampled_from(["coarse", "fine", "detailed"]),
        "milestones": st.lists(st.sampled_from([1, 10, 25, 25.5, 50, 75, 99.9, 100]), max_size=6),
        "format": st.just({"precision": 6}),
    }
)


@given(options, st.lists(st.one_of(updates, sleeps), max_size=40), st.sampled_from(["completed", "failed"]))
def test_what_leaves_of_any_reports(options: dict[str, Any], script: list[tuple[str, Any, Any]], status: str) -> None:
    progress, said, clock = tracker(**options)
    for what, one, other in script:
        if what == "sleep":
            clock.advance_by(one)
        else:
            before = progress.percent
            progress.update(one, other)
            assert progress.percent >= before
    reached = progress.percent
    progress.finish(status)
    reports = said.of("progress")
    told = [data["progress"] for data in reports]

    # never back; from 0 to where it came
    assert told == sorted(told)
    assert (told[0], reports[0]["status"]) == (0, "started")
    assert reports[-1]["status"] == status
    assert told[-1] == (100 if status == "completed" else round(reached, 6))
    # the last value reported while it ran was published, and no value that was never reached
    if options["granularity"] != "coarse":
        assert told[-2 if len(told) > 1 else -1] == round(reached, 6)
    # each milestone once, ascending
    passed = [data["milestone"] for data in said.of("milestone")]
    assert passed == [mark for mark in sorted(set(options["milestones"])) if mark <= progress.percent + 1e-9]
    # nothing is owed later
    count = len(said.said)
    progress.update(99, 100)
    clock.advance_by(100)
    assert len(said.said) == count


@given(st.lists(st.one_of(updates, sleeps), max_size=40), st.sampled_from([0.1, 1.0, 5.0]))
def test_at_most_one_report_an_interval(script: list[tuple[str, Any, Any]], interval: float) -> None:
    progress, said, clock = tracker(interval=interval, milestones=[50])
    for what, one, other in script:
        if what == "sleep":
            clock.advance_by(one)
        else:
            progress.update(one, other)
    free = {0, 50, 100}  # those that never wait, by the percentage they first reached
    reports = [(at, data["progress"]) for at, kind, data in said.said if kind == "progress"]
    seen = {0.0}
    for (before, _), (at, percent) in pairwise(reports):
        crossed = any(max(seen) < mark <= percent for mark in free)
        seen.add(percent)
        assert crossed or at - before >= interval - 1e-6
    progress.finish("completed")


@given(
    st.lists(st.floats(0.1, 10), min_size=1, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.floats(0, 100)), max_size=40),
)
def test_parts_add_up_by_weight(weights: list[float], script: list[tuple[int, float]]) -> None:
    progress, said, _ = tracker(granularity="detailed")
    parts = [progress.subtask(weight) for weight in weights]
    for number, percent in script:
        parts[number % len(parts)].update(percent, 100)
        mean = sum(part.percent * weight for part, weight in zip(parts, weights, strict=True)) / sum(weights)
        assert abs(progress.percent - mean) < 1e-6
    for part in parts:
        part.complete()
    assert progress.percent == 100
    progress.finish("completed")
    told = [data["progress"] for data in said.of("progress")]
    assert told == sorted(told)
