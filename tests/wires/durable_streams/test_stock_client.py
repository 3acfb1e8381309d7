"""The protocol's own client, version 0.2.7, reads executions."""

import pytest

from tests.support.npm import Checks

CHECKS = (
    *("catch-up", "live-sse", "live-long-poll", "live-true", "resume-sse", "resume-long-poll", "offsets-sort"),
    *("now", "now-empty", "sse-ends", "sse-breaks", "unknown", "bad-offset", "gone", "head", "etag"),
    *("sse-frames", "read-only", "second-run", "filter", "long-poll-waits", "the script ends"),
)


@pytest.mark.parametrize("check", CHECKS)
def test_the_stock_client(results: Checks, check: str) -> None:
    found = results[check]
    assert found.passed, found.detail


def test_no_check_is_left_out(results: Checks) -> None:
    assert set(results.found) == set(CHECKS)
