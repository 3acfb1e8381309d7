"""The percentage against the true share of the working time, on recorded runs of graphs of eleven shapes."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from lg_streaming.runs.estimate import RunEstimate
from tests.runs.run_shapes import (
    EARLIER,
    SEEDS,
    SHAPES,
    Recording,
    errors,
    human,
    percentages,
    record,
    replay,
    table,
    traces_of,
    truth,
    worked,
)

TARGET = 0.6
Shape = Callable[..., Any]


@pytest.mark.parametrize("runs", [1, 3, EARLIER])
def test_it_is_better_than_counting_nodes(runs: int) -> None:
    ours, plain = list[float](), list[float]()
    for shape in SHAPES:
        found, counted = errors(shape, runs)
        ours += found
        plain += counted
    assert median(ours) <= TARGET * median(plain)


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_is_better_after_some_runs(shape: Shape) -> None:
    ours, plain = errors(shape, EARLIER)
    assert median(ours) <= 0.8 * median(plain)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_no_worse_than_counting_without_an_earlier_run(shape: Shape) -> None:
    """Counting knows the number of an entrypoint's tasks here, from an earlier run."""
    ours, plain = errors(shape, 0)
    assert median(ours) <= (2.0 if shape.__name__ == "functional" else 1.1) * median(plain)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("runs", [0, EARLIER])
def test_it_never_goes_back_and_ends_at_100(shape: Shape, runs: int) -> None:
    for seed in SEEDS[:5]:
        recording = record(shape, seed)
        found = percentages(recording, traces_of(shape, runs), truth(recording)[0])
        assert found == sorted(found)
        assert found[-1] < 100
        estimate = RunEstimate(recording.structure, traces_of(shape, runs))
        trace = replay(recording, estimate)
        end = estimate.figures(recording.end)
        assert (end.progress, end.completed_nodes) == (100, end.total_nodes)
        assert trace is not None
        assert trace.seconds == pytest.approx(worked(recording)[-1][1])


def test_the_wait_for_a_human_is_not_in_the_durations() -> None:
    recording = record(human, SEEDS[0])
    trace = replay(recording, RunEstimate(recording.structure))
    assert trace is not None
    assert recording.end > 100 > trace.seconds
    assert [each.node for each in trace.visits] == ["prepare", "ask", "act"]
    assert math.fsum(each.seconds for each in trace.visits) == pytest.approx(trace.seconds)


def test_while_it_waits_for_a_human_it_is_far_from_the_end() -> None:
    recording = record(human, SEEDS[0])
    ending = next(at for at, kind, each in recording.events if kind == "end" and each[1] == "interrupted")
    estimate = RunEstimate(recording.structure, traces_of(human, EARLIER))
    replay(recording, estimate, until=ending)
    found = estimate.figures(ending + 10)
    assert found.eta_s is None
    assert found.progress < 50


@pytest.mark.parametrize("shape", SHAPES)
def test_a_recording_is_the_same_each_time(shape: Shape) -> None:
    first, second = record(shape, SEEDS[0]), record.__wrapped__(shape, SEEDS[0])
    assert _names(first) == _names(second)


def _names(recording: Recording) -> list[tuple[float, str, str]]:
    return [(at, kind, str(each[0]).partition(":")[0] if each else "") for at, kind, each in recording.events]


def test_the_page_shows_the_figures(root: Path) -> None:
    """Versions of Python and LangGraph may differ a little."""
    page = (root / "docs/guide/run-progress.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in table().splitlines() if not line.startswith("|-")]
    for name, *values in rows:
        shown = re.search(rf"^\| {re.escape(name)} \| (.*) \|$", page, re.MULTILINE)
        assert shown, f"{name}: run python -m tests.runs.run_shapes"
        if name != "graph":
            assert [float(each) for each in shown[1].split(" | ")] == pytest.approx([*map(float, values)], abs=0.5)
