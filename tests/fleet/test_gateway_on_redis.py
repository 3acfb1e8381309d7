"""Tests of the gateway that were written for the log in memory hold on a log on Redis, unchanged."""
# ruff: noqa: F401
# pyright: reportUnusedImport=false

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Generator
from uuid import uuid4

import pytest

from tests.gateway.contract.conftest import readers
from tests.gateway.contract.test_access import test_a_fresh_token_goes_on_without_loss
from tests.gateway.contract.test_filters import filled, test_over_every_transport
from tests.gateway.contract.test_reading import (
    name,
    test_a_follower_reads_two_runs,
    test_a_late_reader_gets_the_whole_run,
    test_a_live_run_from_start_to_end,
    test_a_position_that_does_not_fit_is_a_gap,
    test_evicted_updates_are_a_gap_and_reading_goes_on_as_wished,
    test_from_any_position_exactly_what_follows,
    test_since_and_until_are_inclusive,
)
from tests.gateway.site import Site, site
from tests.gateway.test_slow_readers import (
    place,
    test_a_reader_that_stops_is_cut_off_and_the_others_are_not_disturbed,
)
from tests.support.redis_server import RedisServer

importlib.import_module("lg_streaming.log.redis.log")  # it reads files: before that is watched


@pytest.fixture(scope="module")
def prefix() -> str:
    return f"lg-{uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def shared_site(shared_redis: RedisServer, prefix: str) -> Generator[Site]:
    """One server for all tests that leave it unchanged; each uses its own executions."""
    redis = {"prefix": prefix}
    limits = {"messages_per_second": None, "connects_per_address": None}
    with site(log=log_url(shared_redis), redis=redis, limits=limits) as running:
        running.hub.publish("first", "note")  # the writer's thread and connections stay, and are of no test
        asyncio.run(running.hub.writer.flush())
        yield running


@pytest.fixture(autouse=True)
def log_on_redis(monkeypatch: pytest.MonkeyPatch, shared_redis: RedisServer, redis_prefix: str) -> None:
    """Settings without a log take this one."""
    monkeypatch.setenv("LG_STREAMING_LOG", log_url(shared_redis))
    monkeypatch.setenv("LG_STREAMING_REDIS__PREFIX", redis_prefix)


def log_url(redis: RedisServer) -> str:
    """URL of its Unix socket: connections of the shared server's log, which stay, are no TCP sockets of a test."""
    return f"unix://{redis.socket}"
