"""The time left: honest at the start and the end, and nearer the truth than elapsed · rest / done."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.pipeline.eta import EtaEstimator
from tests.bench.eta_shapes import SHAPES, bimodal, compare, constant, noise, paused

SEEDS = range(500, 520)
SIZES = (12, 60, 240)

pytestmark = pytest.mark.row("HIVE-39")


def test_it_is_nearer_the_truth_than_the_plain_estimate() -> None:
    errors = {shape: compare(shape, SEEDS, SIZES) for shape in SHAPES}
    assert sum(ours for ours, _ in errors.values()) < 0.95 * sum(plain for _, plain in errors.values())
    for shape, (ours, plain) in errors.items():
        # where the pace changes by chance alone, the mean of all there was is the best guess
        steady = shape in {constant, noise, bimodal, paused}
        assert ours <= plain * (1.15 if steady else 1.0) + 1e-12, shape.__name__


def test_nothing_is_known_before_something_is_done() -> None:
    estimate = EtaEstimator()
    assert estimate.left(0.0) is None
    estimate.observe(10.0, 0.0)
    assert estimate.left(20.0) is None
    estimate.observe(20.0, 0.0)
    assert estimate.left(20.0) is None
    estimate.observe(20.0, 20.0)
    assert estimate.left(20.0) == pytest.approx(40.0)


def test_what_took_no_time_tells_nothing() -> None:
    estimate = EtaEstimator()
    estimate.observe(0.0, 0.0)
    estimate.observe(0.0, 50.0)
    assert estimate.left(0.0) is None
    estimate.observe(0.0, 100.0)
    assert estimate.left(0.0) == 0.0


def test_a_steady_pace_is_known_exactly_and_ends_at_0() -> None:
    estimate = EtaEstimator()
    estimate.observe(0.0, 0.0)
    for percent in range(1, 101):
        estimate.observe(percent * 2.0, percent)
        assert estimate.left(percent * 2.0) == pytest.approx(200.0 - percent * 2.0)
    assert estimate.left(1000.0) == 0.0


def test_it_counts_down_between_advances_and_grows_when_one_is_overdue() -> None:
    estimate = EtaEstimator()
    estimate.observe(0.0, 0.0)
    for n in range(1, 6):
        estimate.observe(n * 10.0, n * 10.0)
    left = [estimate.left(50.0 + waited) or 0.0 for waited in (0, 5, 10, 20, 40, 400)]
    assert left[:3] == pytest.approx([50.0, 45.0, 40.0])
    assert left[2] < left[3] < left[4] < left[5]


def test_a_pause_does_not_throw_it() -> None:
    estimate = EtaEstimator()
    estimate.observe(0.0, 0.0)
    for percent in range(1, 51):
        estimate.observe(float(percent), percent)
    estimate.observe(50.0 + 100.0, 51.0)
    assert 49.0 < (estimate.left(150.0) or 0.0) < 160.0  # not 49 times 100


def test_a_change_of_pace_is_followed() -> None:
    estimate = EtaEstimator()
    estimate.observe(0.0, 0.0)
    for percent in range(1, 51):
        estimate.observe(float(percent), percent)
    for percent in range(51, 66):
        estimate.observe(50.0 + 5.0 * (percent - 50), percent)
    assert 115.0 < (estimate.left(125.0) or 0.0) < 175.0  # that is right; the plain estimate is 67


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 100)), max_size=30), st.floats(0, 1e6))
def test_it_is_never_negative_and_0_only_makes_sense_at_the_end(steps: list[tuple[float, float]], later: float) -> None:
    estimate, at, reached = EtaEstimator(), 0.0, 0.0
    estimate.observe(0.0, 0.0)
    for passed, percent in steps:
        at, reached = at + passed, max(reached, percent)
        estimate.observe(at, percent)
        for moment in (at, at + later):
            left = estimate.left(moment)
            assert left is None or left >= 0.0
        assert (estimate.left(at) == 0.0) or reached < 100
    overdue = [estimate.left(at + 1e7 * n) for n in (1, 2, 3)]
    assert all(a is None or b is None or a <= b for a, b in pairwise(overdue))
