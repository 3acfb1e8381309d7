"""The runner of benchmarks reads results and refuses half of one."""

import json

import pytest

from tests.bench.__main__ import parse

RESULT = {"name": "capture", "ratio": 0.8, "target": 1.0, "ok": True}


def test_a_result_is_one_line_of_json() -> None:
    assert parse(json.dumps(RESULT)) == RESULT
    assert parse("warming up") is None


@pytest.mark.parametrize("missing", sorted(RESULT))
def test_half_a_result_is_refused(missing: str) -> None:
    with pytest.raises(ValueError, match="a result needs"):
        parse(json.dumps({key: value for key, value in RESULT.items() if key != missing}))
