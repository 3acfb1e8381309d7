"""The rate limiter of executions, connections and callers."""

import math

import pytest

from lg_streaming.token_bucket import TokenBucket


def test_a_bucket_fills_at_its_rate() -> None:
    bucket = TokenBucket(2.0, 3, 0.0)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.seconds_until() == 0.5
    assert bucket.take(0.5)
    assert bucket.seconds_until() == 0.5
    assert not bucket.take(0.5)
    assert [bucket.take(60.5) for _ in range(4)] == [True, True, True, False]


def test_what_is_refused_costs_nothing() -> None:
    bucket = TokenBucket(1.0, 10, 0.0)
    assert not bucket.take(0.0, 11)
    assert bucket.take(0.0, 10)
    assert bucket.seconds_until(3) == 3.0


def test_without_a_rate_it_is_full_whenever_time_has_passed() -> None:
    bucket = TokenBucket(math.inf, 2, 0.0)
    assert [bucket.take(0.0) for _ in range(3)] == [True, True, False]
    assert [bucket.take(1e-9) for _ in range(3)] == [True, True, False]


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    bucket = TokenBucket(1.0, 2, 100.0)
    assert [bucket.take(50.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(51.0)
    assert not bucket.take(51.0)


def test_a_bucket_is_small() -> None:
    bucket = TokenBucket(1.0, 2, 0.0)
    with pytest.raises(AttributeError):
        bucket.__dict__  # noqa: B018
