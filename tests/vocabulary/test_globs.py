"""Globs over execution ids."""

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lg_streaming.globs import Globs, matches


def slow(pattern: str, text: str) -> bool:
    """The same by a regular expression, whose time is not bounded."""
    wild = {"*": "[^/]*", "**": ".*"}
    parts = re.split(r"(\*+)", pattern)
    made = "".join(wild[part[:2]] if part.startswith("*") else re.escape(part) for part in parts)
    return re.fullmatch(made, text, re.DOTALL) is not None


@pytest.mark.parametrize(
    ("pattern", "text", "verdict"),
    [
        ("acme/*", "acme/run-1", True),
        ("acme/*", "acme/a/b", False),
        ("acme/**", "acme/a/b", True),
        ("**", "anything/at/all", True),
        ("*", "one", True),
        ("*", "one/two", False),
        ("room:*", "room:lobby", True),
        ("a.c", "abc", False),
        ("**a*b", "a/ab", True),
        ("a", "a", True),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_globs(pattern: str, text: str, verdict: bool) -> None:
    assert matches(pattern, text) is verdict


@given(st.text("ab/*", max_size=12), st.text("ab/", max_size=12))
def test_they_agree_with_regular_expressions(pattern: str, text: str) -> None:
    assert matches(pattern, text) == slow(pattern, text)


def test_a_hostile_pattern_takes_no_longer_than_another() -> None:
    """By backtracking this would take longer than the universe has been there."""
    assert not matches("*a" * 128 + "b", "a" * 256)
    assert not matches("**a" * 80 + "b", "a" * 256)


@given(st.lists(st.text("a*/", max_size=8), max_size=6), st.text("a/", max_size=8))
def test_several_globs_fit_where_one_of_them_does(patterns: list[str], text: str) -> None:
    assert Globs(patterns).matches(text) is any(matches(pattern, text) for pattern in patterns)


def test_many_globs_take_hardly_longer_than_one() -> None:
    patterns = [f"*a*b*{number}" for number in range(128)]
    globs, ids = Globs(patterns), [f"{'ab' * 100}/{number}" for number in range(20)]
    began = time.process_time()
    assert not any(globs.matches(each) for each in ids)
    together = time.process_time() - began
    assert not any(matches(pattern, each) for each in ids for pattern in patterns)
    one_by_one = time.process_time() - began - together
    assert together < one_by_one / 4  # it is about a fiftieth
