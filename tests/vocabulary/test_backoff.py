"""Delays between retries."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.backoff import Backoff

SHARES = st.floats(min_value=0, max_value=1, exclude_max=True)


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(delay=1.0, factor=2.0, max_delay=30.0, jitter=0.0)
    assert [backoff.seconds(attempt, lambda: 0.9) for attempt in range(8)] == [1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize(
    ("jitter", "drawn", "pause"),
    [(0.0, 0.7, 4.0), (0.5, 0.0, 4.0), (0.5, 0.5, 3.0), (0.5, 1.0, 2.0), (1.0, 0.75, 1.0), (1.0, 1.0, 0.0)],
)
def test_jitter_takes_a_share_off(jitter: float, drawn: float, pause: float) -> None:
    assert Backoff(jitter=jitter).seconds(2, lambda: drawn) == pause


@given(attempt=st.integers(min_value=0, max_value=10**12), jitter=st.floats(0, 1), drawn=SHARES)
def test_a_pause_is_within_its_bounds_however_many_tries_failed(attempt: int, jitter: float, drawn: float) -> None:
    backoff = Backoff(jitter=jitter)
    undisturbed = min(2.0 ** min(attempt, 5), 30.0)
    assert undisturbed * (1 - jitter) <= backoff.seconds(attempt, lambda: drawn) <= undisturbed


def test_no_delay_never_waits() -> None:
    assert [Backoff(delay=0).seconds(attempt, lambda: 0.0) for attempt in (0, 5, 10**9)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": -1}, "delay"),
        ({"delay": float("inf")}, "delay"),
        ({"delay": float("nan")}, "delay"),
        ({"factor": 0.5}, "factor"),
        ({"factor": float("nan")}, "factor"),
        ({"max_delay": -1}, "max_delay"),
        ({"max_delay": float("inf")}, "max_delay"),
        ({"jitter": 1.5}, "jitter"),
        ({"jitter": -0.1}, "jitter"),
    ],
)
def test_values_that_cannot_be_used_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message} is "):
        Backoff(**options)
