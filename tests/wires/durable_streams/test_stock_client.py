"""The protocol's own client, version 0.2.7, reads executions."""

from collections.abc import Mapping
from typing import Any

import pytest

CHECKS = (
    *("catch-up", "live-sse", "live-long-poll", "live-true", "resume-sse", "resume-long-poll", "offsets-sort"),
    *("now", "now-empty", "sse-ends", "sse-breaks", "unknown", "bad-offset", "gone", "head", "etag"),
    *("sse-frames", "read-only", "second-run", "filter", "long-poll-waits"),
)


@pytest.mark.parametrize("check", CHECKS)
def test_the_stock_client(results: Mapping[str, Any], check: str) -> None:
    assert results[check] is None, results[check]


def test_no_check_is_left_out(results: Mapping[str, Any]) -> None:
    assert set(results) == set(CHECKS)
